"""Keeps the processes of a graph running, and ends them in order.

Each node writes straight into its log file, which is then followed here. So no node can block on a slow
console, and the guard can go on writing when this process is killed. One thread does everything: the signal
that ends a node when its parent dies (`PR_SET_PDEATHSIG`) follows the *thread* that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from robot_rl.apps.config import make_folder
from robot_rl.apps.graph import Graph
from robot_rl.apps.graph_node import ProcessSpec
from robot_rl.apps.namespace_lock import NamespaceLock
from robot_rl.errors import ConfigError

POLL_S = 0.05
TERMINATE_GRACE_S = 3.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
STABLE_S = 20.0
"""A node that ran this long starts again with the shortest back-off."""
QUICK_S = 5.0
QUICK_FAILURES_MAX = 5
"""A node that ends by itself with an error within `QUICK_S` this often in a row is given up."""
EXIT_CONFIGURATION = 2
"""What nodes and commands end with when their configuration is wrong: trying again cannot help."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h

_prctl = getattr(ctypes.CDLL(None), "prctl", None)


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    BACKOFF = "restarting"
    DONE = "ended"
    FAILED = "failed"


@dataclass
class Child:
    """One node and its process."""

    spec: ProcessSpec
    log: Path
    state: State = State.WAITING
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    started_s: float = 0.0
    retry_s: float = 0.0
    backoff_s: float = BACKOFF_FIRST_S
    quick_failures: int = 0
    restarts: int = 0
    exit_code: int | None = None
    reader: BinaryIO | None = None
    partial: bytes = b""

    @property
    def name(self) -> str:
        return self.spec.node.name

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send to the node and to whatever it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def follow(self) -> None:
        """Read the log from its present end on."""
        if self.reader is None:
            self.reader = self.log.open("rb")
        self.reader.seek(0, os.SEEK_END)
        self.partial = b""

    def lines(self) -> Iterator[str]:
        """Complete lines written since the last call."""
        if self.reader is None:
            return
        *complete, self.partial = (self.partial + self.reader.read()).split(b"\n")
        for line in complete:
            yield line.decode("utf-8", errors="replace")


@dataclass
class Supervisor:
    """Runs `graph` until a required node ends, a signal comes, or nothing is left."""

    graph: Graph
    log_dir: Path
    lock: NamespaceLock
    say: Callable[[str, str], None]
    """Prints a line, given the node's name (or "" for the supervisor) and the text."""
    children: list[Child] = field(default_factory=list)
    _signals: int = 0
    _failure: str = ""

    def run(self) -> int:
        """Returns 0 when the graph ended as asked, 1 when a node's failure ended it."""
        make_folder(self.log_dir)
        self.children = [Child(spec, self.log_dir / f"{spec.node.name}.log") for spec in self.graph.processes]
        stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = {number: signal.signal(number, self._on_signal) for number in stops}
        try:
            while not self._finished():
                self._step()
                time.sleep(POLL_S)
        finally:
            self._stop_all()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return 1 if self._failure else 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _finished(self) -> bool:
        if self._signals or self._failure:
            return True
        if any(child.spec.node.required and child.state is State.DONE for child in self.children):
            return True
        return all(child.state in (State.DONE, State.FAILED) for child in self.children)

    def _step(self) -> None:
        ready = {child.name for child in self.children if child.ready}
        for child in self.children:
            if child.state is State.WAITING and ready.issuperset(child.spec.node.depends_on):
                self._start(child)
            elif child.state is State.BACKOFF and time.monotonic() >= child.retry_s:
                child.restarts += 1
                self._start(child)
            elif child.state is State.RUNNING:
                self._watch(child)

    def _start(self, child: Child) -> None:
        node = child.spec.node
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with child.log.open("ab", buffering=0) as output:
            with self._going_on(child.log):
                output.write(f"--- {stamp} start: {' '.join(child.spec.command)}\n".encode())
            child.follow()
            try:
                child.process = subprocess.Popen(
                    child.spec.command,
                    env=dict(child.spec.env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_in_child(os.getpid(), node.outlives, node.nice),
                )
            except OSError as error:
                raise ConfigError(f"node {node.name!r} cannot start: {error}") from error
        child.state, child.started_s = State.RUNNING, time.monotonic()
        with self._going_on("the list of nodes"):
            self.lock.record(node.name, child.process.pid)
        self.say("", f"{node.name} started (pid {child.process.pid})")

    @contextlib.contextmanager
    def _going_on(self, what: object) -> Iterator[None]:
        """A full disk is no reason to end what holds the arm."""
        try:
            yield
        except OSError as error:
            self.say("", f"cannot write {what}: {error.strerror}")

    def _watch(self, child: Child) -> None:
        ready, ended = child.spec.node.ready, not child.alive
        self._show(child)
        if not child.ready:
            child.ready = not ready.line and (not ready.port or _accepts(ready.port))
            if not child.ready and time.monotonic() - child.started_s > ready.timeout_s:
                self._failure = f"{child.name} was not ready within {ready.timeout_s:g} s; see {child.log}"
                self.say("", self._failure)
        if ended:
            self._ended(child)

    def _show(self, child: Child) -> None:
        """Print what the node wrote, and look for the line that says it is ready."""
        pattern = child.spec.node.ready.line
        for line in child.lines():
            self.say(child.name, line)
            if pattern and re.search(pattern, line):
                child.ready = True

    def _ended(self, child: Child) -> None:
        assert child.process is not None
        child.exit_code = code = child.process.wait()
        child.signal(signal.SIGKILL)  # whatever it left behind in its group
        lasted_s = time.monotonic() - child.started_s
        self.say("", f"{child.name} ended: {describe_exit(code)} after {lasted_s:.1f} s")
        if code == 0:
            child.state = State.DONE
            return
        quick = code > 0 and lasted_s < QUICK_S
        hopeless = code == EXIT_CONFIGURATION or child.spec.node.restart == "never"
        child.quick_failures = child.quick_failures + 1 if quick else 0
        if hopeless or child.quick_failures >= QUICK_FAILURES_MAX:
            self._give_up(child)
            return
        child.backoff_s = BACKOFF_FIRST_S if lasted_s > STABLE_S else child.backoff_s
        child.state, child.retry_s = State.BACKOFF, time.monotonic() + child.backoff_s
        child.backoff_s = min(2 * child.backoff_s, BACKOFF_MAX_S)

    def _give_up(self, child: Child) -> None:
        child.state = State.FAILED
        self.say("", f"{child.name} is not started again; see {child.log}")
        needed_by = [
            other.name
            for other in self.children
            if other.state is State.WAITING and not child.ready and child.name in other.spec.node.depends_on
        ]
        if child.spec.node.required or needed_by:
            self._failure = f"{child.name} failed ({describe_exit(child.exit_code)}); see {child.log}"
            self.say("", self._failure)

    def _stop_all(self) -> None:
        """Reverse start order, one after the other, so that what holds the arm goes last."""
        for child in reversed(self.children):
            if child.alive:
                self._stop(child)
        self.lock.release()

    def _stop(self, child: Child) -> None:
        assert child.process is not None
        for number, grace_s in (
            (signal.SIGINT, child.spec.node.grace_s),
            (signal.SIGTERM, TERMINATE_GRACE_S),
            (signal.SIGKILL, TERMINATE_GRACE_S),
        ):
            child.signal(number)
            seen, deadline = self._signals, time.monotonic() + grace_s
            # Another Ctrl-C while waiting moves on to the harder signal.
            while child.alive and time.monotonic() < deadline and self._signals == seen:
                time.sleep(POLL_S)
            if not child.alive:
                break
        self._show(child)
        child.signal(signal.SIGKILL)
        child.exit_code = child.process.poll()
        child.state = State.DONE
        self.say("", f"{child.name} stopped: {describe_exit(child.exit_code)}")


def describe_exit(code: int | None) -> str:
    """`exit 1`, `SIGKILL`, or `-` when it never ended."""
    if code is None:
        return "-"
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True


def _in_child(parent_pid: int, outlives: bool, nice: int) -> Callable[[], None]:
    """What the new process does before it becomes the node; no imports, no locks."""

    def prepare() -> None:
        if nice:
            os.nice(nice)
        if outlives or _prctl is None or sys.platform != "linux":
            return
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # the parent died before the line above
            os._exit(1)

    return prepare
