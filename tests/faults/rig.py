"""The node graph as child processes that can be killed and started again one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class NodeSpec:
    """One process: `python -m hardware.nodes.<module>` with ROS parameters."""

    module: str
    params: Mapping[str, str]
    ready: str = "ready"
    """What its output says when it is up."""


class Rig:
    """Starts nodes in order, kills them without warning, ends them all."""

    def __init__(self, nodes: Mapping[str, NodeSpec], log_dir: Path, domain_id: int) -> None:
        self.nodes = nodes
        self.log_dir = log_dir
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._env = os.environ | {
            "ROS_DOMAIN_ID": str(domain_id),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        }
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, name: str) -> None:
        spec = self.nodes[name]
        command = [sys.executable, "-P", "-m", f"hardware.nodes.{spec.module}"]
        command += ["--ros-args", "-r", f"__node:={name}"]
        for key, value in spec.params.items():
            command += ["-p", f"{key}:={value}"]
        with self.log_path(name).open("ab") as stream:
            self._processes[name] = subprocess.Popen(command, env=self._env, stdout=stream, stderr=stream)

    def start_all(self, timeout_s: float) -> None:
        """All nodes at once; returns when each says that it is ready."""
        for name in self.nodes:
            self.start(name)
        for name in self.nodes:
            self.wait_until_ready(name, timeout_s)

    def wait_until_ready(self, name: str, timeout_s: float, times: int = 1) -> None:
        """Block until the node's log says ready for the `times`-th time."""
        deadline_s = time.monotonic() + timeout_s
        while self.log(name).count(self.nodes[name].ready) < times:
            assert self.is_running(name), f"{name} ended:\n{self.log(name)[-3000:]}"
            assert time.monotonic() < deadline_s, f"{name} is not ready:\n{self.log(name)[-3000:]}"
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """`kill -9`."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def interrupt(self, name: str, timeout_s: float) -> int:
        """Ctrl-C; the exit status."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def wait(self, name: str, timeout_s: float) -> int:
        """Until the node ends by itself; the exit status."""
        status = self._processes[name].wait(timeout_s)
        del self._processes[name]
        return status

    def is_running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def log_path(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def log(self, name: str) -> str:
        path = self.log_path(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self, order: Sequence[str] = ()) -> None:
        """End what still runs, gently first."""
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        deadline_s = time.monotonic() + 15.0
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
