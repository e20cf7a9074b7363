"""Hidden worlds: repeatable, reached through the interface alone, richer than what a twin can be."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from robot_rl.errors import RobotRlError, UnknownNameError
from sim.cousins.hidden import FAMILIES, HiddenWorld, draw_truth, hidden_arm_env, hidden_env, hidden_world
from sim.experts import make_expert
from sim.process_env import ProcessEnv


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_world_can_be_done_and_its_seed_says_all_of_it(family: str) -> None:
    assert draw_truth(family, 3).physics == draw_truth(family, 3).physics != draw_truth(family, 4).physics
    env = hidden_env(family, 3)
    done = []
    for seed in range(4):
        env.reset(seed=seed)
        expert = make_expert(env.world.task.expert)  # type: ignore[attr-defined]
        for _ in range(env.config.max_steps):
            _, _, success, cut, _ = env.step(expert.action(env.snapshot(), env.action_spec))
            if success or cut:
                break
        done.append(success)
    assert done.count(True) >= 2
    first, second = env.reset(seed=9)[0]["state"], hidden_env(family, 3).reset(seed=9)[0]["state"]
    np.testing.assert_array_equal(first, second)
    with pytest.raises(UnknownNameError, match="door"):
        draw_truth("window", 0)


def test_friction_falls_with_speed() -> None:
    world = hidden_world("door", 0)
    dof = int(world.model.joint("cabinet/door_0").dofadr[0])
    world.data.qvel[dof] = 0.0
    world._before_torques()
    at_rest = float(world.model.dof_frictionloss[dof])
    world.data.qvel[dof] = 1.0
    world._before_torques()
    moving = float(world.model.dof_frictionloss[dof])
    hidden = world.config.unmodelled
    assert at_rest == pytest.approx(hidden.stribeck_ratio * moving, rel=1e-6)
    world.data.qvel[dof] = hidden.stribeck_rad_s
    world._before_torques()
    between = moving * (1.0 + (hidden.stribeck_ratio - 1.0) * np.exp(-1.0))
    assert float(world.model.dof_frictionloss[dof]) == pytest.approx(between, rel=1e-6)


def test_a_handle_has_play() -> None:
    world = hidden_world("door", 0)
    play = world.model.joint("cabinet/handle_play_0")
    assert 0.001 < float(play.range[1] - play.range[0]) < 0.003


@pytest.mark.usefixtures("opengl")
def test_through_a_process_the_env_is_the_same() -> None:
    task = draw_truth("drawer", 1).task
    remote, local = ProcessEnv(partial(hidden_env, "drawer", 1), task.env), hidden_env("drawer", 1)
    try:
        ours, theirs = local.reset(seed=5)[0]["state"], remote.reset(seed=5)[0]["state"]
        np.testing.assert_array_equal(ours, theirs)
        rng = np.random.default_rng(0)
        for _ in range(5):
            action = rng.uniform(-1.0, 1.0, 4)
            a, b = local.step(action), remote.step(action)
            np.testing.assert_array_equal(a[0]["state"], b[0]["state"])
            assert a[1:4] == b[1:4]
            np.testing.assert_array_equal(a[4]["executed_action"], b[4]["executed_action"])
        mine, other = local.snapshot(), remote.snapshot()
        np.testing.assert_allclose(other.arm.pose_base_tcp, mine.arm.pose_base_tcp)
        np.testing.assert_allclose(other.arm.joint_pos_rad, mine.arm.joint_pos_rad)
        assert other.task.scalars == mine.task.scalars and set(other.task.poses) == set(mine.task.poses)
        frame, pose, _ = remote.look(0)
        assert frame.color.shape == (480, 640, 3) and frame.depth_m is not None
        seen = frame.depth_m[frame.depth_m > 0]
        assert 0.3 < np.median(seen) < 3.0 and pose.shape == (7,)
        with pytest.raises(RobotRlError, match="action has shape"):
            remote.step(np.zeros(3))
        remote.step(np.zeros(4))  # and goes on
    finally:
        remote.close()
    with pytest.raises(RobotRlError, match="is gone"):
        remote.reset(seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_success_is_told_through_the_process(family: str) -> None:
    config = draw_truth(family, 0).task.env
    remote = ProcessEnv(partial(hidden_env, family, 0), config)
    try:
        remote.reset(seed=0)
        assert remote.step(np.zeros(config.action_spec.dim))[2] is False and remote.snapshot().task.success is False
    finally:
        remote.close()


def test_a_cleared_bench_has_the_worlds_own_arm() -> None:
    world, bench = hidden_world("drawer", 5), hidden_arm_env(5, family="drawer").world
    assert isinstance(bench, HiddenWorld)
    assert bench.layout.physics == draw_truth("drawer", 5).physics == world.layout.physics
    assert world.layout.objects and not bench.layout.objects
    arm = [world.model.joint(name).dofadr[0] for name in world.arm.joint_names]
    np.testing.assert_array_equal(bench.model.dof_frictionloss[:7], world.model.dof_frictionloss[arm])
