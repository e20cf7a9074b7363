"""The supervisor with real processes: order, restarts, signals, and what a kill -9 leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from robot_rl.apps.cli import main

WAIT_S = 90.0

# A node: logs `<name> start`, then lives until interrupted and logs `<name> end`; beats 20 times a second.
NODE = """
import os, signal, sys, time
name, folder, mode = sys.argv[1:4]
def note(text):
    with open(f"{folder}/events", "a") as events:
        events.write(f"{name} {text}\\n")
def end(number, frame):
    if mode == "stubborn":
        return note(f"ignores {number}")
    note("end")
    sys.exit(0)
signal.signal(signal.SIGINT, end)
if mode == "slow":
    time.sleep(1.0)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, end)
if mode == "parent":
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            time.sleep(1)
    note(f"child {child}")
note(f"start {os.getpid()}")
print(name, "is ready", flush=True)
while True:
    with open(f"{folder}/beat_{name}", "w") as beat:
        beat.write(str(time.time()))
    time.sleep(0.05)
"""


def node(name: str, folder: Path, mode: str = "plain", **rest: Any) -> dict[str, Any]:
    command = [sys.executable, "-S", "-E", "-c", NODE, name, str(folder), mode]
    return {"name": name, "command": command, "ready": {"line": "is ready"}, **rest}


class Up:
    """Starts `robot-rl up` processes and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, nodes: list[dict[str, Any]], *words: str) -> subprocess.Popen[str]:
        graph = self.folder / "lab.yaml"
        graph.write_text(yaml.safe_dump({"nodes": nodes, "args": {"namespace": ""}}))
        command = [sys.executable, "-m", "robot_rl.apps.cli", "up", str(graph), *words]
        command += ["--run-dir", str(self.folder / "run")]
        # TMPDIR keeps the lock apart from a graph that really runs on this machine.
        env = {**os.environ, "TMPDIR": str(self.folder), "ROS_DOMAIN_ID": "44", "COLUMNS": "200"}
        with (self.folder / f"console_{len(self.started)}").open("w") as console:
            process = subprocess.Popen(
                command, env=env, stdout=console, stderr=subprocess.STDOUT, start_new_session=True, text=True
            )
        self.started.append(process)
        return process

    def events(self) -> list[str]:
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    def order(self) -> list[str]:
        """`name start` and `name end` lines without the process numbers."""
        return [" ".join(event.split()[:2]) for event in self.events()]

    def pid(self, name: str) -> int:
        """Newest process of a node."""
        return [int(event.split()[2]) for event in self.events() if event.startswith(f"{name} start")][-1]

    def console(self, index: int = 0) -> str:
        return (self.folder / f"console_{index}").read_text()

    def clean(self) -> None:
        pids = [int(event.split()[2]) for event in self.events() if event.split()[1] in ("start", "child")]
        for process in self.started:
            process.kill()
            process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    runner = Up(tmp_path)
    yield runner
    runner.clean()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def finish(process: subprocess.Popen[str]) -> int:
    return process.wait(timeout=WAIT_S)


def test_starts_when_ready_and_stops_in_reverse_order(up: Up, tmp_path: Path) -> None:
    nodes = [
        node("actor", tmp_path, depends_on=["learner", "guard"]),
        node("guard", tmp_path, "slow"),
        node("learner", tmp_path, depends_on=["guard"]),
    ]
    process = up(nodes)
    until(lambda: "actor start" in up.order(), "all run")
    process.send_signal(signal.SIGINT)
    assert finish(process) == 0
    names = ["guard", "learner", "actor"]
    assert up.order() == [f"{n} start" for n in names] + [f"{n} end" for n in reversed(names)]
    assert not any(alive(up.pid(name)) for name in names)
    assert "guard is ready" in (tmp_path / "run" / "logs" / "guard.log").read_text()
    assert "guard is ready" in up.console() and "exit 0" in up.console()


def test_graph_ends_with_its_required_node(up: Up, tmp_path: Path) -> None:
    job = {"name": "job", "command": ["true"], "required": True, "depends_on": ["a"]}
    assert finish(up([node("a", tmp_path), job])) == 0
    assert not alive(up.pid("a"))


def test_failed_required_node_fails_the_graph(up: Up, tmp_path: Path) -> None:
    job = {"name": "job", "command": ["false"], "required": True, "restart": "never"}
    assert finish(up([node("a", tmp_path), job])) == 1
    assert "job failed (exit 1)" in up.console()


def test_killed_node_is_started_again(up: Up, tmp_path: Path) -> None:
    process = up([node("guard", tmp_path), node("a", tmp_path)])
    for count in (1, 2):
        until(lambda count=count: up.order().count("a start") == count, "it runs")
        os.kill(up.pid("a"), signal.SIGKILL)
    until(lambda: up.order().count("a start") == 3, "it runs again")
    process.send_signal(signal.SIGTERM)
    assert finish(process) == 0
    assert up.order().count("guard start") == 1
    assert "SIGKILL" in up.console()


def test_a_disk_without_room_for_logs_does_not_end_the_graph(up: Up, tmp_path: Path) -> None:
    logs, limit = tmp_path / "run" / "logs", 100_000
    logs.mkdir(parents=True)
    nodes = []
    for name in ("guard", "a"):
        (logs / f"{name}.log").write_bytes(bytes(limit))
        script = f"echo {name} start $$ >> {tmp_path}/events; exec sleep 60"
        nodes.append({"name": name, "command": ["sh", "-c", script]})
    process = up(nodes)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    for count in (1, 2):
        until(lambda count=count: up.order().count("a start") == count or process.poll() is not None, "it runs")
        os.kill(up.pid("a"), signal.SIGKILL)
    until(lambda: up.order().count("a start") == 3 or process.poll() is not None, "it runs again")
    assert up.order().count("guard start") == 1 and alive(up.pid("guard"))
    assert "cannot write" in up.console() and "File too large" in up.console()
    process.send_signal(signal.SIGTERM)
    assert finish(process) == 0


def test_node_that_always_fails_is_given_up_and_the_rest_goes_on(up: Up, tmp_path: Path) -> None:
    bad = {"name": "bad", "command": ["sh", "-c", f"echo start >> {tmp_path}/bad; exit 3"]}
    process = up([node("a", tmp_path), bad])
    until(lambda: (tmp_path / "bad").exists(), "it started once")
    until(lambda: (tmp_path / "bad").read_text().count("start") == 5, "it was tried five times")
    time.sleep(0.3)
    assert process.poll() is None and alive(up.pid("a"))
    process.send_signal(signal.SIGINT)
    assert finish(process) == 0
    assert "failed" in up.console() and (tmp_path / "bad").read_text().count("start") == 5


@pytest.mark.parametrize(("code", "restart"), [(3, "never"), (2, "on-failure")])
def test_no_restart_where_none_is_asked_for_or_none_can_help(up: Up, tmp_path: Path, code: int, restart: str) -> None:
    script = f"echo start >> {tmp_path}/bad; exit {code}"
    bad = {"name": "bad", "command": ["sh", "-c", script], "restart": restart}
    assert finish(up([bad])) == 0
    assert (tmp_path / "bad").read_text().count("start") == 1


def test_not_ready_in_time_stops_the_graph(up: Up, tmp_path: Path) -> None:
    slow = node("slow", tmp_path, ready={"line": "never printed", "timeout_s": 1.0})
    assert finish(up([slow, node("later", tmp_path, depends_on=["slow"])])) == 1
    assert "slow was not ready within 1 s" in up.console()
    assert up.order() == ["slow start", "slow end"]


def test_program_that_does_not_exist_is_named(up: Up, tmp_path: Path) -> None:
    process = up([node("a", tmp_path), {"name": "b", "command": ["no-such-program"], "depends_on": ["a"]}])
    assert finish(process) == 2
    assert "'b' cannot start" in up.console() and "no-such-program" in up.console()
    assert not alive(up.pid("a"))


def test_a_folder_that_cannot_be_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "graph=demo", "run_dir=/proc/nowhere"]) == 2
    assert "cannot write to the folder /proc/nowhere/logs" in capsys.readouterr().err


def test_second_and_third_interrupt_end_a_stubborn_node(up: Up, tmp_path: Path) -> None:
    process = up([node("mule", tmp_path, "stubborn", grace_s=60.0)])
    until(lambda: "mule start" in up.order(), "it runs")
    process.send_signal(signal.SIGINT)
    until(lambda: f"mule ignores {int(signal.SIGINT)}" in up.events(), "it ignored the interrupt")
    process.send_signal(signal.SIGINT)
    until(lambda: f"mule ignores {int(signal.SIGTERM)}" in up.events(), "it ignored the termination")
    process.send_signal(signal.SIGINT)
    assert finish(process) == 0
    assert not alive(up.pid("mule")) and "SIGKILL" in up.console()


def test_what_a_node_started_ends_with_it(up: Up, tmp_path: Path) -> None:
    process = up([node("a", tmp_path, "parent")])
    until(lambda: "a start" in up.order(), "it runs")
    grandchild = next(int(event.split()[2]) for event in up.events() if event.startswith("a child"))
    assert alive(grandchild)
    process.send_signal(signal.SIGINT)
    assert finish(process) == 0
    until(lambda: not alive(grandchild), "the grandchild is gone")


def test_killed_supervisor_leaves_the_guard_holding_until_the_next_up(up: Up, tmp_path: Path) -> None:
    nodes = [node("guard", tmp_path, outlives=True), node("a", tmp_path, depends_on=["guard"])]
    first = up(nodes)
    until(lambda: "a start" in up.order(), "all run")
    guard, other = up.pid("guard"), up.pid("a")
    first.kill()
    first.wait()
    until(lambda: not alive(other), "the ordinary node died with its supervisor")
    beat = (tmp_path / "beat_guard").stat().st_mtime_ns
    until(lambda: (tmp_path / "beat_guard").stat().st_mtime_ns > beat, "the guard still works")
    assert alive(guard)

    second = up(nodes)
    until(lambda: up.order().count("a start") == 2, "the second graph runs")
    assert not alive(guard), "two guards on one arm"
    assert up.pid("guard") != guard
    assert "left by a graph that was killed" in up.console(1)
    second.send_signal(signal.SIGINT)
    assert finish(second) == 0


def test_second_graph_is_refused_in_the_same_namespace_only(up: Up, tmp_path: Path) -> None:
    first = up([node("a", tmp_path)])
    until(lambda: "a start" in up.order(), "it runs")
    assert finish(up([node("b", tmp_path)])) == 2
    assert f"pid {first.pid}" in up.console(1) and "namespace=" in up.console(1)
    other = up([node("c", tmp_path)], "namespace=left")
    until(lambda: "c start" in up.order(), "another namespace runs")
    assert "b start" not in up.order()
    for process in (first, other):
        process.send_signal(signal.SIGINT)
        assert finish(process) == 0
    lock = json.loads((tmp_path / f"robot-rl-{os.getuid()}" / "domain44-.json").read_text())
    assert lock["nodes"] == {}


def test_dry_run_starts_nothing(up: Up, tmp_path: Path) -> None:
    assert finish(up([node("a", tmp_path)], "--dry-run")) == 0
    assert "a: " in up.console() and up.events() == []
