"""`robot-rl twin identify`: limits come from the robot's guard; a log becomes posterior and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.cli import main
from robot_rl.apps.config import compose_mapping
from robot_rl.apps.twin_identify import guard_limits
from robot_rl.env import RobotEnv
from robot_rl.typed import to_dataclass
from sim.cousins.physics import Physics, PhysicsPosterior
from sim.sysid.excitation import ExcitationConfig, fourier, scaled
from sim.sysid.log import MOTION_ENV, MotionLog, record, write_log
from sim.sysid.lone_arm import LoneArm
from sim.sysid.motion import MotionLimits


def test_limits_are_the_guards_and_never_fast() -> None:
    slow = guard_limits(compose_mapping("robot/fr3")["robot"])
    assert (slow.low_m, slow.high_m) == ((0.25, -0.40, 0.01), (0.75, 0.40, 0.70))
    assert guard_limits(compose_mapping("robot/sim_panda")["robot"]).speed_m_s == 0.25  # its guard allows 0.6


def test_bad_words_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["twin", "identify", str(tmp_path), "--robot", "r2d2"]) == 2
    assert "sim_panda" in capsys.readouterr().err
    assert main(["twin", "identify", str(tmp_path), "--log", str(tmp_path / "none.npz")]) == 2
    assert "is no log of motion" in capsys.readouterr().err


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
