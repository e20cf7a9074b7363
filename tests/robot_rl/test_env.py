"""The environment's arithmetic, on a world that says exactly what happened."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robot_rl.env import LEASH_STEPS, EnvConfig, RobotEnv
from robot_rl.errors import ConfigError, SpecError, UnknownNameError
from robot_rl.types import ArmTarget
from tests.kinematic_world import KinematicWorld

CONFIG = EnvConfig(action=("x", "y", "z", "gripper"), translation_m=0.02, objects=("goal",), scalars=("height_m",))


def make(**world):
    env = RobotEnv(KinematicWorld(**world), CONFIG)
    env.reset(seed=1)
    return env


def test_action_moves_the_tcp_by_its_scale_in_the_tcp_frame():
    env = make()
    start = env.snapshot().arm.pose_base_tcp
    env.step(np.array([0.5, 0.0, 1.0, 0.0]))
    moved = env.snapshot().arm.pose_base_tcp
    # the tool points down (half turn about x): its z is the base's -z
    np.testing.assert_allclose(moved[:3] - start[:3], [0.01, 0.0, -0.02], atol=1e-9)


def test_directions_that_the_action_does_not_control_do_not_drift():
    env = make()
    for _ in range(20):
        env.step(np.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(env.world.commands[-1].pose_base_tcp[3:], [0, 1, 0, 0], atol=1e-12)


def test_target_never_leads_by_more_than_the_leash():
    env = make(tracking=0.0)
    for _ in range(20):
        env.step(np.array([1.0, 1.0, 0.0, 0.0]))
    lead = env.world.commands[-1].pose_base_tcp[:3] - env.snapshot().arm.pose_base_tcp[:3]
    assert np.linalg.norm(lead) <= (LEASH_STEPS + np.sqrt(2)) * CONFIG.translation_m + 1e-9


def test_command_carries_the_stamp_of_its_observation_and_its_source():
    env = make()
    stamp_s = env.snapshot().arm.stamp_s
    env.step(np.zeros(4), source="human")
    assert env.world.commands[-1].stamp_s == stamp_s
    assert env.world.commands[-1].source == "human"


def test_executed_action_is_what_the_guard_let_through():
    env = make()
    start = env.snapshot().arm.pose_base_tcp
    clipped = start.copy()
    clipped[0] += 0.005
    env.world.override = ArmTarget(0.0, clipped, 1.0)
    *_, info = env.step(np.array([1.0, 1.0, 0.0, -1.0]))
    np.testing.assert_allclose(info["executed_action"], [0.25, 0.0, 0.0, 0.0], atol=1e-6)


def test_a_gripper_that_has_changed_keeps_its_target_for_a_while():
    config = replace(CONFIG, gripper_hold_s=0.3)
    env = RobotEnv(KinematicWorld(), config)
    env.reset(seed=1)
    opened, closed = np.array([0, 0, 0, 1.0]), np.array([0, 0, 0, -1.0])
    wishes = [closed, opened, closed, opened, opened, closed, closed]  # 10 Hz: free again three steps later
    executed = [env.step(one)[4]["executed_action"][3] for one in wishes]
    assert executed == [-1, 0, 0, 1, 0, 0, -1]
    assert [command.gripper_position for command in env.world.commands] == [0, 0, 0, 1, 1, 1, 0]
    env.reset(seed=1)
    assert env.step(closed)[4]["executed_action"][3] == -1  # a new episode begins free


def test_timeout_truncates_and_success_terminates():
    env = RobotEnv(KinematicWorld(), EnvConfig(max_steps=3, objects=("goal",)))
    env.reset(seed=0)
    outcomes = [env.step(np.zeros(4))[1:4] for _ in range(3)]
    assert outcomes == [(0.0, False, False), (0.0, False, False), (0.0, False, True)]
    env.reset(seed=0)
    env.world.goal = env.world.pose.copy()
    assert env.step(np.zeros(4))[1:4] == (1.0, True, False)


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(4, np.nan), np.array([0, 0, np.inf, 0])])
def test_bad_actions_are_refused_with_a_name(bad):
    env = make()
    with pytest.raises(SpecError):
        env.step(bad)


def test_observation_is_independent_of_where_the_base_stands():
    first = make()
    other = RobotEnv(KinematicWorld(), CONFIG)
    other.world.reset = lambda seed: KinematicWorld.reset(other.world, seed)
    other.reset(seed=1)
    turn = np.array([np.cos(0.4), 0, 0, np.sin(0.4)])
    from robot_rl import frames

    base = np.concatenate([[1.0, -2.0, 0.5], turn])
    original = KinematicWorld.reset

    def moved(seed):
        original(other.world, seed)
        other.world.pose = frames.compose(base, other.world.pose)
        other.world.goal = frames.compose(base, other.world.goal)

    other.world.reset = moved
    a, _ = first.reset(seed=5)
    b, _ = other.reset(seed=5)
    np.testing.assert_allclose(a["state"][:-1], b["state"][:-1], atol=1e-5)


def test_gymnasium_accepts_it_with_images():
    env = RobotEnv(
        KinematicWorld(image_hw=(8, 8)),
        EnvConfig(cameras=("front",), image_hw=(8, 8), objects=("goal",)),
    )
    check_env(env, skip_render_check=True)
    observation, _ = env.reset(seed=0)
    env.observation_spec.check(observation)
    assert len(env.observation_spec.arrays["state"].names) == observation["state"].shape[0]


@pytest.mark.parametrize("what", ["objects", "scalars", "cameras"])
def test_names_that_the_world_does_not_show_are_met_with_those_that_it_does(what):
    shown = {"objects": "goal", "scalars": "height_m", "cameras": "front"}
    env = RobotEnv(KinematicWorld(image_hw=(8, 8)), EnvConfig(**{what: ("sphere",)}))
    with pytest.raises(UnknownNameError, match=f"env.{what} 'sphere'; valid choices: {shown[what]}"):
        env.reset(seed=0)


@pytest.mark.parametrize("rate_hz", [0.0, -10.0, float("nan"), 1e5])
def test_rates_that_no_arm_takes(rate_hz: float):
    with pytest.raises(ConfigError, match="rate_hz must be above 0 and at most 1000"):
        EnvConfig(rate_hz=rate_hz)
