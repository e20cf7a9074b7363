"""Runs a finished policy on the robot, behind the guard: a run of `robot-rl imitate` or `train`, or an exported bundle.

Topics and services are the actor's (training/phase, training/episode, ~/end_episode, ~/pause, ...). Every
episode is recorded; `run_dir/actor/chunks.jsonl` says how the chunks of each were played. Nothing learns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware.nodes.actor import ActorNode, ActorNodeConfig, Parts
from hardware.nodes.lifecycle import run
from policies.chunking import ChunkPolicy
from robot_rl.actor import ScheduleConfig
from robot_rl.apps.evaluate import check_words, load_bundle
from robot_rl.apps.runs import build_run_policy, find_checkpoint, read_goal, read_policy, read_run
from robot_rl.errors import ConfigError
from robot_rl.transport import NoLearner
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from sim.tasks import TaskConfig


@dataclass(frozen=True)
class DeployNodeConfig(ActorNodeConfig):
    """What is run, and how often. `task` is that of the run; `overrides` are of its configuration."""

    policy: str = ""
    """A run's directory, or one checkpoint in it."""
    bundle: str = ""
    """An exported bundle to act by, instead of the checkpoint."""
    words: str = ""
    """The goal in words, for a policy that knows words."""
    goal: str = ""
    """Or shown, as STORE#EPISODE: the last observation of a recorded episode."""
    episodes: int = 1_000_000
    """How many to run."""


class DeployNode(ActorNode[DeployNodeConfig]):
    """An actor without a learner."""

    def prepare(self) -> Parts:
        config = self.config
        if not config.policy:
            raise ConfigError("deploy needs `policy`: the directory of a run, such as runs/imitate/lift_score_seed0")
        run_dir, checkpoint = find_checkpoint(Path(config.policy))
        experiment = read_run(run_dir, " ".join(config.overrides).split())
        if not isinstance(experiment.task, TaskConfig):
            raise ConfigError(f"{experiment.task.name} exists in lockstep simulation only; deploy runs tasks of an arm")
        goal = read_goal(experiment, config.words, config.goal)
        if config.bundle:
            policy = load_bundle(experiment, Path(config.bundle), goal)
            transport = NoLearner(0, {})  # its parameters are part of the bundle
        else:
            policy = build_run_policy(experiment, goal)
            transport = NoLearner(int(checkpoint.name.removeprefix("step_")), read_policy(checkpoint))
        if config.words:
            check_words(policy, config.words)
        schedule = ScheduleConfig(demos=0, learn_steps=0, evaluate_episodes=config.episodes, seed=config.seed)
        self._chunks = _ChunkLog(policy, self._directory / "chunks.jsonl")
        return Parts(experiment, experiment.task.env, policy, schedule, transport, None, (self._chunks,))

    def drained(self) -> bool:
        return True

    def result(self) -> dict[str, Any]:
        return {"chunks": self._chunks.totals()}


class _ChunkLog:
    """Subscriber that notes how the chunks of each episode were played."""

    def __init__(self, policy: Any, path: Path) -> None:
        self._policy = policy if isinstance(policy, ChunkPolicy) else None
        self._path = path
        self._before: dict[str, Any] = {}

    def totals(self) -> dict[str, Any]:
        """Since the process began; empty for a policy without chunks."""
        return {} if self._policy is None else {k: v for k, v in asdict(self._policy.counters).items() if k != "joints"}

    def on_start(self, start: EpisodeStart) -> None:
        self._before = self.totals()

    def on_step(self, transition: Transition) -> None:
        """Nothing to note."""

    def on_end(self, end: EpisodeEnd) -> None:
        if self._policy is None:
            return
        counted = {name: value - self._before[name] for name, value in self.totals().items()}
        line = {"episode_id": end.episode_id, **counted, "joints": self._policy.counters.joints}
        with self._path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run("deploy", DeployNode, DeployNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
