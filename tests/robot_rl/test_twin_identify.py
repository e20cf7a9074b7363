"""`robot-rl twin identify`: limits come from the robot's guard; a log becomes posterior and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from robot_rl.apps import cousins_work, twin_identify
from robot_rl.apps.cli import main
from robot_rl.apps.config import compose_mapping
from robot_rl.apps.cousins_config import CousinsConfig
from robot_rl.apps.cousins_work import CousinsWork
from robot_rl.apps.twin_identify import guard_limits
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError, DataError
from robot_rl.typed import to_dataclass, to_plain
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior
from sim.cousins.scan import Scan, ScanView, write_scan
from sim.cousins.scene import View
from sim.sysid.excitation import ExcitationConfig, fourier, scaled
from sim.sysid.log import MOTION_ENV, MotionLog, Run, record, write_log
from sim.sysid.lone_arm import LoneArm
from sim.sysid.motion import MotionLimits

VIEW = View((0.4, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0), (8.0, 8.0, 3.5, 3.5), (8, 8))


def test_limits_are_the_guards_and_never_fast() -> None:
    slow = guard_limits(compose_mapping("robot/fr3")["robot"])
    assert (slow.low_m, slow.high_m) == ((0.25, -0.40, 0.01), (0.75, 0.40, 0.70))
    assert guard_limits(compose_mapping("robot/sim_panda")["robot"]).speed_m_s == 0.25  # its guard allows 0.6


def test_bad_words_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["twin", "identify", str(tmp_path), "--robot", "r2d2"]) == 2
    assert "sim_panda" in capsys.readouterr().err
    assert main(["twin", "identify", str(tmp_path), "--log", str(tmp_path / "none.npz")]) == 2
    assert "is no log of motion" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["twin", "identify", str(tmp_path / "file")]) == 2  # before anything moves
    assert "cannot write to the folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_log_becomes_posterior_and_report(tmp_path: Path) -> None:
    offsets = fourier(ExcitationConfig(period_s=3.0, harmonics=3), np.random.default_rng(0), MOTION_ENV.rate_hz)
    offsets = scaled(offsets, MotionLimits(), MOTION_ENV.rate_hz, 0.8)
    env = RobotEnv(LoneArm("panda", Physics(delay_s=0.055)), MOTION_ENV)
    write_log(tmp_path / "log.npz", MotionLog("panda", MOTION_ENV.rate_hz, (record(env, offsets),)))
    assert main(["twin", "identify", str(tmp_path / "out"), "--log", str(tmp_path / "log.npz")]) == 0
    posterior = to_dataclass(PhysicsPosterior, json.loads((tmp_path / "out" / "posterior.json").read_text()))
    assert posterior.nominal().delay_s == pytest.approx(0.055, abs=0.003)
    assert posterior.sample(np.random.default_rng(0)) != posterior.nominal()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "squared error is explained" in page and "data:image/png" in page and "friction_nm[6]" in page


def test_a_scan_with_a_log_of_motion_is_identified_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted: list[float] = []

    def identify(log: MotionLog, out: Path, console: object, jobs: int) -> None:  # the real one: the test above
        fitted.append(float(log.runs[0].targets_base[-1, 0]))
        posterior = PhysicsPosterior(Physics(delay_s=0.01 * len(fitted)), Physics())
        (out / "posterior.json").write_text(json.dumps(to_plain(posterior)))

    monkeypatch.setattr(cousins_work, "identify", identify)
    look = ScanView(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.float32), VIEW)
    work = CousinsWork(tmp_path / "work", CousinsConfig(), Console())

    def scan(reach_m: float, robot: str = "panda") -> None:
        offsets = np.tile([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], (20, 1))
        offsets[-1, 0] = reach_m
        log = MotionLog(robot, MOTION_ENV.rate_hz, (record(RobotEnv(LoneArm(robot, Physics()), MOTION_ENV), offsets),))
        write_log(tmp_path / "motion.npz", log)
        write_scan(tmp_path / "scan", Scan((look,), excitation=tmp_path / "motion.npz"))
        work.scan(tmp_path / "scan")

    write_scan(tmp_path / "scan", Scan((look,)))
    work.scan(tmp_path / "scan")
    assert work.recipe().physics == PhysicsPrior() and "stated priors" in capsys.readouterr().out
    for reach_m, delay_s in ((0.01, 0.01), (0.01, 0.01), (0.02, 0.02)):  # a new log is fitted, an old one is not again
        scan(reach_m)
        physics = work.recipe().physics
        assert isinstance(physics, PhysicsPosterior) and physics.mean.delay_s == pytest.approx(delay_s)
    assert np.diff(fitted) == pytest.approx([0.01])
    scan(0.01, "ur5e")
    with pytest.raises(ConfigError, match=r"recipe\.robot=ur5e"):
        work.recipe()
    (tmp_path / "work" / ".posterior.json.made_from.txt").unlink()  # as if identified by hand: that stands
    (tmp_path / "work" / "posterior.json").write_text(json.dumps(to_plain(PhysicsPosterior(Physics(), Physics()))))
    assert work.recipe().physics == PhysicsPosterior(Physics(), Physics())
    (tmp_path / "work" / "posterior.json").write_text("{")
    with pytest.raises(DataError, match="is no posterior"):
        work.recipe()


def test_the_person_is_told_of_both_resets_that_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []

    def note(env: object, offsets: np.ndarray, *_: object) -> Run:
        moved.append(told[-1])
        return Run(offsets, offsets, offsets, offsets[:, 0])

    def choose(*_: object) -> list[np.ndarray]:
        moved.append(told[-1])
        return [np.zeros((40, 7))]

    told: list[str] = []
    monkeypatch.setattr(twin_identify, "plan", choose)
    monkeypatch.setattr(twin_identify, "record", note)
    env = RobotEnv(LoneArm("panda", Physics()), MOTION_ENV)
    twin_identify.excite(env, "panda", MotionLimits(), 0, told.append)
    assert ["world/reset_done" in one for one in moved] == [True, True] and "moving for 2 s" in told[1]
