"""One loop, many listeners; who acts; what is recorded."""

import signal

import numpy as np
import pytest

from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import SpecError, StaleError
from robot_rl.intervention import HoldPolicy, Intervention, NoHuman
from robot_rl.loop import run_episode
from robot_rl.records import EpisodeLog, duty_cycle, read_records
from robot_rl.types import HumanInput, Verdict
from tests.kinematic_world import KinematicWorld

CONFIG = EnvConfig(max_steps=6, objects=("goal",))


class Recorder:
    def __init__(self):
        self.starts, self.steps, self.ends = [], [], []

    def on_start(self, start):
        self.starts.append(start)

    def on_step(self, transition):
        self.steps.append(transition)

    def on_end(self, end):
        self.ends.append(end)


class HumanOnSteps(NoHuman):
    """Engaged on given steps; gives a verdict after a given step."""

    def __init__(self, engaged=(), verdict_after=None, verdict=None):
        super().__init__(4)
        self.engaged, self.verdict_after, self.label = set(engaged), verdict_after, verdict
        self.step = -1

    def reset(self, phase):
        self.step = -1

    def read(self):
        self.step += 1
        return HumanInput(self.step in self.engaged, np.array([0.0, 0.0, 1.0, 0.0]))

    def verdict(self):
        return self.label if self.step == self.verdict_after else None


def run(human=None, config=CONFIG, world=None):
    env = RobotEnv(world or KinematicWorld(), config)
    recorder = Recorder()
    control = Intervention(HoldPolicy(4), human or NoHuman(4), env.action_spec)
    end = run_episode(env, control, [recorder], phase="learn", seed=3)
    return recorder, end


def test_transitions_chain_and_the_last_one_is_truncated():
    recorder, end = run()
    assert [t.step for t in recorder.steps] == list(range(6))
    for before, after in zip(recorder.steps[:-1], recorder.steps[1:], strict=True):
        assert before.next_observation is after.observation
    assert [t.truncated for t in recorder.steps] == [False] * 5 + [True]
    assert not any(t.terminated for t in recorder.steps)
    assert end.steps == 6 and not end.success and not end.discarded


def test_the_person_acts_only_while_engaged_and_the_proposal_is_kept():
    recorder, end = run(HumanOnSteps(engaged={2, 3}))
    assert [t.is_intervention for t in recorder.steps] == [False, False, True, True, False, False]
    np.testing.assert_array_equal(recorder.steps[2].proposed_action, [0, 0, 0, 0])
    np.testing.assert_array_equal(recorder.steps[2].executed_action, [0, 0, 1, 0])
    assert end.interventions == 2


@pytest.mark.parametrize(
    ("verdict", "reward", "terminated", "discarded"),
    [
        (Verdict.SUCCESS, 1.0, True, False),
        (Verdict.FAILURE, 0.0, True, False),
        (Verdict.DISCARD, 0.0, False, True),
    ],
)
def test_a_verdict_ends_the_episode(verdict, reward, terminated, discarded):
    recorder, end = run(HumanOnSteps(verdict_after=1, verdict=verdict))
    last = recorder.steps[-1]
    assert len(recorder.steps) == 2
    assert (last.reward, last.terminated, last.truncated) == (reward, terminated, not terminated)
    assert (end.success, end.discarded) == (reward > 0, discarded)


def test_an_error_in_the_middle_closes_the_episode_as_discarded():
    class DyingWorld(KinematicWorld):
        def advance(self, duration_s):
            if self.ticks == 3:
                raise StaleError("arm state is 0.4 s old")
            return super().advance(duration_s)

    env = RobotEnv(DyingWorld(), CONFIG)
    recorder = Recorder()
    with pytest.raises(StaleError):
        run_episode(
            env,
            Intervention(HoldPolicy(4), NoHuman(4), env.action_spec),
            [recorder],
            phase="learn",
        )
    assert len(recorder.steps) == 3 and recorder.ends[0].discarded


def test_a_policy_that_says_nan_is_stopped_before_the_robot():
    class BadPolicy(HoldPolicy):
        def act(self, observation):
            return np.full(4, np.nan)

    env = RobotEnv(KinematicWorld(), CONFIG)
    with pytest.raises(SpecError):
        run_episode(env, Intervention(BadPolicy(4), NoHuman(4), env.action_spec), [], phase="learn")
    assert env.world.commands == []


def test_records_survive_on_disk_and_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "episodes.jsonl"
    log = EpisodeLog(path)
    env = RobotEnv(KinematicWorld(), CONFIG)
    for _ in range(2):
        run_episode(env, Intervention(HoldPolicy(4), NoHuman(4), env.action_spec), [log], phase="learn")
    with path.open("a") as stream:
        stream.write('{"phase": "lea')
    resumed = EpisodeLog(path)
    assert resumed.records == log.records
    assert resumed.env_steps == 12
    run_episode(env, Intervention(HoldPolicy(4), NoHuman(4), env.action_spec), [resumed], phase="learn")
    assert [record.env_steps for record in read_records(path)] == [6, 12, 18]


def test_duty_cycle_counts_nominal_steps_against_wall_clock_without_resets():
    from robot_rl.records import EpisodeRecord

    def record(wall_s):
        return EpisodeRecord(
            "learn", True, steps=80, interventions=0, duration_s=8.0, reset_s=3.0, env_steps=0,
            wall_s=wall_s, policy_version=0,
        )  # fmt: skip

    # 11 s and then 2 s of idle time and 11 s more: 16 s of data in 24 s less 6 s of resets
    assert duty_cycle([record(11.0), record(24.0)], rate_hz=10.0) == pytest.approx(16 / 18)


def test_an_interrupt_at_an_episodes_end_waits_until_all_have_heard_of_it():
    class Interrupted(Recorder):
        def on_end(self, end):
            signal.raise_signal(signal.SIGINT)
            super().on_end(end)

    listeners = [Interrupted(), Recorder()]
    env = RobotEnv(KinematicWorld(), CONFIG)
    with pytest.raises(KeyboardInterrupt):
        run_episode(env, Intervention(HoldPolicy(4), NoHuman(4), env.action_spec), listeners, phase="learn")
    assert [one.ends[0].discarded for one in listeners] == [False, False]
