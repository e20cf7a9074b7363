"""One graph per ROS domain and namespace on this machine, and nothing left over from a killed one.

A file per (domain, namespace) lists the supervisor and its nodes. A lock on it, which the kernel drops with
the process, tells a graph that runs from one that was killed; the nodes listed by a killed one (the guard
lives on by design) are ended by the next `robot-rl up`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from robot_rl.errors import HardwareError

END_GRACE_S = 3.0


@dataclass
class NamespaceLock:
    """Hold with `acquire`, list processes with `record`, give back with `release`."""

    domain_id: str
    namespace: str
    graph: str = ""
    _file: TextIO | None = None
    _processes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def acquire(self, say: Callable[[str], None]) -> None:
        """Take the lock and end what a killed supervisor left. Raises `HardwareError` when it is held."""
        path = self._path()
        path.touch()
        file = path.open("r+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read(file)
            file.close()
            raise HardwareError(
                f"graph {holder.get('graph', '?')!r} (pid {holder.get('supervisor', '?')}) already runs in "
                f"namespace {self.namespace!r} of ROS domain {self.domain_id}; stop it with Ctrl-C there, or "
                "give another namespace=... or ROS_DOMAIN_ID"
            ) from error
        self._file = file
        for name, (pid, start) in _read(file).get("nodes", {}).items():
            if start_ticks(pid) == start:
                say(f"ending {name} (pid {pid}), left by a graph that was killed")
                end_group(pid, start)
        self._write()

    def record(self, name: str, pid: int) -> None:
        """Remember a started process; its start time tells it from a later one with the same number."""
        self._processes[name] = (pid, start_ticks(pid) or 0)
        self._write()

    def release(self) -> None:
        if self._file is not None:
            self._processes.clear()
            self._write()
            self._file.close()
            self._file = None

    def _path(self) -> Path:
        folder = Path(tempfile.gettempdir()) / f"robot-rl-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise HardwareError(f"{folder} belongs to another user; remove it or set TMPDIR")
        return folder / f"domain{self.domain_id}{self.namespace.replace('/', '-')}.json"

    def _write(self) -> None:
        if self._file is None:
            return
        content = {"graph": self.graph, "supervisor": os.getpid(), "nodes": self._processes}
        self._file.seek(0)
        # Over what is there, and cut only then: on a full disk an emptied file could not be filled again.
        self._file.write(json.dumps(content))
        self._file.truncate()


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such (living) process."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(rest[18])  # field 22 of proc(5), counted after the name


def end_group(pid: int, start: int) -> None:
    """Interrupt, terminate, kill a process group until its leader is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + END_GRACE_S
        while start_ticks(pid) == start and time.monotonic() < deadline:
            time.sleep(0.05)
        if start_ticks(pid) != start:
            return


def _read(file: TextIO) -> dict:
    file.seek(0)
    try:
        content = json.load(file)
    except ValueError:  # empty, or cut short by a kill in the middle of a write
        return {}
    return content if isinstance(content, dict) else {}
