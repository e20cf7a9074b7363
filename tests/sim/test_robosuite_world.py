"""Lockstep physics: exact repetition, tracking of pose targets, frames and units."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import ArmTarget
from sim.arm import START_QUAT_BASE_TCP
from sim.robosuite_world import RobosuiteWorld, RobosuiteWorldConfig
from sim.tasks import TASKS, make_world
from tests.sim.conftest import shared_env, shared_world


def episode_digest(seed: int, steps: int = 12) -> str:
    """Hash of every bit of the observations of one Lift episode with random actions."""
    env = shared_env("lift")
    rng, digest = np.random.default_rng(seed), hashlib.sha256()
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        digest.update(observation["state"].tobytes())
        digest.update(env.world.data.qpos.tobytes())  # type: ignore[attr-defined]
        observation, *_ = env.step(rng.uniform(-1, 1, env.action_spec.dim))
    return digest.hexdigest()


def test_same_seed_gives_the_same_bits_after_other_episodes() -> None:
    first = episode_digest(5)
    assert episode_digest(6) != first
    assert episode_digest(5) == first


@pytest.mark.parametrize("threads", ["1", "2"])
def test_same_seed_gives_the_same_bits_in_another_process(threads: str) -> None:
    """Whatever the number of threads that numpy's linear algebra uses there."""
    code = "from tests.sim.test_robosuite_world import episode_digest; print(episode_digest(5))"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": threads}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == episode_digest(5)


def test_reset_leaves_global_generators_alone_and_ignores_them() -> None:
    world = shared_world("lift")
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    world.reset(3)
    cube = world.task_state().poses["cube"]
    assert np.random.random() == np.random.RandomState(1).random()  # noqa: NPY002
    assert random.random() == random.Random(1).random()
    np.random.seed(2)  # noqa: NPY002
    world.reset(3)
    assert np.array_equal(world.task_state().poses["cube"], cube)


def test_unseeded_resets_differ_and_follow_the_stream_seed() -> None:
    starts = []
    for stream_seed in (7, 7, 8):
        world = make_world("lift", stream_seed=stream_seed)
        cubes = []
        for _ in range(2):
            world.reset(None)
            cubes.append(world.task_state().poses["cube"])
        assert not np.array_equal(cubes[0], cubes[1])
        starts.append(cubes)
    assert np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


def test_seed_moves_cube_and_arm_within_their_ranges() -> None:
    world = shared_world("lift")
    arms, cubes = [], []
    for seed in range(20):
        world.reset(seed)
        arms.append(world.arm.state().pose_base_tcp)
        cubes.append(world.task_state().poses["cube"])
    arm_spread, cube_spread = np.ptp(arms, axis=0), np.ptp(cubes, axis=0)
    assert (arm_spread[:3] > 0.02).all() and (arm_spread[:3] <= 0.0401).all()
    assert np.abs(np.array(arms)[:, 3:] @ START_QUAT_BASE_TCP) == pytest.approx(1.0, abs=1e-6)
    assert (cube_spread[:2] > 0.02).all() and (cube_spread[:2] <= 0.0601).all()


def test_time_cut_into_pieces_gives_the_same_bits() -> None:
    world = shared_world("lift")
    ends = []
    for pieces in ([0.1] * 3, [0.02] * 15, [0.013, 0.087, 0.05, 0.051, 0.099]):
        world.reset(0)
        target = world.arm.state().pose_base_tcp + np.array([0.03, 0.02, -0.02, 0, 0, 0, 0])
        world.arm.command(ArmTarget(0.0, target, 0.0))
        for piece in pieces:
            world.advance(piece)
        ends.append(world.data.qpos.copy())
        assert world.time_s == pytest.approx(0.3, abs=1e-9)
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[0], ends[2])


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_arm_reaches_the_commanded_pose(robot: str) -> None:
    world = shared_world("lift", robot)
    rng = np.random.default_rng(0)
    for seed in range(4):
        world.reset(seed)
        start = world.arm.state().pose_base_tcp
        step = np.concatenate([rng.uniform(-0.06, 0.06, 3), frames.rotvec_to_quat(rng.uniform(-0.3, 0.3, 3))])
        step[2] = -abs(step[2])  # away from the table
        target = frames.compose(start, step)
        world.arm.command(ArmTarget(0.0, target, 1.0))
        world.advance(1.0)
        state = world.arm.state()
        assert np.linalg.norm(state.pose_base_tcp[:3] - target[:3]) < 1e-3
        assert frames.geodesic_rad(state.pose_base_tcp[3:], target[3:]) < 5e-3
        assert np.abs(state.twist_base_tcp).max() < 0.02


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_target_two_centimetres_ahead_moves_the_arm_at_a_fifth_of_a_metre_per_second(robot: str, axis: int) -> None:
    world = shared_world("lift", robot)
    world.reset(0)
    step = np.append(np.eye(3)[axis] * (-0.02 if axis == 2 else 0.02), [1.0, 0.0, 0.0, 0.0])
    moved = []
    for _ in range(6):
        before = world.arm.state()
        world.arm.command(ArmTarget(0.0, frames.compose(before.pose_base_tcp, step), 1.0))
        world.advance(0.1)
        moved.append(frames.relative(before.pose_base_tcp, world.arm.state().pose_base_tcp)[:3])
    assert np.array(moved[2:]) == pytest.approx(np.tile(step[:3], (4, 1)), abs=1.5e-3)
    assert np.linalg.norm(world.arm.state().twist_base_tcp[:3]) == pytest.approx(0.2, abs=0.02)


def test_far_target_is_approached_at_the_speed_limit() -> None:
    world = shared_world("lift")
    world.reset(0)
    start = world.arm.state().pose_base_tcp
    world.arm.command(ArmTarget(0.0, start + np.array([0.2, 0, 0.1, 0, 0, 0, 0]), 1.0))
    speeds = []
    for _ in range(20):
        world.advance(0.02)
        speeds.append(np.linalg.norm(world.arm.state().twist_base_tcp[:3]))
    assert max(speeds) < 1.25 * world.config.controller.max_speed_m_s


def test_repeating_a_target_changes_nothing_once_it_is_reached() -> None:
    world = shared_world("lift")
    world.reset(0)
    target = world.arm.state().pose_base_tcp + np.array([0.04, 0, 0, 0, 0, 0, 0])
    for _ in range(60):
        world.arm.command(ArmTarget(0.0, target, 1.0))
        world.advance(0.01)
    assert world.arm.state().pose_base_tcp == pytest.approx(target, abs=2e-3)


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_tcp_z_points_out_along_the_gripper_between_the_fingers(robot: str) -> None:
    world = shared_world("lift", robot)
    world.reset(0)
    state, data = world.arm.state(), world.data
    rotation = frames.quat_to_matrix(state.pose_base_tcp[3:])
    base = data.body("robot0_base")
    fingers = [data.body(f"gripper0_right_{side}finger").xpos - base.xpos for side in ("left", "right")]
    from_fingers = state.pose_base_tcp[:3] - np.mean(fingers, axis=0)
    assert rotation[:, 2] @ from_fingers / np.linalg.norm(from_fingers) == pytest.approx(1.0, abs=1e-2)
    apart = fingers[0] - fingers[1]
    assert abs(rotation[:, 0] @ apart) == pytest.approx(np.linalg.norm(apart), rel=1e-3)
    assert rotation[:, 2] == pytest.approx([0.0, 0.0, -1.0], abs=1e-3)


def test_gripper_closes_and_opens_over_its_stroke() -> None:
    world = shared_world("lift")
    world.reset(0)
    pose = world.arm.state().pose_base_tcp
    assert world.arm.state().gripper_position == pytest.approx(1.0, abs=0.02)
    world.arm.command(ArmTarget(0.0, pose, 0.0))
    world.advance(0.25)
    assert 0.3 < world.arm.state().gripper_position < 0.75
    world.advance(1.0)
    assert world.arm.state().gripper_position < 0.03
    world.arm.command(ArmTarget(0.0, pose, 1.0))
    world.advance(1.2)
    assert world.arm.state().gripper_position > 0.97


def test_wrench_is_zero_at_rest_and_points_up_when_pressing_on_the_table() -> None:
    world = shared_world("lift")
    world.reset(0)
    world.advance(0.5)
    assert world.arm.state().wrench_base == pytest.approx(np.zeros(6), abs=0.05)
    pose = world.arm.state().pose_base_tcp + np.array([-0.1, 0, 0, 0, 0, 0, 0])
    pose[2] = -0.13  # the table top is at -0.112
    world.arm.command(ArmTarget(0.0, pose, 0.0))
    world.advance(2.0)
    assert world.arm.state().wrench_base[2] > 20.0


def test_clock_stamps_everything() -> None:
    times = iter(np.arange(100.0, 200.0))
    world = make_world("lift", clock=lambda: float(next(times)))
    assert world.arm.state().stamp_s == 100.0
    assert world.task_state().stamp_s == 101.0


@pytest.mark.parametrize("pose", [np.full(7, np.nan), np.zeros(7), np.array([0.4, 0, 0.1, 2.0, 0, 0, 0]), np.zeros(6)])
def test_malformed_target_is_refused_and_changes_nothing(pose: np.ndarray) -> None:
    world = shared_world("lift")
    world.reset(0)
    world.advance(0.2)
    with pytest.raises(ConfigError, match="unit quaternion"):
        world.arm.command(ArmTarget(0.0, pose, 1.0))
    before = world.arm.state().pose_base_tcp
    world.advance(0.2)
    assert world.arm.state().pose_base_tcp == pytest.approx(before, abs=1e-4)


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="panda, ur5e"):
        RobosuiteWorld(RobosuiteWorldConfig(robot="sawyer9"))
    with pytest.raises(UnknownNameError, match="Lift"):
        RobosuiteWorld(RobosuiteWorldConfig(env_name="Lyft"))
    with pytest.raises(UnknownNameError, match="cube_main"):
        RobosuiteWorld(RobosuiteWorldConfig(objects={"cube": "body:kube"}))
    with pytest.raises(UnknownNameError, match="agentview"):
        RobosuiteWorld(RobosuiteWorldConfig(cameras={"front": "nowhere"}))


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_world_asks_for_little_memory_and_has_room_for_its_contacts(task: str) -> None:
    """A process whose addresses exceed the machine's memory cannot fork."""
    world = shared_world(task)
    world.reset(0)
    assert world.model.narena == 64 << 20
    assert 0 < world.data.maxuse_arena < (64 << 20) // 10


def test_snapshots_are_copies() -> None:
    world = shared_world("lift")
    world.reset(0)
    state, task = world.arm.state(), world.task_state()
    pose, joints, cube = state.pose_base_tcp.copy(), state.joint_pos_rad.copy(), task.poses["cube"].copy()
    world.arm.command(ArmTarget(0.0, pose + np.array([0.05, 0, 0, 0, 0, 0, 0]), 1.0))
    world.advance(0.5)
    mujoco.mj_resetData(world.model, world.data)
    assert np.array_equal(state.pose_base_tcp, pose)
    assert np.array_equal(state.joint_pos_rad, joints)
    assert np.array_equal(task.poses["cube"], cube)


def test_a_simulation_that_diverges_stands_still_until_the_next_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log
    env, world = shared_env("lift"), shared_world("lift", "panda")
    rng, dim = np.random.default_rng(0), env.action_spec.dim
    env.reset(seed=1)
    for _ in range(3):
        env.step(rng.uniform(-1, 1, dim))
    before, time_s = world.data.qpos.copy(), world.time_s
    world.data.qvel[-1] = 1e12  # the cube spins as nothing can
    held = []
    for _ in range(3):
        *_, info = env.step(rng.uniform(-1, 1, dim))
        held.append(world.data.qpos.copy())
        assert not info["success"]
    assert world.diverged
    assert np.array_equal(held[0], held[-1])  # whatever it is told
    assert np.abs(held[0][:9] - before[:9]).max() < 0.05  # not where the model's first state is
    assert np.isfinite(held[0]).all()
    assert not world.data.qvel.any()
    assert world.time_s == pytest.approx(time_s + 3 / env.rate_hz)
    env.reset(seed=1)
    assert not world.diverged
    env.step(np.zeros(dim))
    assert not world.diverged


def test_what_follows_a_divergence_repeats_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = episode_digest(9)
    env, world = shared_env("lift"), shared_world("lift", "panda")
    env.reset(seed=3)
    world.data.qvel[-1] = 1e12
    env.step(np.zeros(env.action_spec.dim))
    assert world.diverged
    assert episode_digest(9) == first
