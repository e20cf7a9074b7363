"""The scripted person keeps to its stated rules."""

import numpy as np
import pytest

from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import ConfigError
from robot_rl.intervention import HoldPolicy, Intervention
from robot_rl.loop import run_episode
from robot_rl.person import PersonConfig, ScriptedHuman, ScriptedPerson
from robot_rl.types import ActionSpec, ArmState, Snapshot, TaskState, Verdict
from tests.kinematic_world import GoalExpert, KinematicWorld

SPEC = ActionSpec(("x", "y", "z", "gripper"), 0.02, 0.1)
POSE = np.array([0.4, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0])


class ToldExpert:
    """Wishes and progress as the test says."""

    def __init__(self, wish=(1.0, 0.0, 0.0, 0.0)):
        self.wish, self.now = np.array(wish), 0.0

    def action(self, snapshot, spec):
        return self.wish * np.array([snapshot.arm.pose_base_tcp[0] > 0.4 or 1.0, 1, 1, 1])

    def progress(self, snapshot):
        return snapshot.task.scalars["progress"]


def snapshot(time_s, progress=0.0, gripper=1.0, x=0.4):
    pose = POSE.copy()
    pose[0] = x
    return Snapshot(
        ArmState(time_s, pose, np.zeros(6), np.zeros(7), gripper),
        TaskState(time_s, {}, {"progress": progress}, False),
    )


def make(expert=None, **config):
    return ScriptedPerson(expert or ToldExpert(), SPEC, PersonConfig(**config), seed=0)


def test_takes_over_after_patience_without_progress_and_not_before():
    person = make(reaction_s=0.0, patience_s=2.0)
    engaged = [person.react(snapshot(t / 10)).engaged for t in range(25)]
    assert engaged.index(True) == 20


def test_does_not_take_over_while_the_task_advances():
    person = make(reaction_s=0.0, patience_s=1.0)
    assert not any(person.react(snapshot(t / 10, progress=t / 100)).engaged for t in range(80))


def test_takes_over_at_a_setback_seen_one_reaction_time_late():
    person = make(reaction_s=0.3, setback=0.2, patience_s=100)
    engaged = [person.react(snapshot(t / 10, 0.5 if t < 5 else 0.1)).engaged for t in range(12)]
    assert engaged.index(True) == 8


def test_hands_back_after_the_gain_and_the_shortest_hold():
    person = make(reaction_s=0.0, patience_s=1.0, hold_s=1.0, handback_gain=0.25, last_takeover=2)
    progress = [0.0 if t < 12 else 0.3 for t in range(30)]
    engaged = [person.react(snapshot(t / 10, p)).engaged for t, p in enumerate(progress)]
    assert engaged.index(True) == 10
    assert not engaged[20] and all(engaged[10:20])


@pytest.mark.parametrize("demonstrating", [False, True])
def test_gives_up_after_long_without_progress_in_control(demonstrating):
    """Progress made and lost again (a can that slips out of the hand) is none."""
    person = make(reaction_s=0.0, patience_s=1.0, give_up_s=2.95, last_takeover=1)
    person.demonstrating = demonstrating
    verdicts = []
    for t in range(80):
        person.react(snapshot(t / 10, progress=0.0 if t < 20 else 0.2 if t % 2 else 0.1))
        verdicts.append(person.verdict())
    given_up = 21 + 30  # the last new progress is seen at tick 21, later than the take-over
    assert verdicts[given_up - 1] is None
    assert verdicts[given_up:] == [Verdict.FAILURE] * (80 - given_up)
    person.reset()
    assert person.verdict() is None


def test_a_watching_person_does_not_give_up():
    person = make(reaction_s=0.0, patience_s=100.0, setback=1.0, give_up_s=1.0)
    for t in range(40):
        person.react(snapshot(t / 10))
        assert person.verdict() is None


def test_hand_speed_noise_and_reaction():
    person = make(hand_speed=0.4, hand_noise=0.05, reaction_s=0.3)
    person.demonstrating = True
    moves = np.array([person.react(snapshot(t / 10)).action for t in range(3000)])
    assert moves[:, 0].mean() == pytest.approx(0.4, abs=0.01)
    assert moves[:, 1].std() == pytest.approx(0.05, rel=0.15)
    still = make(hand_noise=0.0, reaction_s=0.3)
    still.demonstrating = True
    seen = [still._look(snapshot(t / 10, x=0.1 * t)).arm.pose_base_tcp[0] for t in range(10)]
    assert seen[9] == pytest.approx(0.6)  # what was true 0.3 s earlier


def test_pauses_before_pressing_the_gripper():
    person = make(ToldExpert((1.0, 0.0, 0.0, -1.0)), reaction_s=0.0, hand_noise=0.0, grip_pause_s=0.3)
    person.demonstrating = True
    actions = [person.react(snapshot(t / 10)).action for t in range(6)]
    assert [a[-1] for a in actions] == [0, 0, 0, -1, -1, -1]
    assert all(a[0] == 0 for a in actions[:3]) and actions[4][0] == pytest.approx(0.35)


@pytest.mark.parametrize(
    "wrong",
    [{"reaction_s": -1.0}, {"hand_speed": 0.0}, {"noise_tau_s": 0.0}, {"approach_steps": 0.0}, {"hold_s": -0.1}],
)
def test_limits_that_no_person_has_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must"):
        PersonConfig(**wrong)


def test_from_the_last_takeover_on_control_is_kept():
    """Each gain is enough to hand back; the second take-over is the last here."""
    expert = ToldExpert()
    person = ScriptedPerson(expert, SPEC, PersonConfig(last_takeover=2), seed=0)
    engaged = [person.react(snapshot(0.1 * step, progress=0.3 * (step // 30 % 3))).engaged for step in range(400)]
    changes = [now for before, now in zip([False, *engaged], engaged, strict=False) if before != now]
    assert changes == [True, False, True]


def test_same_seed_same_person():
    def actions(seed):
        person = ScriptedPerson(ToldExpert(), SPEC, PersonConfig(), seed)
        person.demonstrating = True
        return np.array([person.react(snapshot(t / 10)).action for t in range(20)])

    np.testing.assert_array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))


def test_demonstrates_and_rescues_through_the_intervention_input():
    env = RobotEnv(KinematicWorld(tracking=0.8), EnvConfig(max_steps=200, objects=("goal",)))
    person = ScriptedPerson(GoalExpert(), env.action_spec, PersonConfig(), seed=0)
    human = ScriptedHuman(person, env.snapshot)
    control = Intervention(HoldPolicy(4), human, env.action_spec)
    demo = run_episode(env, control, [], phase="demo", seed=0)
    assert demo.success and demo.interventions == demo.steps
    rescue = run_episode(env, control, [], phase="learn", seed=0)
    assert rescue.success and 0 < rescue.interventions < rescue.steps
