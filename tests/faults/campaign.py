"""Kills nodes of a running, learning graph at random moments and waits until each is back at work."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hardware.guard_config import GuardConfig
from hardware.nodes.lifecycle import read_robot
from robot_rl.typed import to_dataclass
from tests.faults import checks
from tests.faults.recorder import Record, Recorder
from tests.faults.rig import NodeSpec, Rig

ROBOT = "sim_panda"
START_TIMEOUT_S = 120.0
RESUME_TIMEOUT_S = 120.0
HOLD_AFTER_S = 1.5
"""By then the last command of a dead actor has expired (0.2 s), the guard has waited for it to come back
(0.3 s), and the target has come to rest (ten time constants of 0.1 s)."""


@dataclass
class Kill:
    """One kill and what came of it."""

    victim: str
    resumed: bool
    resume_s: float
    problems: list[str] = field(default_factory=list)


FAKE_WORLD = {"world": "tests.faults.fake_lift:make"}
"""Parameters of the simulated robot: no physics engine to load."""
ENDLESS = (
    "schedule.demos=1",
    "schedule.learn_steps=1000000",
    "learner.warmup_steps=20",
    "learner.pretrain_updates=20",
    "learner.checkpoint_every_s=5.0",
)
"""Learning soon, and for as long as it takes."""


def learning_graph(
    run_dir: Path,
    world: Mapping[str, str],
    *,
    port: int | None = None,
    seed: int = 0,
    overrides: Sequence[str] = ENDLESS,
) -> dict[str, NodeSpec]:
    """The nodes of the demo; with a GUI when `port` is given."""
    texts = json.dumps(list(overrides))
    run = {"task": "lift", "seed": str(seed), "run_dir": str(run_dir), "overrides": texts}
    nodes = {
        "guard": NodeSpec("guard", {"robot": ROBOT}),
        "sim_robot": NodeSpec("sim_robot", {"robot": ROBOT, "task": "lift", "seed": str(seed), **world}),
        "person": NodeSpec("person", {"task": "lift", "seed": str(seed)}),
        "learner": NodeSpec("learner", run),
        # A request to a service whose node was just killed is lost: ask again soon.
        "actor": NodeSpec("actor", {**run, "world.service_timeout_s": "2.0"}),
    }
    if port is not None:
        nodes["gui"] = NodeSpec("gui", {"port": str(port)})
    return nodes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def guard_limits() -> GuardConfig:
    """The limits that the graph's guard was given."""
    return to_dataclass(GuardConfig, read_robot(ROBOT)["guard"], "guard")


@contextmanager
def running(nodes: Mapping[str, NodeSpec], log_dir: Path, domain_id: int) -> Iterator[tuple[Rig, Recorder]]:
    """The graph at work: its first episode is under way."""
    rig, recorder = Rig(nodes, log_dir, domain_id), Recorder(domain_id)
    try:
        rig.start_all(START_TIMEOUT_S)
        assert recorder.wait_for(lambda: recorder.record.acked > 5, START_TIMEOUT_S), "no step was acknowledged"
        yield rig, recorder
    finally:
        rig.close()
        recorder.close()


class Campaign:
    """Kills on a running rig. The random numbers decide when; every kill is judged by itself."""

    def __init__(self, rig: Rig, recorder: Recorder, seed: int, port: int | None = None) -> None:
        self.rig = rig
        self.recorder = recorder
        self.record: Record = recorder.record
        self._random = np.random.default_rng(seed)
        self._port = port
        self._back: dict[str, Callable[[], Callable[[], bool]]] = {
            "learner": self._learner_back,
            "actor": self._actor_back,
            "sim_robot": self._steps_flow,
            "gui": self._page_back,
        }

    def kill(self, victim: str, longest_wait_s: float = 5.0) -> Kill:
        """Wait a random time, kill, wait again, start again, and wait until it is back at work."""
        time.sleep(self._random.uniform(0.1, longest_wait_s))
        is_back = self._back[victim]()
        killed_s = time.monotonic()
        self.rig.kill(victim)
        time.sleep(self._random.uniform(0.0, 2.0))
        self.rig.start(victim)
        resumed = self.recorder.wait_for(is_back, RESUME_TIMEOUT_S)
        kill = Kill(victim, resumed, time.monotonic() - killed_s)
        if not resumed:
            kill.problems.append(f"{victim} did not resume; its log ends:\n{self.rig.log(victim)[-2000:]}")
        if victim == "actor":
            kill.problems += checks.moves_without_actor(self.record, killed_s, HOLD_AFTER_S)
        return kill

    def problems(self, journal: Path) -> list[str]:
        """What is wrong with the run as a whole; call it when the rig has ended."""
        limits = guard_limits()
        return [
            *checks.unsafe_targets(self.record, limits),
            *checks.targets_while_disarmed(self.record),
            *checks.lost_messages(self.record, journal),
            *checks.broken_progress(self.record),
        ]

    def _learner_back(self) -> Callable[[], bool]:
        """It speaks again, knows what it knew, and has made up for the updates since its checkpoint."""
        heard = len(self.record.metrics)
        before = self.record.metrics[-1][1] if heard else {"updates": 0.0, "online_steps": 0.0}

        def is_back() -> bool:
            now = self.record.metrics[-1][1] if len(self.record.metrics) > heard + 1 else None
            return now is not None and all(now[key] >= before[key] for key in ("updates", "online_steps"))

        return is_back

    def _actor_back(self) -> Callable[[], bool]:
        """A new session's steps are acknowledged."""
        known = set(self.record.acks)
        return lambda: any(self.record.acks[new] > 5 for new in set(self.record.acks) - known)

    def _steps_flow(self) -> Callable[[], bool]:
        """Steps of an episode that began after the kill are acknowledged."""
        began = len(self.record.phases)

        def is_back() -> bool:
            runs = [t for t, told in self.record.phases[began:] if told.state == "run"]
            return bool(runs) and self.record.acked > self._acked_then + 20

        self._acked_then = self.record.acked
        return is_back

    def _page_back(self) -> Callable[[], bool]:
        """The page answers again, and learning has gone on meanwhile."""
        acked = self.record.acked

        def is_back() -> bool:
            with socket.socket() as probe:
                probe.settimeout(0.2)
                return probe.connect_ex(("127.0.0.1", self._port or 0)) == 0 and self.record.acked > acked

        return is_back
