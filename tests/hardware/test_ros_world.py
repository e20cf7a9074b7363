"""`RosWorld` against real processes: the env's contract over topics, time, resets and what may go wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from hardware import ros_messages
from hardware.ros_world import RosWorld, RosWorldConfig
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import ConfigError, DisarmedError, HardwareError, StaleError, UnknownNameError
from robot_rl.typed import to_dataclass
from robot_rl.types import ArmTarget
from tests.hardware.guard_rig import PATIENCE_S, Rig, shifted

ENV = EnvConfig(translation_m=0.01, objects=("cube",), scalars=("seed",), max_steps=1000)
LENIENT = RosWorldConfig(state_deadline_s=1.0, camera_deadline_s=2.0, guard_timeout_s=2.0, service_timeout_s=PATIENCE_S)
"""A busy machine must not fail what is not about time."""
AHEAD = np.array([1.0, 0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as made:
        yield made.start_robot(cameras=["front", "wrist"])


@pytest.fixture(scope="module")
def shared_world(rig: Rig) -> Iterator[RosWorld]:
    made = RosWorld(replace(LENIENT, namespace=rig.namespace, cameras=("front", "wrist")))
    yield made
    made.close()


@pytest.fixture
def world(rig: Rig, shared_world: RosWorld) -> Iterator[RosWorld]:
    yield shared_world
    rig.call("guard/release")


def test_an_env_over_topics_moves_the_arm_and_reports_what_was_executed(world: RosWorld) -> None:
    env = RobotEnv(world, replace(ENV, cameras=("front", "wrist"), image_hw=(48, 64)))
    observation, _ = env.reset(seed=5)
    env.observation_spec.check(observation)
    start = env.snapshot().arm.pose_base_tcp[0]
    executed = []
    for _ in range(15):
        observation, _, terminated, truncated, info = env.step(0.5 * AHEAD)
        env.observation_spec.check(observation)
        executed.append(info["executed_action"][0])
        assert not truncated
        if terminated:
            break
    assert observation["image/front"][0, 40, 1] == 11
    assert observation["image/wrist"][0, 40, 1] == 22
    assert env.snapshot().arm.pose_base_tcp[0] - start > 0.04
    assert np.median(executed) == pytest.approx(0.5, abs=0.05)
    assert np.max(np.abs(executed)) <= 1.0


def test_resets_repeat_with_their_seed_and_are_complete_when_they_return(world: RosWorld) -> None:
    env = RobotEnv(world, ENV)
    cubes = []
    for seed in (3, 4, 3):
        env.reset(seed=seed)
        snapshot = env.snapshot()
        assert snapshot.task.scalars["seed"] == world.last_seed == seed
        np.testing.assert_allclose(snapshot.arm.pose_base_tcp[:3], [0.5, 0.0, 0.3])
        cubes.append(snapshot.task.poses["cube"])
        for _ in range(3):
            env.step(AHEAD)
    np.testing.assert_array_equal(cubes[0], cubes[2])
    assert not np.allclose(cubes[0], cubes[1])
    env.reset()
    assert world.last_seed == 4  # without a seed they count up


def test_bug_7_time_is_kept_and_accounted_for(world: RosWorld) -> None:
    reset_before_s = world.reset_s
    world.reset(1)
    assert world.reset_s > reset_before_s
    lost_s, control_s, began_s = world.lost_s, world.control_s, time.monotonic()
    for tick in range(10):
        time.sleep(0.08 * (tick % 2))  # inference takes its time, inside the period: 0.4 s in all
        world.advance(0.1)
    took_s = time.monotonic() - began_s
    assert took_s == pytest.approx(1.0 + world.lost_s - lost_s, abs=0.2)
    assert world.control_s - control_s == pytest.approx(took_s, abs=0.05)
    control_s, late = world.control_s, world.late_ticks
    time.sleep(0.25)
    world.advance(0.1)
    assert world.late_ticks == late + 1  # more than a period late: the grid starts anew
    began_s = time.monotonic()
    world.advance(0.1)
    assert time.monotonic() - began_s > 0.05
    assert world.control_s - control_s > 0.3


def test_executed_target_is_the_guards_and_its_stamp_the_observations(world: RosWorld) -> None:
    world.reset(1)
    wish = shifted(world.arm.state().pose_base_tcp, 0.02)
    executed = None
    for _ in range(20):  # a busy machine may need more than one
        state = world.arm.state()
        world.arm.command(ArmTarget(state.stamp_s, wish, 0.0))
        executed = world.advance(0.15)
        assert executed is not None
        same_stamp = abs(executed.stamp_s - state.stamp_s) < 1e-6
        if same_stamp and np.allclose(executed.pose_base_tcp, wish, atol=1e-6):
            break
    else:
        pytest.fail(f"asked for {wish}, got {executed}")
    assert executed is not None and executed.gripper_position == 0.0
    far = shifted(state.pose_base_tcp, 0.3)
    state = world.arm.state()
    world.arm.command(ArmTarget(state.stamp_s, far, 0.0))
    clipped = world.advance(0.1)
    assert clipped is not None
    assert clipped.pose_base_tcp[0] < state.pose_base_tcp[0] + 0.1


def test_gripper_is_unknown_to_the_guard_until_somebody_asks(world: RosWorld) -> None:
    world.reset(1)
    executed = world.advance(0.05)
    assert executed is not None
    assert executed.gripper_position == 1.0  # open, as measured at the reset


def test_sources_reach_the_guard_and_hand_over_both_ways(rig: Rig, world: RosWorld) -> None:
    env = RobotEnv(world, ENV)
    env.reset(seed=1)
    for source in ("policy", "human", "policy"):
        for _ in range(30):
            env.step(0.1 * AHEAD, source=source)
            if rig.status["source"] == source:
                break
        assert rig.status["source"] == source
    with pytest.raises(UnknownNameError, match="human, policy, reset"):
        world.arm.command(replace(ArmTarget(0.0, np.zeros(7), 1.0), source="hold"))


def test_a_guard_that_disarms_ends_the_episode(rig: Rig, world: RosWorld) -> None:
    env = RobotEnv(world, ENV)
    env.reset(seed=1)
    env.step(AHEAD)
    rig.call("guard/disarm")
    with pytest.raises(HardwareError, match="disarmed by hand"):
        for _ in range(20):
            env.step(AHEAD)
    env.reset(seed=1)
    env.step(AHEAD)


def test_motion_reset_brings_the_arm_home_through_the_guard(rig: Rig) -> None:
    rig.call("guard/release")
    rig.call("reset_world")
    home = (0.56, -0.05, 0.33, 0.0, 1.0, 0.0, 0.0)
    config = replace(LENIENT, namespace=rig.namespace, node_name="mover", reset="motion", home_pose_base_tcp=home)
    world = RosWorld(config)
    try:
        rig.targets.clear()
        world.reset(None)
        np.testing.assert_allclose(world.arm.state().pose_base_tcp[:3], home[:3], atol=0.012)
        stream = np.array([pose[:3] for _, pose, _ in rig.targets])
        assert len(stream) > 10
        assert np.linalg.norm(np.diff(stream, axis=0), axis=1).max() < 0.03  # it walked, it did not leap
        rig.wait(lambda: rig.status["source"] == "hold", "the hold after the reset")
        assert rig.status["armed"] == "true"
        unreachable = replace(config, home_pose_base_tcp=(0.5, 0.0, -0.2, 0, 1.0, 0, 0), reset_timeout_s=1.0)
        world.config = unreachable  # below the workspace
        with pytest.raises(StaleError, match="did not reach its home pose"):
            world.reset(None)
    finally:
        world.close()
        rig.call("guard/release")


def test_person_reset_waits_for_the_person(rig: Rig) -> None:
    config = replace(LENIENT, namespace=rig.namespace, node_name="patient", reset="person")
    world = RosWorld(config)
    try:
        done = threading.Event()
        thread = threading.Thread(target=lambda: (world.reset(None), done.set()))
        thread.start()
        time.sleep(0.5)
        assert not done.is_set()
        client = rig.link.node.create_client(Trigger, "patient/reset_done")
        for _ in range(30):  # it does not count before the reset has begun to wait
            rig.link.call(client, Trigger.Request(), PATIENCE_S)
            if done.wait(1.0):
                break
        thread.join(PATIENCE_S)
        assert done.is_set()
        assert rig.status["armed"] == "true"
        world.config = replace(config, reset_timeout_s=0.3)
        with pytest.raises(StaleError, match="nobody called patient/reset_done"):
            world.reset(None)
    finally:
        world.close()


def test_motion_reset_needs_a_home() -> None:
    with pytest.raises(ConfigError, match="home_pose_base_tcp"):
        RosWorldConfig(reset="motion")
    with pytest.raises(ConfigError, match="home_pose_base_tcp"):
        RosWorldConfig(reset="motion", home_pose_base_tcp=(0.5, 0, 0.3, 0, 0, 0, 0))


@pytest.mark.parametrize("name", ["guard_timeout_s", "state_deadline_s", "home_rate_hz"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_deadlines_are_positive_numbers(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a positive number"):
        to_dataclass(RosWorldConfig, {name: value})


def test_a_silent_graph_gives_clear_errors() -> None:
    with Rig() as empty:
        config = RosWorldConfig(namespace=empty.namespace, cameras=("front",), service_timeout_s=0.3)
        world = RosWorld(config)
        try:
            with pytest.raises(StaleError, match=r"guard/release is not there.*running"):
                world.reset(0)
            with pytest.raises(StaleError, match="current_pose, joint_states"):
                world.arm.state()
            with pytest.raises(StaleError, match="task/state"):
                world.task_state()
            with pytest.raises(StaleError, match="camera 'front'"):
                world.cameras["front"].read()
            assert world.advance(0.01) is None  # a guard that never spoke
        finally:
            world.close()


def test_a_killed_robot_and_a_killed_guard_are_noticed_and_a_restarted_robot_is_used_again() -> None:
    with Rig() as rig:
        rig.start_robot()
        world = RosWorld(replace(LENIENT, namespace=rig.namespace))
        try:
            env = RobotEnv(world, ENV)
            env.reset(seed=1)
            env.step(AHEAD)
            rig.processes["sim_robot"].kill()
            rig.wait(lambda: rig.status["armed"] == "false", "the guard to disarm")
            assert "arm state is" in rig.status["reason"]
            with pytest.raises(StaleError, match="current_pose"):
                for _ in range(60):
                    world.arm.state()
                    time.sleep(0.1)
            response = rig.call("guard/arm")
            assert not response.success and "old" in response.message
            with pytest.raises(HardwareError, match=r"not armed.*arm state is"):
                world.advance(0.05)
            rig.start_sim()
            env.reset(seed=1)
            env.step(AHEAD)
            rig.processes["guard"].kill()
            with pytest.raises(StaleError, match="published no target"):
                for _ in range(100):
                    env.step(AHEAD)
            time.sleep(0.3)
            held = rig.poses[-1].copy()
            time.sleep(0.3)
            np.testing.assert_allclose(rig.poses[-1], held, atol=1e-4)
        finally:
            world.close()


@pytest.mark.slow
def test_robosuite_behind_the_topics() -> None:
    """The same seed places the same cube, and the TCP follows the same env that trains in lockstep."""
    with Rig() as rig:
        rig.start("guard", robot="sim_panda", guard={"expire_periods": 10.0, "state_timeout_s": 2.0})
        rig.start("sim_robot", robot="sim_panda", task="lift", cameras=[])
        world = RosWorld(replace(LENIENT, namespace=rig.namespace))
        try:
            env = RobotEnv(world, replace(ENV, scalars=()))
            cubes, starts = [], []
            for seed in (5, 5, 6):
                env.reset(seed=seed)
                cubes.append(env.snapshot().task.poses["cube"][:2])
                starts.append(env.snapshot().arm.pose_base_tcp[:3])
            np.testing.assert_allclose(cubes[0], cubes[1], atol=1e-6)
            np.testing.assert_allclose(starts[0], starts[1], atol=1e-3)
            assert np.linalg.norm(cubes[0] - cubes[2]) > 1e-3
            start = env.snapshot().arm
            assert len(start.joint_pos_rad) == 7
            for _ in range(10):
                env.step(np.array([0.0, 0.0, 1.0, -1.0]))
            arm = env.snapshot().arm
            assert start.pose_base_tcp[2] - arm.pose_base_tcp[2] > 0.05  # TCP z points down
            assert arm.gripper_position < 0.2
        finally:
            world.close()


def test_joints_of_another_arm_are_named() -> None:
    """They were said to be silent."""
    with Rig() as rig:
        world = RosWorld(RosWorldConfig(namespace=rig.namespace, joint_names=("a", "z"), state_deadline_s=0.1))
        joints = rig.link.node.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        try:
            rig.wait(lambda: joints.get_subscription_count() > 0, "discovery")
            for _ in range(5):
                joints.publish(ros_messages.joints_message(["a", "b"], np.zeros(2), rig.link.now_s()))
                time.sleep(0.02)
            with pytest.raises(StaleError, match=r"tells of \['a', 'b'\], never of \['z'\]"):
                world.arm.state()
        finally:
            world.close()


def test_messages_of_a_careless_driver() -> None:
    """Partial, foreign and unsound messages: what is usable is used, the rest counted, nothing invented."""
    with Rig() as rig:
        config = replace(
            LENIENT,
            namespace=rig.namespace,
            cameras=("front",),
            joint_names=("a", "b"),
            required=("joint_states", "gripper/state"),
            task=False,
            image_hw=(8, 8),
            state_deadline_s=1.0,
        )
        world = RosWorld(config)
        node, sensor = rig.link.node, qos_profile_sensor_data
        joints = node.create_publisher(JointState, "joint_states", sensor)
        gripper = node.create_publisher(JointState, "gripper/state", sensor)
        pose = node.create_publisher(PoseStamped, "current_pose", sensor)
        twist = node.create_publisher(TwistStamped, "current_twist", sensor)
        image = node.create_publisher(Image, "front/color/image_raw", sensor)
        try:
            for publisher in (joints, gripper, pose, twist, image):
                rig.wait(lambda publisher=publisher: publisher.get_subscription_count() > 0, "discovery")
            rig.wait(lambda: pose.get_subscription_count() > 1, "the ear, too")
            sound = np.array([0.4, 0.1, 0.2, 0.0, 1.0, 0.0, 0.0])

            def send(now_s: float) -> None:
                joints.publish(ros_messages.joints_message(["b", "finger"], np.array([2.0, 9.0]), now_s))
                joints.publish(ros_messages.joints_message(["a", "b"], np.array([1.0, np.nan]), now_s))
                gripper.publish(ros_messages.gripper_message(1.2, now_s))
                gripper.publish(JointState(header=ros_messages.header(now_s)))
                twist.publish(ros_messages.twist_message(np.full(6, np.nan), now_s, "base"))
                pose.publish(ros_messages.pose_message(sound, now_s, "base"))
                pose.publish(ros_messages.pose_message(sound * 0.0, now_s, "base"))
                pose.publish(ros_messages.pose_message(sound * np.nan, now_s, "base"))
                image.publish(ros_messages.image_message(np.full((12, 16, 3), 77, np.uint8), now_s, "c"))

            for _ in range(10):
                send(rig.link.now_s())
                time.sleep(0.02)
            state = world.arm.state()
            np.testing.assert_array_equal(state.pose_base_tcp, sound)
            np.testing.assert_array_equal(state.joint_pos_rad, [1.0, 2.0])
            np.testing.assert_array_equal(state.twist_base_tcp, np.zeros(6))
            assert state.gripper_position == 1.0
            assert world.rejected["joint_states"] >= 1
            assert world.rejected["gripper/state"] >= 1
            assert world.rejected["current_pose"] >= 2
            assert world.rejected["current_twist"] >= 1
            assert world.cameras["front"].read().color.shape == (8, 8, 3)
            task = world.task_state()
            assert (dict(task.poses), dict(task.scalars), task.success) == ({}, {}, False)
            broken = Image(header=ros_messages.header(rig.link.now_s()), encoding="yuv422", height=2, width=2)
            image.publish(broken)
            time.sleep(0.3)
            with pytest.raises(HardwareError, match="yuv422"):
                world.cameras["front"].read()
            time.sleep(1.2)  # past the deadline, though the last messages are still there
            with pytest.raises(StaleError, match="current_pose, joint_states, gripper/state silent"):
                world.arm.state()
        finally:
            world.close()


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.2])
def test_a_person_who_disarms_during_a_reset_is_not_overruled(rig: Rig, world: RosWorld, delay_s: float) -> None:
    """Whenever the click comes: either the reset ends disarmed, or the episode does at its first step."""
    world.reset(1)
    clicked = threading.Timer(delay_s, lambda: rig.call("guard/disarm"))
    clicked.start()
    with pytest.raises(DisarmedError, match="by hand"):
        world.reset(1)
        clicked.join()
        for _ in range(20):
            world.advance(0.1)
    clicked.join()
    rig.wait(lambda: rig.status["armed"] == "false", "the guard to be disarmed")
    time.sleep(0.5)
    assert rig.status["armed"] == "false"
    world.reset(1)  # the person's `resume` comes as another reset
    assert rig.status["armed"] == "true"
