"""Experts succeed on seeds that they were not written on, also from disturbed states."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl import frames
from robot_rl.env import RobotEnv
from robot_rl.errors import UnknownNameError
from sim.experts import NAMES, make_expert
from sim.experts.base import Expert, action_towards
from sim.robosuite_world import RobosuiteWorld
from sim.tasks import TASKS
from tests.sim.conftest import shared_env

# Three times the mean length at full speed, rounded up.
MAX_STEPS = {
    "lift": 45,
    "door": 80,
    "pick_place_can": 160,
    "nut_assembly_square": 130,
    "stack": 90,
    "wipe": 130,
}


def solve(env: RobotEnv, expert: Expert, max_steps: int) -> list[float] | None:
    """Progress before every step, or None when the task was not solved in time."""
    progress = []
    for _ in range(max_steps):
        snapshot = env.snapshot()
        progress.append(expert.progress(snapshot))
        action = expert.action(snapshot, env.action_spec)
        env.action_spec.check(action)
        assert np.abs(action).max() <= 1.0
        if env.step(action)[2]:
            return [*progress, expert.progress(env.snapshot())]
    return None


@pytest.mark.parametrize("task", sorted(TASKS))
def test_expert_solves_held_out_seeds(task: str) -> None:
    env = shared_env(task)
    for seed in (20_001, 20_002):
        env.reset(seed=seed)
        progress = solve(env, make_expert(task), MAX_STEPS[task])
        assert progress is not None, f"seed {seed}"
        assert min(progress) >= 0.0 and max(progress) == progress[-1] == 1.0
        falls = np.minimum(np.diff(progress), 0.0)
        assert progress[0] < 0.4 and falls.sum() > -0.3, "progress should rise, but for small setbacks"


@pytest.mark.parametrize("task", ["lift", "door"])
def test_expert_solves_the_task_with_the_other_arm(task: str) -> None:
    env = shared_env(task, "ur5e")
    env.reset(seed=20_003)
    assert solve(env, make_expert(task), MAX_STEPS[task]) is not None


@pytest.mark.parametrize("task", ["lift", "door", "stack"])
def test_expert_recovers_after_random_actions(task: str) -> None:
    env, rng = shared_env(task), np.random.default_rng(0)
    for seed in (20_004, 20_005):
        env.reset(seed=seed)
        for _ in range(20):
            env.step(rng.uniform(-1, 1, env.action_spec.dim))
        assert solve(env, make_expert(task), MAX_STEPS[task]) is not None, f"seed {seed}"


def test_lift_expert_recovers_from_a_closed_gripper_on_top_of_the_cube() -> None:
    env = shared_env("lift")
    env.reset(seed=20_006)
    for _ in range(25):
        cube = env.snapshot().task.poses["cube"][:3]
        env.step(action_towards(env.snapshot(), env.action_spec, cube, gripper=-1.0))
    assert not env.snapshot().task.success
    assert solve(env, make_expert("lift"), MAX_STEPS["lift"]) is not None


def test_can_expert_fetches_a_can_that_lies_across_the_fingers() -> None:
    env = shared_env("pick_place_can")
    env.reset(seed=20_010)
    assert isinstance(env.world, RobosuiteWorld)
    env.world.data.joint("Can_joint0").qpos[3:] = (0.5**0.5, 0.0, 0.5**0.5, 0.0)  # its axis along the base's x
    for _ in range(10):
        env.step(np.zeros(env.action_spec.dim))
    assert abs(frames.quat_to_matrix(env.snapshot().task.poses["can"][3:])[2, 2]) < 0.1, "it should lie"
    assert solve(env, make_expert("pick_place_can"), MAX_STEPS["pick_place_can"]) is not None


def test_one_expert_serves_many_episodes_and_can_take_over_at_any_step() -> None:
    env, expert = shared_env("lift"), make_expert("lift")
    for seed, handed_over in ((20_007, 3), (20_008, 9), (20_009, 12)):
        env.reset(seed=seed)
        other = make_expert("lift")
        for _ in range(handed_over):
            env.step(other.action(env.snapshot(), env.action_spec))
        assert solve(env, expert, MAX_STEPS["lift"]) is not None


def test_every_task_has_an_expert() -> None:
    assert set(NAMES) == {*TASKS, "gym_hil_pick"}
    with pytest.raises(UnknownNameError, match="lift, nut_assembly_square"):
        make_expert("lft")
