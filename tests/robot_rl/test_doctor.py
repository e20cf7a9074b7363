"""`robot-rl doctor`: every line that is not well says how to mend it, and it looks for real."""

from __future__ import annotations

import argparse
import json
import os
import socket
from pathlib import Path

import pytest

from robot_rl.apps import checks, doctor, probes
from robot_rl.apps.checks import Result, Status
from robot_rl.apps.probes import ProbeError, run_probe


def test_healthy_machine_passes_and_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.run(argparse.Namespace(json=True))
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["healthy"] else 1)
    rows = {row["name"]: row for row in report["checks"]}
    assert rows["python"]["status"] == "ok"
    assert {"packages", "torch", "GL egl", "GL osmesa", "ROS 2", "discovery", "disk", "cpu"} <= set(rows)
    assert all(row["mend"] for row in rows.values() if row["status"] != "ok")


def test_failure_gives_exit_code_1_and_shows_how_to_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = Result("thing", Status.FAIL, "broken [x]", "mend it")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: bad, lambda: iter([Result("b", Status.WARN, "w", "m")])))
    assert doctor.run(argparse.Namespace(json=False)) == 1
    shown = capsys.readouterr().out
    assert "broken [x]" in shown and "mend it" in shown and "not ready: thing" in shown


def test_warnings_alone_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: Result("b", Status.WARN, "w", "m"),))
    assert doctor.run(argparse.Namespace(json=True)) == 0


def test_check_that_cannot_look_becomes_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_proc() -> Result:
        raise PermissionError("no /proc")

    monkeypatch.setattr(doctor, "CHECKS", (check_proc,))
    (result,) = doctor.examine()
    assert result.name == "proc" and result.status is Status.WARN and "no /proc" in result.found


def test_missing_and_differing_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# comment\nrich==0.0.1\nnot-installed==1.0\n")
    monkeypatch.setattr(checks, "CONSTRAINTS", pins)
    monkeypatch.setattr(checks, "_requirements", lambda: ["rich", 'viser; extra == "gui"'])
    result = checks.check_packages()
    assert result.status is Status.WARN and "tested: 0.0.1" in result.found and "not-installed" not in result.found
    monkeypatch.setattr(checks, "_requirements", lambda: ["robot-rl-no-such-package>=2"])
    result = checks.check_packages()
    assert result.status is Status.FAIL and "robot-rl-no-such-package" in result.found


def test_rendering_needs_one_backend_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(code: str, env: dict[str, str]) -> dict[str, float]:
        if env["MUJOCO_GL"] in broken:
            raise ProbeError("no library")
        return {"rate_hz": 12.0}

    monkeypatch.setattr(probes, "run_probe", probe)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    broken = {"egl"}
    assert [result.status for result in checks.check_rendering()] == [Status.WARN, Status.OK]
    broken = {"egl", "osmesa"}
    results = list(checks.check_rendering())
    assert [result.status for result in results] == [Status.FAIL, Status.FAIL]
    assert "libegl1" in results[0].mend and "libosmesa6" in results[1].mend


@pytest.mark.parametrize("asked", ["egl", "bogus"])
def test_a_backend_that_is_asked_for_has_to_work(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    def probe(code: str, env: dict[str, str]) -> dict[str, float]:
        if env["MUJOCO_GL"] == asked:
            raise ProbeError("invalid value")
        return {"rate_hz": 12.0}

    monkeypatch.setattr(probes, "run_probe", probe)
    monkeypatch.setenv("MUJOCO_GL", asked)
    (failed,) = [result for result in checks.check_rendering() if result.status is not Status.OK]
    assert failed.status is Status.FAIL and failed.name == f"GL {asked}"
    assert failed.mend.startswith("unset MUJOCO_GL")


def test_a_middleware_that_is_asked_for_and_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(*_: object) -> dict[str, float]:
        raise ProbeError("Expected RMW implementation identifier")

    monkeypatch.setattr(probes, "run_probe", probe)
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_nothing")
    assert checks.check_ros().mend.startswith("unset RMW_IMPLEMENTATION (it asks for rmw_nothing)")


def test_busy_port_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(checks, "GUI_PORT", server.getsockname()[1])
        assert checks.check_port().status is Status.WARN
    assert checks.check_port().status is Status.OK


@pytest.mark.parametrize(
    ("domain", "status"), [("0", Status.OK), ("101", Status.OK), ("102", Status.WARN), ("x", Status.WARN)]
)
def test_domain_ids_that_clash_with_ephemeral_ports(
    monkeypatch: pytest.MonkeyPatch, domain: str, status: Status
) -> None:
    monkeypatch.delenv("ROS_LOCALHOST_ONLY", raising=False)
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    assert checks.check_discovery().status is status


def test_slow_usb_camera_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"name": "D435", "serial": "123", "usb": "2.1"}
    monkeypatch.setattr(probes, "run_probe", lambda code: {"devices": [device]})
    camera = next(result for result in checks.check_cameras() if result.name == "camera")
    assert camera.status is Status.WARN and "123" in camera.found and "USB 2" in camera.mend


def test_a_folder_that_cannot_be_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc/self")  # not even by root
    disk = checks.check_disk()
    assert disk.status is Status.FAIL and "cannot be written" in disk.found and "run_dir=" in disk.mend


def test_a_domain_that_is_no_plain_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("²", "a", "150"):
        monkeypatch.setenv("ROS_DOMAIN_ID", text)
        assert checks.check_discovery().status is Status.WARN


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise ValueError('first line\\n  second line')", "ValueError: first line"),
        ("import os; os.abort()", "ended with code -6"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_probe_reports_what_went_wrong(code: str, text: str) -> None:
    with pytest.raises(ProbeError, match=text):
        run_probe(code, timeout_s=1.0 if "sleep" in code else 30.0)


def test_render_probe_looks_at_the_picture() -> None:
    """A probe that renders nothing red must fail, so that a black picture is never called fine."""
    black = probes.RENDER.replace('rgba="1 0 0 1"', 'rgba="0 0 0 1"')
    assert black != probes.RENDER
    backend = next((b for b in ("egl", "osmesa") if _renders(b)), None)
    if backend is None:
        pytest.skip("no GL on this machine")
    with pytest.raises(ProbeError, match="not red"):
        run_probe(black, {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend})


def _renders(backend: str) -> bool:
    try:
        run_probe(probes.RENDER, {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend})
    except ProbeError:
        return False
    return True


def test_probe_ignores_modules_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert run_probe("import json, os; print(json.dumps({'cwd': os.getcwd()}))") == {"cwd": os.getcwd()}
