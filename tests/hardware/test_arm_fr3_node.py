"""The arm node against a node that behaves as franka_ros2 with crisp_controllers does, over DDS."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, UInt8
from std_srvs.srv import Trigger

from hardware.arm_binding import load_binding
from hardware.ros_messages import gripper_message, joints_message, pose_message, read_pose
from robot_rl import frames
from robot_rl.types import FloatArray
from tests.hardware.arm_rig import DRIVER, Rig, circle

BINDING = load_binding("fr3")
JOINTS = [joint.name for joint in BINDING.joints]
RATE_HZ = 100.0
IDLE, REFLEX = 1, 4  # franka::RobotMode
SHUFFLED = [3, 0, 6, 2, 5, 1, 4]


class FakeFrankaDriver(Node):
    """Cartesian impedance control of a frictionless arm: the TCP is drawn to the last target, as a first
    order lag, whether or not anyone still sends it. Joint names come shuffled, with the fingers among them,
    and without velocities. franka_msgs is not among the wheels: a UInt8 stands for its robot_mode."""

    def __init__(self, context: Context) -> None:
        super().__init__("franka_driver", namespace=DRIVER, context=context, use_global_arguments=False)
        self.kinematics = BINDING.kinematics()
        self.pos = np.array(BINDING.home_joints_rad)
        self.received: list[FloatArray] = []
        self.mode = IDLE
        self.gripper: list[float] = []
        self.width = 1.0
        self._target: FloatArray | None = None
        sensor = qos_profile_sensor_data
        self._states = self.create_publisher(JointState, "joint_states", sensor)
        self._poses = self.create_publisher(PoseStamped, "current_pose", sensor)
        self._modes = self.create_publisher(UInt8, "robot_mode", sensor)
        self._grippers = self.create_publisher(JointState, "gripper/joint_states", 10)
        self.create_subscription(PoseStamped, "target_pose", self._on_target, 1)
        self.create_subscription(
            Float64MultiArray, "gripper/gripper_position_controller/commands", self._on_gripper, 10
        )
        self.create_service(Trigger, "error_recovery", self._on_recovery)
        self.create_timer(1.0 / RATE_HZ, self._step)

    def listens(self) -> bool:
        return self.count_publishers("target_pose") > 0

    def _on_target(self, message: PoseStamped) -> None:
        self._target = read_pose(message)
        self.received.append(self._target)

    def _on_gripper(self, message: Float64MultiArray) -> None:
        self.gripper.append(message.data[0])
        self.width = message.data[0]

    def _on_recovery(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.mode, self._target, response.success = IDLE, None, True
        return response

    def _step(self) -> None:
        if self._target is not None and self.mode == IDLE:
            pose = self.kinematics.forward(self.pos)
            pose[:3] += 0.2 * (self._target[:3] - pose[:3])
            turn = frames.quat_multiply(frames.quat_inverse(pose[3:]), self._target[3:])
            pose[3:] = frames.quat_multiply(pose[3:], frames.rotvec_to_quat(0.2 * frames.quat_to_rotvec(turn)))
            self.pos = self.kinematics.inverse(pose, self.pos)
        stamp_s = time.time()
        names = [JOINTS[index] for index in SHUFFLED] + ["fr3_finger_joint1"]
        self._states.publish(joints_message(names, np.append(self.pos[SHUFFLED], 0.04), stamp_s))
        self._poses.publish(pose_message(self.kinematics.forward(self.pos), stamp_s, "base"))
        self._modes.publish(UInt8(data=self.mode))
        self._grippers.publish(joints_message(["gripper_joint"], np.array([self.width]), stamp_s))


OVERRIDES = [
    "native.faults.0.topic=robot_mode",
    "native.faults.0.type=std_msgs/msg/UInt8",
    "native.faults.0.field=data",
    "native.recover=[{name: error_recovery}]",
]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(FakeFrankaDriver, "fr3", OVERRIDES)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


def test_tracks_a_moving_target_and_holds_the_measured_pose_when_the_guard_is_silent(rig: Rig) -> None:
    observer, driver = rig.observer, rig.driver
    rig.keep(0.3)
    assert driver.received == [], "something was sent before the guard spoke"
    start = observer.pose()
    steps = itertools.count()
    rig.keep(1.5, lambda: observer.send_pose(circle(start, 0.03, next(steps) * 0.03), "base"))
    target = circle(start, 0.03, next(steps) * 0.03)
    rig.until(
        lambda: bool(np.linalg.norm(observer.pose()[:3] - target[:3]) < 1e-3),
        "the arm to reach the target",
        lambda: observer.send_pose(target, "base"),
    )
    # The pose goes through untouched.
    np.testing.assert_allclose(driver.received[-1], target, atol=1e-12)

    far = observer.pose() + np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0])
    before = len(driver.received)
    rig.until(lambda: len(driver.received) > before, "a command", lambda: observer.send_pose(far, "base"))
    rig.keep(0.6)  # the guard is silent: the last command must be where the arm was, not `far`
    sent, held = len(driver.received), driver.received[-1]
    rig.keep(0.3)
    assert len(driver.received) == sent, "the hold is sent once"
    # It had been drawn towards `far` for as long as the guard counted as alive.
    np.testing.assert_allclose(driver.kinematics.forward(driver.pos)[:3], held[:3], atol=2e-3)


def test_shuffled_names_and_missing_velocities(rig: Rig) -> None:
    observer = rig.observer
    start = observer.pose()
    joints = observer.newest["joint_states"]
    assert list(joints.name) == JOINTS
    np.testing.assert_allclose(joints.position, BINDING.home_joints_rad, atol=1e-9)
    speeds: list[float] = []
    started_s = time.monotonic()

    def move() -> None:
        upwards_m = 0.1 * (time.monotonic() - started_s)
        observer.send_pose(start + np.array([0, 0, upwards_m, 0, 0, 0, 0]), "base")
        speeds.append(observer.newest["current_twist"].twist.linear.z)

    rig.keep(1.5, move)
    # 0.1 m/s once the lag has settled, from differences of positions alone.
    assert np.median(speeds[len(speeds) // 2 :]) == pytest.approx(0.1, rel=0.5)

    rig.until(lambda: bool(rig.driver.gripper), "a gripper command", lambda: observer.send_gripper(0.25))
    assert rig.driver.gripper == [pytest.approx(0.25)]


def test_an_intruder_on_the_guards_topics_is_not_obeyed(rig: Rig) -> None:
    """The guard falls silent when somebody else publishes targets: nobody may steer in its place."""
    observer, driver = rig.observer, rig.driver
    pose = observer.pose()
    rig.until(lambda: len(driver.received) > 5, "commands", lambda: observer.send_pose(pose, "base"))
    rig.until(lambda: bool(driver.gripper), "a gripper command", lambda: observer.send_gripper(0.25))
    intruders = [
        rig.driver.create_publisher(kind, f"/cell/{topic}", 1)
        for kind, topic in ((PoseStamped, "target_pose"), (JointState, "gripper/target"))
    ]
    rig.until(lambda: rig.arm.count_publishers("gripper/target") == 2, "the intruder to be seen")
    rig.keep(0.5)  # the guard's last target expires
    sent, elsewhere = len(driver.received), pose_message(pose + np.eye(7)[2] * 0.05, time.time(), "base")

    def intrude() -> None:
        for intruder, message in zip(intruders, (elsewhere, gripper_message(1.0, time.time())), strict=True):
            intruder.publish(message)

    rig.keep(0.5, intrude)
    assert len(driver.received) == sent
    assert driver.gripper == [pytest.approx(0.25)]


def test_reflex_needs_recover(rig: Rig) -> None:
    observer, driver = rig.observer, rig.driver
    pose = observer.pose() + np.array([0.0, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0])

    def send() -> None:
        observer.send_pose(pose, "base")

    rig.until(lambda: len(driver.received) > 5, "commands", send)
    driver.mode = REFLEX
    rig.until(lambda: "robot_mode is 4" in observer.newest["arm/fault"].data, "the fault to be told", send)
    sent = len(driver.received)
    rig.keep(0.3, send)
    assert len(driver.received) <= sent + 1  # one may have been under way
    assert rig.call(observer.recover).success
    rig.keep(0.3)
    sent = len(driver.received)
    rig.until(lambda: len(driver.received) > sent, "commands after recover", send)

    response = rig.call(observer.stop)
    assert not response.success and "no stop calls" in response.message


def test_process_refuses_shared_topics_and_names_what_is_wrong() -> None:
    """`python -m hardware.nodes.arm` in the driver's own namespace would hear itself."""
    command = [sys.executable, "-m", "hardware.nodes.arm", "--config", "{robot: fr3}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "/current_pose" in done.stderr + done.stdout and "namespace" in done.stderr + done.stdout


def test_process_starts_without_franka_msgs_and_ends_on_a_signal() -> None:
    command = [sys.executable, "-u", "-m", "hardware.nodes.arm", "--config", "{robot: fr3}"]
    process = subprocess.Popen(
        [*command, "--ros-args", "-r", "__ns:=/cell"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RCUTILS_LOGGING_USE_STDOUT": "1"},
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "ready" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0, "".join(lines)
    finally:
        process.kill()
        process.wait()
    assert any("franka_msgs/msg/FrankaRobotState" in line and "not watched" in line for line in lines), lines
