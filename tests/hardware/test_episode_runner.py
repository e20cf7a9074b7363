"""The runner of episodes: order of phases, pauses, second tries, ends. Without ROS."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from hardware.nodes.episodes import EpisodeRunner, RunnerConfig
from hardware.nodes.human import PhaseMessage
from robot_rl.actor import Actor, ScheduleConfig
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import DisarmedError, HardwareError, StaleError
from robot_rl.person import PersonConfig, ScriptedHuman, ScriptedPerson
from robot_rl.records import EpisodeLog
from robot_rl.types import ArmTarget, HumanInput, Verdict
from robot_rl.wire import Event
from tests.kinematic_world import GoalExpert, KinematicWorld

PATIENT = RunnerConfig()
ENV = EnvConfig(max_steps=30, action=("x", "y", "z"), objects=("goal",))


SILENT = StaleError("the robot is silent")


class BreakableWorld(KinematicWorld):
    """Falls silent at the given steps, counted over all episodes."""

    def __init__(self, broken_at: tuple[int, ...] = (), slow_s: float = 0.0, error: HardwareError = SILENT) -> None:
        super().__init__()
        self.on_ready: Callable[[], None] = lambda: None
        self._broken_at = broken_at
        self._slow_s = slow_s
        self._error = error
        self.steps = 0

    def reset(self, seed: int | None) -> None:
        super().reset(seed)
        self.on_ready()

    def advance(self, duration_s: float) -> ArmTarget | None:
        time.sleep(self._slow_s)
        self.steps += 1
        if self.steps in self._broken_at:
            raise self._error
        return super().advance(duration_s)


class Human:
    """The scripted person, with what `TopicHuman` has besides."""

    def __init__(self, env: RobotEnv, engages: bool) -> None:
        self._scripted = ScriptedHuman(ScriptedPerson(GoalExpert(), env.action_spec, PersonConfig(), 0), env.snapshot)
        self._engages = engages
        self._verdict: Verdict | None = None

    def reset(self, phase: str) -> None:
        self._verdict = None
        self._scripted.reset(phase)

    def read(self) -> HumanInput:
        return self._scripted.read()

    def verdict(self) -> Verdict | None:
        verdict, self._verdict = self._verdict, None
        return verdict

    def judge(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def wait_until_engaged(self, timeout_s: float, give_up: Callable[[], bool]) -> bool:
        return self._engages


class Policy:
    version = 0
    deterministic = False

    def reset(self, goal: object = None, seed: int | None = None) -> None:
        pass

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        return np.zeros(3)

    def load(self, version: int, tensors: object) -> None:
        self.version = version


class Line:
    """A transport whose learner does one update per step."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event) -> None:
        self.events.append(event)

    def parameters(self) -> None:
        return None

    def flush(self) -> tuple[int, dict[str, Any]]:
        return len(self.events), {}


class Learner:
    is_alive = True


class Bench:
    """A runner with everything around it."""

    def __init__(
        self,
        world: BreakableWorld,
        config: RunnerConfig = PATIENT,
        *,
        person_engages: bool = True,
        guard: dict[str, str] | None = None,
    ) -> None:
        env = RobotEnv(world, ENV)
        self.learner = Learner()
        self.human = Human(env, person_engages)
        self.told: list[PhaseMessage] = []
        self.guard = guard or {"armed": "true", "reason": "armed"}
        self.line = Line()
        schedule = ScheduleConfig(demos=2, learn_steps=40, evaluate_episodes=2)
        log = logging.getLogger("runner")
        # rclpy's logger takes an argument that the standard one does not.
        quiet = type("Log", (), {name: lambda _, text, **__: log.info(text) for name in ("info", "warning")})
        self.actor = Actor(env, Policy(), cast(Any, self.human), self.line, schedule, EpisodeLog())
        self.runner = EpisodeRunner(
            self.actor,
            cast(Any, self.human),
            cast(Any, self.learner),
            lambda: self.guard,
            self.told.append,
            cast(Any, quiet()),
            config,
        )
        world.on_ready = self.runner.scene_is_ready
        self.runner.thread.start()

    @property
    def phases(self) -> list[str]:
        return [record.phase for record in self.actor.log.records]

    def finish(self) -> None:
        self.runner.thread.join(timeout=30.0)
        assert not self.runner.thread.is_alive()

    def stop(self) -> None:
        self.runner.stop()
        self.runner.join()

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline_s
            time.sleep(0.005)


def test_all_phases_run_in_order_and_are_announced() -> None:
    bench = Bench(BreakableWorld())
    bench.finish()
    assert bench.runner.finished and bench.runner.error is None
    assert bench.phases == sorted(bench.phases, key=["demo", "learn", "evaluate"].index)
    assert bench.phases.count("demo") == 2 and bench.phases.count("evaluate") == 2
    runs = [told for told in bench.told if told.state == "run"]
    assert [told.phase for told in runs] == bench.phases
    assert [told.episode for told in runs] == sorted({told.episode for told in runs})
    assert bench.actor.policy.version == len(bench.line.events)  # evaluation uses the final parameters


def test_a_broken_off_episode_is_discarded_and_made_up_for() -> None:
    bench = Bench(BreakableWorld(broken_at=(3,)))
    bench.finish()
    assert bench.runner.error is None
    first = bench.actor.log.records[0]
    assert (first.phase, first.discarded, first.success) == ("demo", True, False)
    assert bench.phases.count("demo") == 3 and len(bench.actor.log.of("demo")) == 2


def test_gives_up_when_nothing_works() -> None:
    bench = Bench(BreakableWorld(broken_at=tuple(range(1000))), RunnerConfig(patience_s=0.5))
    bench.finish()
    assert isinstance(bench.runner.error, StaleError)


def test_a_demonstration_without_a_demonstrator_does_not_begin() -> None:
    config = RunnerConfig(patience_s=0.2, demonstrator_timeout_s=0.01)
    bench = Bench(BreakableWorld(), config, person_engages=False)
    bench.finish()
    assert "took hold" in str(bench.runner.error)
    assert bench.phases == []


def test_while_paused_each_permit_runs_one_episode() -> None:
    bench = Bench(BreakableWorld(), RunnerConfig(paused=True))
    time.sleep(0.3)
    assert bench.phases == []
    bench.runner.permit()
    bench.wait_for(lambda: len(bench.phases) == 1)
    time.sleep(0.3)
    assert len(bench.phases) == 1
    bench.runner.resume()
    bench.finish()
    assert bench.runner.finished


def test_waits_while_the_learner_is_away() -> None:
    bench = Bench(BreakableWorld())
    bench.learner.is_alive = False
    bench.wait_for(lambda: not bench.runner.is_running)
    seen = len(bench.phases)
    time.sleep(0.4)
    assert len(bench.phases) <= seen + 1  # the one that had begun
    bench.learner.is_alive = True
    bench.finish()
    assert bench.runner.finished


@pytest.mark.parametrize(("verdict", "discarded"), [(Verdict.FAILURE, False), (Verdict.DISCARD, True)])
def test_the_episode_under_way_can_be_judged(verdict: Verdict, discarded: bool) -> None:
    bench = Bench(BreakableWorld(slow_s=0.02))
    bench.wait_for(lambda: len(bench.line.events) > 2)
    assert bench.runner.judge(verdict)
    bench.wait_for(lambda: bench.phases)
    bench.stop()
    first = bench.actor.log.records[0]
    assert (first.success, first.discarded) == (False, discarded)
    assert first.steps < ENV.max_steps
    assert not bench.runner.judge(verdict)


def test_stopping_discards_the_episode_under_way() -> None:
    bench = Bench(BreakableWorld(slow_s=0.02))
    bench.wait_for(lambda: len(bench.line.events) > 2)
    bench.stop()
    assert not bench.runner.finished and bench.runner.error is None
    assert [record.discarded for record in bench.actor.log.records] == [True]


@pytest.mark.parametrize(("moment", "most"), [("before", 0), ("after", 5)])
def test_stopping_while_the_scene_is_prepared_starts_no_episode(moment: str, most: int) -> None:
    """Labels given before an episode do not count for it, so the arm went on for a whole one after the stop."""
    world = BreakableWorld(slow_s=0.02)
    bench = Bench(world)
    ready, steps_at_stop = bench.runner.scene_is_ready, []

    def stop_as_well() -> None:
        steps_at_stop.append(world.steps)
        if moment == "before":
            bench.runner.stop()
        ready()
        bench.runner.stop()

    world.on_ready = stop_as_well
    bench.wait_for(bench.runner.stopping.is_set)
    bench.stop()
    assert bench.runner.error is None
    assert world.steps - steps_at_stop[0] <= most


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_arm_disarmed_by_hand_is_not_armed_again(by_hand: bool) -> None:
    """It goes on when a person arms the guard; a guard that disarmed by itself is armed again at once."""
    error = DisarmedError("by hand") if by_hand else HardwareError("arm state is old")
    bench = Bench(BreakableWorld(broken_at=(3,), error=error), guard={"armed": "false"})
    bench.wait_for(lambda: bench.phases)
    time.sleep(1.5)  # the runner tries again after a second
    assert (len(bench.phases) == 1) == by_hand
    bench.guard["armed"] = "true"
    bench.finish()
    assert bench.runner.finished


def test_a_start_asked_for_during_an_episode_is_refused_and_does_not_arm_a_disarmed_arm() -> None:
    world = BreakableWorld(broken_at=(10,), slow_s=0.02, error=DisarmedError("by hand"))
    bench = Bench(world, guard={"armed": "false"})
    bench.wait_for(lambda: len(bench.line.events) > 2)
    assert not bench.runner.permit()
    bench.wait_for(lambda: bench.phases)
    time.sleep(1.5)
    assert len(bench.phases) == 1 and bench.told[-1].state == "idle"
    assert bench.runner.permit()  # the person asks anew, and means it
    bench.wait_for(lambda: len(bench.phases) == 2)
    bench.stop()
