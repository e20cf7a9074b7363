"""Runs a finished policy on the robot, behind the guard: a run of `robot-rl imitate` or `train`, an exported bundle,
or a policy that `robot-rl serve` runs on another machine; steered by a critic if one is given. A real arm is
driven by the policy that `robot-rl promote` put in service; when the person has to act more often than before, the
one before takes its place between two episodes.

Topics and services are the actor's (training/phase, training/episode, ~/end_episode, ~/pause, ...); /diagnostics says
how chunks are played and, of a steered policy, what was chosen. Every episode is recorded;
`run_dir/actor/chunks.jsonl` says how the chunks of each were played. Nothing learns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from hardware.nodes.actor import ActorNode, ActorNodeConfig, Parts
from hardware.nodes.lifecycle import run
from hardware.nodes.policy_report import ChunkLog, PolicyReport
from hardware.ros_messages import diagnostics_message
from policies.remote import RemoteConfig
from policies.steered import SteeredPolicy
from policies.subgoals import SubgoalPlanner
from robot_rl.actor import ScheduleConfig
from robot_rl.apps.remote import load_remote
from robot_rl.apps.runs import (
    build_run_policy,
    check_words,
    checkpoint_version,
    find_checkpoint,
    load_bundle,
    read_goal,
    read_policy,
    read_run,
)
from robot_rl.apps.service import IN_SERVICE, acts_alike, choose_policy
from robot_rl.apps.steering import given_steering, steer_by
from robot_rl.apps.subgoals import plan_by_subgoals
from robot_rl.deployment import RegressionConfig, ServiceWatch
from robot_rl.errors import ConfigError, HardwareError, RobotRlError
from robot_rl.registry import Promoted, Registry
from robot_rl.transport import NoLearner
from sim.tasks import TaskConfig

CHANGES = ("bundle", "remote", "critic", "veto", "subgoals", "overrides")
"""What makes a promoted policy act as another one."""

FAREWELL_S = 1.0
"""From the last word on /diagnostics to the end of the process, which would otherwise overtake it."""


@dataclass(frozen=True)
class DeployNodeConfig(ActorNodeConfig):
    """What is run, and how often. `task` is that of the run; `overrides` are of its configuration."""

    policy: str = IN_SERVICE
    """What is in service; or a run's directory, or one checkpoint in it."""
    service: Path = Path("runs/service")
    """The registry of `robot-rl promote`."""
    use_sim: bool = False
    """The arm is simulated: any policy may drive it, and nothing of it is noted in the registry."""
    unpromoted: bool = False
    """Let a policy that is not in service, or not as it was promoted, drive a real arm."""
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    """When the policy in service is rolled back."""
    bundle: str = ""
    """An exported bundle to act by, instead of the checkpoint."""
    remote: str = ""
    """Or the policy served at this address, such as ws://gpu:8765; `policy` says for which task it was learned."""
    token_file: Path | None = None
    """A file with the token that the server asks for."""
    remote_timeout_s: float = 2.0
    """Longest time for the server's answer."""
    critic: str = ""
    """A run of `robot-rl offline`, or one checkpoint in it, that steers the policy."""
    veto: str = ""
    """A run of `robot-rl offline algorithm=fisor`: what it holds for unsafe is not chosen."""
    samples: int | None = None
    """Candidates that it chooses among; where it is not given, what `robot-rl steer` found; so the next two."""
    temperature: float | None = None
    """Of the choice, in units of value; 0 takes the best."""
    pessimism: float | None = None
    """Standard deviations of the critic's ensemble below its mean."""
    subgoals: bool = False
    """Whether it is told one change at a time, as `robot-rl subgoals` learned for it."""
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
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._registry = Registry(config.service)
        changes = [name for name in CHANGES if getattr(config, name) not in ((), ("",), "", False)]
        chosen = choose_policy(self._registry, config.policy, changes, unpromoted=config.use_sim or config.unpromoted)
        run_dir, checkpoint = find_checkpoint(chosen.path)
        experiment = read_run(run_dir, self._overrides)
        if not isinstance(experiment.task, TaskConfig):
            raise ConfigError(f"{experiment.task.name} exists in lockstep simulation only; deploy runs tasks of an arm")
        policy, transport = self._load(experiment, checkpoint)
        self._chunks = ChunkLog(policy, self._directory / "chunks.jsonl")
        planner = self._plan(policy, experiment, run_dir)
        steered = self._steer(policy, experiment, run_dir)
        report = PolicyReport(self._chunks, steered, planner, self._publish_report)
        schedule = ScheduleConfig(
            demos=0, learn_steps=0, evaluate_episodes=config.episodes, seed=config.seed, attended=True
        )
        self._acting, self._over = checkpoint, ""
        self._watch = None if config.use_sim or chosen.promotion is None else self._watch_over(chosen.promotion)
        subscribers = (self._chunks, *([self._watch] if self._watch else []), report)
        return Parts(experiment, experiment.task.env, steered or policy, schedule, transport, None, subscribers)

    @property
    def _overrides(self) -> list[str]:
        return " ".join(self.config.overrides).split()

    def _load(self, experiment: Any, checkpoint: Path) -> tuple[Any, NoLearner]:
        """The policy, and where its parameters come from."""
        config = self.config
        goal = read_goal(experiment, config.words, config.goal, steered=bool(config.critic))
        if config.bundle and config.remote:
            raise ConfigError("bundle and remote: one of them can act; serve the bundle if that is meant")
        if config.remote:
            there = RemoteConfig(config.remote, config.token_file, config.remote_timeout_s)
            policy = load_remote(experiment, there, goal)
            transport = NoLearner(policy.version, {})  # its parameters are the server's
        elif config.bundle:
            policy = load_bundle(experiment, Path(config.bundle), goal, self._overrides)
            transport = NoLearner(0, {})  # its parameters are part of the bundle
        else:
            policy = build_run_policy(experiment, goal)
            transport = NoLearner(checkpoint_version(checkpoint), read_policy(checkpoint))
        if config.words:
            check_words(policy, config.words)
        return policy, transport

    def _plan(self, policy: Any, experiment: Any, run_dir: Path) -> SubgoalPlanner | None:
        if not self.config.subgoals:
            return None
        if self.config.words or not self.config.goal:
            raise ConfigError("subgoals are chosen towards a goal that is shown: goal=STORE#EPISODE")
        return plan_by_subgoals(policy, experiment, run_dir)

    def _steer(self, policy: Any, experiment: Any, run_dir: Path) -> SteeredPolicy | None:
        config = self.config
        if not config.critic:
            if config.veto:
                raise ConfigError(
                    "veto forbids candidates of a choice: it goes with critic (a run of FISOR can be both)"
                )
            if given := given_steering(config):
                raise ConfigError(f"{', '.join(given)}: of a choice among candidates, which goes with critic")
            return None
        veto = Path(config.veto) if config.veto else None
        given = given_steering(config)
        steered = steer_by(policy, experiment, run_dir, Path(config.critic), veto, given, config.goal)
        if steered.steering.told and not config.goal:
            raise ConfigError("this critic knows goals by observations: give it one by goal=STORE#EPISODE")
        self.get_logger().info(f"steered by {config.critic}: {steered.steering.config}")
        return steered

    def _watch_over(self, promotion: int) -> ServiceWatch:
        run_dir = Path(self.config.run_dir).resolve()
        return ServiceWatch(
            self._registry, promotion, run_dir, self._guard_counts, self.config.regression, self._change_policy
        )

    def _guard_counts(self) -> dict[str, int]:
        """Since the guard began: requests that it refused, and ticks in which it changed the target."""
        status = self._world.guard_status()
        return {
            kind: sum(int(count) for name, count in status.items() if name.startswith(f"{kind}."))
            for kind in ("rejected", "clipped")
        }

    def _change_policy(self, promoted: Promoted) -> None:
        """Act by `promoted` from the next episode on; end the run where that needs a new process."""
        assert self._watch is not None
        told = f"{self._watch.regression or 'the policy in service was changed'}; {promoted.name} is in service now"
        try:
            checkpoint = self._registry.checkpoint(promoted)
            if acts_alike(checkpoint, self._acting):
                self._parts.policy.load(checkpoint_version(checkpoint), read_policy(checkpoint))
                self._acting = checkpoint
            else:
                self._over = f"{told}, another kind of policy: start again to run it"
        except RobotRlError as error:
            self._over = f"{told}, but cannot be loaded: {error}"
        self._told_over_s = time.monotonic()
        if self._over:
            self._started().stopping.set()  # no further episode
        self.get_logger().warning(self._over or told)
        self._publish_report({}, self._over or told)

    def work(self) -> float:
        if self._over and time.monotonic() > self._told_over_s + FAREWELL_S:
            raise HardwareError(self._over)
        return super().work()

    def _publish_report(self, values: Mapping[str, object], problem: str) -> None:
        if self._watch is not None:
            values, problem = {**values, **self._watch.values()}, problem or self._watch.regression
        level = DiagnosticStatus.WARN if problem else DiagnosticStatus.OK
        self._diagnostics.publish(diagnostics_message(self.get_name(), values, self.now_s(), level=level, text=problem))

    def drained(self) -> bool:
        return True

    def result(self) -> dict[str, Any]:
        return {"chunks": self._chunks.totals()}


def main(argv: Sequence[str] | None = None) -> int:
    return run("deploy", DeployNode, DeployNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
