"""The actor: demonstrations, learning with interventions, evaluation — all through the one episode loop.

The same code runs against a simulated world in lockstep with the learner in the same process, and
against a real arm over ROS 2 with the learner elsewhere; only `env`, `human` and `transport` differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from robot_rl.errors import ConfigError
from robot_rl.intervention import HoldPolicy, Intervention, NoHuman
from robot_rl.loop import run_episode
from robot_rl.protocols import Env, Human, Policy, Subscriber, Transport
from robot_rl.records import RECENT_EPISODES, EpisodeLog, EpisodeRecord, intervention_rate, success_rate
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition

SEEDS_PER_PHASE = 1_000_000
PHASES = ("demo", "learn", "evaluate")


class LearnedPolicy(Policy, Protocol):
    """A policy whose parameters come from the learner."""

    deterministic: bool

    def load(self, version: int, tensors: Mapping[str, Any]) -> None: ...


class FlushingTransport(Transport, Protocol):
    """A transport that can wait for the learner to finish what is due."""

    def flush(self) -> tuple[int, Mapping[str, Any]]: ...


@dataclass(frozen=True)
class ScheduleConfig:
    """How much of each phase."""

    demos: int = 20
    """Successful demonstrations to gather."""
    learn_steps: int = 8000
    """Environment steps of learning; the episode that crosses it is finished."""
    learn_minutes: float | None = None
    """Wall-clock limit of learning, whichever comes first."""
    evaluate_episodes: int = 50
    """Episodes without a person, with the final parameters."""
    interventions: bool = True
    """Whether the person may take over while learning."""
    attended: bool = False
    """Whether the person may also take over, and judge, in evaluation: a deployment."""
    seed: int = 0
    """Start states: each phase draws from its own range, so evaluation never sees a training start."""

    def __post_init__(self) -> None:
        if min(self.demos, self.learn_steps, self.evaluate_episodes, self.seed, self.learn_minutes or 0.0) < 0:
            raise ConfigError(f"nothing may be negative; got {self}")


def episode_seed(seed: int, phase: str, index: int) -> int:
    """Seed of the start state of episode `index` of `phase`."""
    return (seed * len(PHASES) + PHASES.index(phase)) * SEEDS_PER_PHASE + index


class _Link:
    """Subscriber: events up to the learner, newer parameters down into the policy."""

    def __init__(self, transport: Transport, policy: LearnedPolicy) -> None:
        self._transport = transport
        self._policy = policy

    def on_start(self, start: EpisodeStart) -> None:
        self._transport.send(start)
        self._refresh()

    def on_step(self, transition: Transition) -> None:
        self._transport.send(transition)
        self._refresh()

    def on_end(self, end: EpisodeEnd) -> None:
        self._transport.send(end)

    def _refresh(self) -> None:
        newer = self._transport.parameters()
        if newer is not None:
            self._policy.load(*newer)


class Actor:
    """Runs the phases. Every episode goes to `log` and to the other subscribers as well."""

    def __init__(
        self,
        env: Env,
        policy: LearnedPolicy,
        human: Human,
        transport: FlushingTransport,
        schedule: ScheduleConfig,
        log: EpisodeLog,
        subscribers: Sequence[Subscriber] = (),
    ) -> None:
        self.env = env
        self.policy = policy
        self.human = human
        self.transport = transport
        self.schedule = schedule
        self.log = log
        self._subscribers = [*subscribers, log]
        self._link = _Link(transport, policy)

    def demonstrate_once(self) -> EpisodeRecord:
        """One episode under the person's control, sent to the learner as a demonstration."""
        control = Intervention(HoldPolicy(self.env.action_spec.dim), self.human, self.env.action_spec)
        return self._run(control, "demo", [self._link])

    def learn_once(self) -> EpisodeRecord:
        """One episode of the policy, watched by the person if the schedule says so."""
        human = self.human if self.schedule.interventions else NoHuman(self.env.action_spec.dim)
        self.policy.deterministic = False
        control = Intervention(self.policy, human, self.env.action_spec)
        return self._run(control, "learn", [self._link])

    def evaluate_once(self) -> EpisodeRecord:
        """One episode of the policy, deterministic, alone unless attended; call `finish_learning` before the first."""
        self.policy.deterministic = True
        human = self.human if self.schedule.attended else NoHuman(self.env.action_spec.dim)
        control = Intervention(self.policy, human, self.env.action_spec)
        return self._run(control, "evaluate", [])

    @property
    def demos_left(self) -> int:
        return self.schedule.demos - sum(record.success for record in self.log.of("demo"))

    @property
    def learn_steps_left(self) -> int:
        """Environment steps left; 0 as soon as the steps or the minutes are used up."""
        minutes = self.schedule.learn_minutes
        if minutes is not None and learning_time_s(self.log.records) >= minutes * 60:
            return 0
        return max(self.schedule.learn_steps - self.log.env_steps, 0)

    @property
    def evaluations_left(self) -> int:
        return self.schedule.evaluate_episodes - len(self.log.of("evaluate"))

    def progress(self) -> str:
        """How far the present phase is and how it goes, in a line."""
        phase = self.log.records[-1].phase if self.log.records else "demo"
        done = self.log.of(phase)
        if phase == "demo":
            return f"demonstrations: {self.schedule.demos - self.demos_left} of {self.schedule.demos}"
        if phase == "evaluate":
            return f"evaluation: {len(done)} of {self.schedule.evaluate_episodes}, success {success_rate(done):.0%}"
        recent = done[-RECENT_EPISODES:]
        return (
            f"learning: {self.log.env_steps} of {self.schedule.learn_steps} steps; last {len(recent)} episodes: "
            f"success {success_rate(recent):.0%}, person in control {intervention_rate(recent):.0%} of the steps"
        )

    def finish_learning(self) -> None:
        """Let the learner finish what is due, and act with its newest parameters from here on."""
        self.policy.load(*self.transport.flush())

    def run(self) -> None:
        """All phases, from wherever the log says the last run stopped."""
        while self.demos_left > 0:
            self.demonstrate_once()
        while self.learn_steps_left > 0:
            self.learn_once()
        self.finish_learning()
        while self.evaluations_left > 0:
            self.evaluate_once()

    def _run(self, control: Intervention, phase: str, extra: list[Subscriber]) -> EpisodeRecord:
        index = sum(record.phase == phase for record in self.log.records)
        seed = episode_seed(self.schedule.seed, phase, index)
        run_episode(self.env, control, [*extra, *self._subscribers], phase=phase, seed=seed)
        return self.log.records[-1]


def learning_time_s(records: Sequence[EpisodeRecord]) -> float:
    """Wall-clock time of the learning phase, resets included."""
    return sum(record.duration_s + record.reset_s for record in records if record.phase == "learn")
