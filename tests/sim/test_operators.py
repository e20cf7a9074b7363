"""The operators keep to their stated rules, and do different things from the same states."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.env import RobotEnv
from robot_rl.errors import UnknownNameError
from robot_rl.intervention import HoldPolicy, Intervention
from robot_rl.loop import run_episode
from robot_rl.types import ActionSpec, ArmState, FloatArray, Snapshot, TaskState
from sim import operators
from sim.operators import AIM_M, AWAY, BESIDE_M, ERRANDS, LET_GO_S, PUSH_M, TRY_S, Clumsy, LettingGo, Misled, Pusher
from tests.robot_rl.test_loop import Recorder
from tests.sim.conftest import shared_env

SPEC = ActionSpec(("x", "y", "z", "gripper"), 0.02, 0.1)
STEP_S = 0.1


def see(time_s: float, thing=(0.5, 0.0, 0.0), tcp=(0.5, 0.0, 0.0), grip: float = 1.0) -> Snapshot:
    """The TCP upright, so that its axes are the base's."""
    pose, place = np.array([*tcp, 1.0, 0.0, 0.0, 0.0]), np.array([*thing, 1.0, 0.0, 0.0, 0.0])
    arm = ArmState(time_s, pose, np.zeros(6), np.zeros(7), grip)
    return Snapshot(arm, TaskState(time_s, {"cube": place, "goal": place}, {}, False))


class Spy:
    """Closes the hand, and remembers where it saw the cube."""

    def __init__(self) -> None:
        self.seen: list[FloatArray] = []

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        self.seen.append(snapshot.task.poses["cube"])
        return np.array([0.1, 0.2, 0.3, -1.0])

    def progress(self, snapshot: Snapshot) -> float:
        return 0.25


def test_who_is_misled_acts_on_one_object_elsewhere_and_nothing_else():
    spy = Spy()
    misled = Misled(spy, "cube", np.array([0.0, -0.2, 0.01]))
    snapshot = see(0.0)
    np.testing.assert_array_equal(misled.action(snapshot, SPEC), [0.1, 0.2, 0.3, -1.0])
    np.testing.assert_allclose(spy.seen[0], [0.5, -0.2, 0.01, 1.0, 0.0, 0.0, 0.0])
    assert snapshot.task.poses["cube"][1] == 0.0 and misled.progress(snapshot) == 0.25


def test_what_is_held_is_let_go_of_at_its_height_and_not_before():
    hand = LettingGo(Spy(), "cube", 0.05)
    heights = [0.0, 0.0, 0.02, 0.04, 0.06, 0.06, 0.06]
    grips = [0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.9]
    moves = [
        hand.action(see(i * STEP_S, thing=(0.5, 0.0, z), grip=grip), SPEC)
        for i, (z, grip) in enumerate(zip(heights, grips, strict=True))
    ]
    assert [move[-1] for move in moves] == [-1, -1, -1, -1, 1, 1, 1]
    assert [move[2] for move in moves[4:]] == [0.0, 0.0, 1.0]  # rises only once the hand is open
    later = [hand.action(see((4 + i) * STEP_S, grip=1.0), SPEC)[-1] for i in range(3, 14)]
    assert later.count(1.0) == round(LET_GO_S / STEP_S) - 2 and later[-1] == -1


@pytest.mark.parametrize("grip", [0.0, 1.0])
def test_an_empty_hand_lets_go_of_nothing(grip):
    hand = LettingGo(Spy(), "cube", 0.0)
    assert [hand.action(see(i * STEP_S, grip=grip), SPEC)[-1] for i in range(5)] == [-1] * 5


def test_fingers_on_their_way_hold_nothing_yet():
    hand = LettingGo(Spy(), "cube", 0.0)
    grips = [1.0, 0.8, 0.6, 0.59]
    assert [hand.action(see(i * STEP_S, grip=grip), SPEC)[-1] for i, grip in enumerate(grips)] == [-1, -1, -1, 1]


def test_the_pusher_comes_down_before_the_object_pushes_and_withdraws():
    def direction(tcp, thing=(0.5, 0.0, 0.0)):
        pusher = Pusher(Spy(), "cube")
        pusher.action(see(0.0), SPEC)  # where it was at first
        return pusher.action(see(0.1, thing, tcp, grip=0.0), SPEC)

    np.testing.assert_allclose(direction((0.3, 0.1, 0.2))[:3], [1.0, -1 / 1.2, -1 / 1.2])  # to its place, coming down
    np.testing.assert_allclose(direction((0.42, 0.0, 0.2))[:3], [0.0, 0.0, -1.0], atol=1e-9)
    np.testing.assert_allclose(direction((0.42, 0.0, 0.0))[:3], [1.0, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(direction((0.42, 0.1, 0.0))[:3], [0.0, 0.0, 1.0], atol=1e-9)  # not in line
    pushed = (0.5 + PUSH_M + 0.01, 0.0, 0.0)
    np.testing.assert_allclose(direction((0.6, 0.0, 0.0), pushed)[:3], [0.0, 0.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(direction((0.6, 0.0, 0.1), pushed)[:3], 0.0, atol=1e-9)  # and stays there
    assert direction((0.3, 0.1, 0.2))[-1] == -1


def test_a_clumsy_try_keeps_its_aim_until_the_fingers_have_opened_again_or_time_is_up():
    spy = Spy()
    clumsy = Clumsy(spy, ERRANDS["lift"], np.random.default_rng(0))
    grips = [1.0, 1.0, 0.5, 0.5, 1.0, 1.0]
    for i, grip in enumerate(grips):
        clumsy.action(see(i * STEP_S, grip=grip), SPEC)
    aims = np.array(spy.seen)[:, :3]
    assert (aims[:4] == aims[0]).all() and (aims[4:] == aims[4]).all() and (aims[0] != aims[4]).all()
    clumsy.action(see(0.4 + TRY_S - 0.01), SPEC)
    clumsy.action(see(0.4 + TRY_S + 0.01), SPEC)
    assert (spy.seen[-2][:3] == aims[4]).all() and (spy.seen[-1][:3] != aims[4]).all()


def test_clumsy_aims_scatter_sideways_and_upwards():
    spy = Spy()
    for seed in range(2000):
        Clumsy(spy, ERRANDS["lift"], np.random.default_rng(seed)).action(see(0.0), SPEC)
    errors = np.array(spy.seen)[:, :3] - [0.5, 0.0, 0.0]
    np.testing.assert_allclose(errors[:, :2].std(0), AIM_M, rtol=0.1)
    np.testing.assert_allclose(errors[:, :2].mean(0), 0.0, atol=0.1 * AIM_M)
    assert errors[:, 2].min() >= 0.0


@pytest.mark.parametrize(("task", "habits"), [("lift", 3), ("pick_place_can", 4), ("nut_assembly_square", 4)])
def test_the_wrong_operator_has_every_habit_about_as_often(task, habits):
    minds = []
    for seed in range(400):
        person = operators.make_operator("wrong", task, shared_env(task), seed).person
        offset = person.expert._offset if isinstance(person.expert, Misled) else ()
        minds.append((type(person.expert).__name__, tuple(offset)))
    counts = [minds.count(one) for one in sorted(set(minds))]
    assert len(counts) == habits and min(counts) > 0.7 * 400 / habits


def demonstrate(env: RobotEnv, task: str, name: str, seed: int) -> Recorder:
    human = operators.make_operator(name, task, env, seed)
    recorder = Recorder()
    control = Intervention(HoldPolicy(env.action_spec.dim), human, env.action_spec)
    run_episode(env, control, [recorder], phase="demo", seed=30_000 + seed)
    return recorder


def actions(recorder: Recorder) -> FloatArray:
    return np.array([step.executed_action for step in recorder.steps])


def test_the_same_seed_is_the_same_episode_and_another_one_is_not():
    env = shared_env("lift")
    for name in ("expert", "clumsy"):
        one, other = demonstrate(env, "lift", name, 1), demonstrate(env, "lift", name, 1)
        np.testing.assert_array_equal(actions(one), actions(other))
    human = operators.make_operator("expert", "lift", env, 2)
    env.reset(seed=30_001)
    human.reset("demo")
    assert not np.array_equal(human.read().action[:3], one.steps[0].executed_action[:3])


def test_nobody_gives_up():
    env = shared_env("lift")
    for seed in range(3):
        last = demonstrate(env, "lift", "wrong", seed).steps[-1]
        assert last.truncated and not last.terminated and last.step == env.config.max_steps - 1


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(ERRANDS))
def test_the_expert_succeeds_and_the_wrong_one_does_not(task):
    env = shared_env(task)
    assert all(demonstrate(env, task, "expert", seed).ends[0].success for seed in range(2))
    assert not any(demonstrate(env, task, "wrong", seed).ends[0].success for seed in range(4))


@pytest.mark.slow
def test_the_clumsy_one_succeeds_now_and_then_and_slowly():
    env = shared_env("lift")
    ends = [demonstrate(env, "lift", "clumsy", seed).ends[0] for seed in range(8)]
    expert = demonstrate(env, "lift", "expert", 0).ends[0]
    steps = [end.steps for end in ends if end.success]
    assert 2 <= len(steps) <= 7 and np.mean(steps) > 1.3 * expert.steps


def test_beside_is_beside():
    """The wrong operator's hand stays clear of the cube and closes on nothing."""
    env = shared_env("lift")
    recorder = Recorder()
    human = operators.make_operator("expert", "lift", env, 0)
    human.person.expert = Misled(human.person.expert, "cube", -BESIDE_M * AWAY)
    env.reset(seed=30_000)
    before = env.snapshot().task.poses["cube"][:2]
    run_episode(env, Intervention(HoldPolicy(4), human, env.action_spec), [recorder], phase="demo", seed=30_000)
    moved = env.snapshot().task.poses["cube"][:2] - before
    assert np.linalg.norm(moved) < 0.005 and (actions(recorder)[:, -1] < 0).any()


def test_unknown_operators_and_tasks_are_named():
    env = shared_env("lift")
    with pytest.raises(UnknownNameError, match="clumsy"):
        operators.make_operator("exprt", "lift", env, 0)
    with pytest.raises(UnknownNameError, match="lift"):
        operators.make_operator("expert", "wipe", env, 0)
