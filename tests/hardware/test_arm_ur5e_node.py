"""The arm node against a node that behaves as ur_robot_driver does, over DDS."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import WrenchStamped
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from hardware.arm_binding import load_binding
from hardware.nodes.guard import GuardNode, GuardNodeConfig
from hardware.nodes.native_messages import QOS
from hardware.ros_messages import header, joints_message
from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from tests.hardware.arm_rig import DRIVER, Rig, circle

BINDING = load_binding("ur5e")
JOINTS = [joint.name for joint in BINDING.joints]
RATE_HZ = 125.0
KNUCKLE = "robotiq_85_left_knuckle_joint"
SERVICES = (
    "dashboard_client/unlock_protective_stop",
    "dashboard_client/brake_release",
    "io_and_status_controller/resend_robot_program",
    "dashboard_client/stop",
)


class FakeUrDriver(Node):
    """joint_state_broadcaster (alphabetical, gripper apart), scaled_joint_trajectory_controller on its topic,
    latched robot_program_running, dashboard services. The arm moves as the controller's spline would."""

    def __init__(self, context: Context) -> None:
        super().__init__("ur_robot_driver", namespace=DRIVER, context=context, use_global_arguments=False)
        self.pos = np.array(BINDING.home_joints_rad)
        self.accepted = 0
        self.refused: list[str] = []
        self.calls: list[str] = []
        self.gripper: list[float] = []
        self.knuckle_rad = 0.3
        self.emergency_stop = False
        self.publishes = True
        self._goal: tuple[float, FloatArray] | None = None
        self._order = sorted(JOINTS)
        self._states = self.create_publisher(JointState, "joint_states", 10)
        self._wrenches = self.create_publisher(WrenchStamped, "force_torque_sensor_broadcaster/wrench", 10)
        self._running = self.create_publisher(Bool, "io_and_status_controller/robot_program_running", QOS["latched"])
        self._trajectories = self.create_subscription(
            JointTrajectory, "scaled_joint_trajectory_controller/joint_trajectory", self._on_trajectory, 10
        )
        self.create_subscription(Float64MultiArray, "gripper/commands", self._on_gripper, 10)
        for name in SERVICES:
            self.create_service(Trigger, name, lambda request, response, name=name: self._on_call(name, response))
        self._running.publish(Bool(data=True))
        self.create_timer(1.0 / RATE_HZ, self._step)

    def listens(self) -> bool:
        return self.count_publishers("scaled_joint_trajectory_controller/joint_trajectory") > 0

    def set_emergency_stop(self, pressed: bool) -> None:
        """Pressed: the program ends, and stays ended until it is sent again."""
        self.emergency_stop = pressed
        if pressed:
            self._goal = None
            self._running.publish(Bool(data=False))

    def _on_call(self, name: str, response: Trigger.Response) -> Trigger.Response:
        self.calls.append(name)
        response.success = not name.endswith("unlock_protective_stop")  # it was none
        response.message = "" if response.success else "no protective stop"
        if name.endswith("resend_robot_program") and not self.emergency_stop:
            self._running.publish(Bool(data=True))
        return response

    def _on_trajectory(self, message: JointTrajectory) -> None:
        if self.emergency_stop:
            return
        problem = self._problem(message)
        if problem:
            self.refused.append(problem)
            return
        order = [list(message.joint_names).index(name) for name in JOINTS]
        (point,) = message.points
        horizon_s = point.time_from_start.sec + point.time_from_start.nanosec * 1e-9
        self.accepted += 1
        self._goal = (time.monotonic() + horizon_s, np.array(point.positions)[order])

    def _problem(self, message: JointTrajectory) -> str:
        """As joint_trajectory_controller validates: all joints, no others, times, sizes, start time."""
        if sorted(message.joint_names) != sorted(JOINTS):
            return f"joints {message.joint_names}"
        points = list(message.points)
        if len(points) != 1 or len(points[0].positions) != len(JOINTS):
            return "points"
        if points[0].time_from_start == Duration():
            return "time_from_start"
        return "" if message.header.stamp == Time() else "start time in the past"

    def _on_gripper(self, message: Float64MultiArray) -> None:
        self.gripper.append(message.data[0])
        self.knuckle_rad = message.data[0]

    def _step(self) -> None:
        now_s, before = time.monotonic(), self.pos.copy()
        if self._goal is not None:
            left_s = self._goal[0] - now_s
            share = 1.0 if left_s <= 1.0 / RATE_HZ else 1.0 / (RATE_HZ * left_s)
            self.pos = self.pos + (self._goal[1] - self.pos) * share
        velocity = (self.pos - before) * RATE_HZ
        if not self.publishes:
            return
        order = [JOINTS.index(name) for name in self._order]
        stamp_s = time.time()
        message = joints_message(self._order, self.pos[order], stamp_s)
        message.velocity = velocity[order].tolist()
        self._states.publish(message)
        self._states.publish(joints_message([KNUCKLE], np.array([self.knuckle_rad]), stamp_s))
        wrench = WrenchStamped(header=header(stamp_s, "tool0_controller"))
        wrench.wrench.force.z = 5.0
        self._wrenches.publish(wrench)


VELOCITY_SCALE = 0.2
OVERRIDES = [
    "native.gripper.kind=float64_array",
    "native.gripper.command=gripper/commands",
    f"native.command.velocity_scale={VELOCITY_SCALE}",
]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(FakeUrDriver, "ur5e", OVERRIDES)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


def test_tracks_a_moving_target_and_stops_when_the_guard_does(rig: Rig) -> None:
    observer, driver = rig.observer, rig.driver
    rig.keep(0.3)
    assert driver.accepted == 0, "something was sent before the guard spoke"
    start = observer.pose()
    expected = BINDING.kinematics().forward(np.array(BINDING.home_joints_rad))
    np.testing.assert_allclose(start, expected, atol=1e-6)

    steps = itertools.count()
    rig.keep(2.0, lambda: observer.send_pose(circle(start, 0.03, next(steps) * 0.03), "base_link"))
    target = circle(start, 0.03, next(steps) * 0.03)
    close = 1e-3

    def arrived() -> bool:
        return float(np.linalg.norm(observer.pose()[:3] - target[:3])) < close

    rig.until(arrived, "the arm to reach the target", lambda: observer.send_pose(target, "base_link"))
    assert frames.geodesic_rad(observer.pose()[3:], target[3:]) < 1e-2
    assert driver.refused == []
    assert np.linalg.norm(observer.pose()[:3] - start[:3]) > 0.01
    assert observer.age_s() < 1.0

    rig.keep(0.5)  # the guard is silent
    sent, position = driver.accepted, driver.pos.copy()
    rig.keep(0.5)
    assert driver.accepted == sent
    np.testing.assert_allclose(driver.pos, position, atol=1e-9)


def test_state_topics_carry_the_contract(rig: Rig) -> None:
    observer = rig.observer
    rig.until(lambda: {"external_wrench", "gripper/state"} <= set(observer.newest), "wrench and gripper")
    joints = observer.newest["joint_states"]
    assert list(joints.name) == JOINTS  # the driver sends them in alphabetical order
    np.testing.assert_allclose(joints.position, BINDING.home_joints_rad, atol=1e-9)
    assert observer.newest["current_pose"].header.frame_id == "base_link"
    # At home the tool looks down: 5 N along the flange's z are 5 N down.
    force = observer.newest["external_wrench"].wrench.force
    np.testing.assert_allclose([force.x, force.y, force.z], [0.0, 0.0, -5.0], atol=1e-6)
    assert observer.newest["gripper/state"].position[0] == pytest.approx(1 - 0.3 / 0.7929)

    rig.until(lambda: bool(rig.driver.gripper), "a gripper command", lambda: observer.send_gripper(0.0))
    assert rig.driver.gripper == [pytest.approx(0.7929)]
    rig.until(lambda: observer.newest["gripper/state"].position[0] < 0.01, "the gripper to close")
    rig.keep(0.2, lambda: observer.send_gripper(0.0))
    assert len(rig.driver.gripper) == 1, "the same opening was sent again"


def test_a_far_target_takes_its_time(rig: Rig) -> None:
    observer, driver = rig.observer, rig.driver
    far = observer.pose() + np.array([0.0, 0.15, 0.0, 0.0, 0.0, 0.0, 0.0])
    started_s, start = time.monotonic(), driver.pos.copy()
    rig.until(
        lambda: bool(np.linalg.norm(observer.pose()[:3] - far[:3]) < 2e-3),
        "the arm to get there",
        lambda: observer.send_pose(far, "base_link"),
    )
    shortest_s = np.max(np.abs(driver.pos - start) / (BINDING.column("velocity_rad_s") * VELOCITY_SCALE))
    assert shortest_s > 0.3
    assert time.monotonic() - started_s > shortest_s


def test_unreachable_and_foreign_targets_move_nothing(rig: Rig) -> None:
    observer, driver = rig.observer, rig.driver
    pose = observer.pose()
    outside = pose + np.array([2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    rig.keep(0.5, lambda: observer.send_pose(outside, "base_link"))
    rig.keep(0.3, lambda: observer.send_pose(pose, "base"))  # the controller's frame is not ours
    rig.keep(0.2, lambda: observer.send_pose(pose * np.nan, "base_link"))
    assert driver.accepted == 0
    np.testing.assert_allclose(driver.pos, BINDING.home_joints_rad, atol=1e-12)


def test_emergency_stop_needs_recover(rig: Rig) -> None:
    observer, driver = rig.observer, rig.driver
    pose = observer.pose() + np.array([0.0, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0])

    def send() -> None:
        observer.send_pose(pose, "base_link")

    rig.until(lambda: driver.accepted > 5, "commands", send)
    driver.set_emergency_stop(True)
    rig.until(lambda: observer.newest["arm/fault"].data != "", "the fault to be told", send)
    assert "robot_program_running" in observer.newest["arm/fault"].data
    rig.keep(0.2, send)
    sent = driver.accepted
    rig.keep(0.3, send)
    assert driver.accepted == sent

    response = rig.call(observer.recover)  # the button is still pressed
    assert not response.success and "robot_program_running" in response.message
    driver.set_emergency_stop(False)
    rig.keep(0.3, send)
    assert driver.accepted == sent, "it moved again without recover"

    driver.calls.clear()
    response = rig.call(observer.recover)
    assert response.success, response.message
    assert "no protective stop" in response.message  # told, but not what matters
    assert driver.calls == list(SERVICES[:3])
    rig.keep(0.3)
    assert driver.accepted == sent, "it moved again before a new target"
    rig.until(lambda: driver.accepted > sent, "commands after recover", send)
    rig.until(lambda: observer.newest["arm/fault"].data == "", "the fault to be gone")

    assert rig.call(observer.stop).success
    assert driver.calls[-1] == "dashboard_client/stop"


def test_silent_driver_and_deactivation_stop_commands(rig: Rig) -> None:
    observer, driver = rig.observer, rig.driver
    pose = observer.pose() + np.array([0.0, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0])

    def send() -> None:
        observer.send_pose(pose, "base_link")

    rig.until(lambda: driver.accepted > 5, "commands", send)
    driver.publishes = False
    rig.keep(0.5, send)
    sent = driver.accepted
    rig.keep(0.3, send)
    assert driver.accepted == sent
    driver.publishes = True
    rig.until(lambda: driver.accepted > sent, "commands again", send)

    rig.arm.trigger_deactivate()
    rig.keep(0.2)
    sent = driver.accepted
    rig.keep(0.3, send)
    assert driver.accepted == sent


def test_behind_the_real_guard(rig: Rig) -> None:
    """Policy requests reach the arm through the guard's process logic, and its hold keeps the arm."""
    observer, driver = rig.observer, rig.driver
    # Patient deadlines: a busy machine must not disarm it in the middle of the test.
    patient = "{state_timeout_s: 5.0, control_period_s: 0.5, clock_jump_s: 10.0}"
    rig.add(GuardNode("guard", GuardNodeConfig, rig.context, f"{{robot: ur5e, guard: {patient}}}"))
    start = observer.pose()
    target = start + np.array([0.0, 0.03, -0.02, 0.0, 0.0, 0.0, 0.0])

    def ask() -> None:
        observer.send_pose(target, "base_link", source="policy")

    rig.keep(0.3, ask)
    assert driver.accepted == 0, "the guard was not armed"
    response = rig.call(observer.create_client(Trigger, "guard/arm"))
    assert response.success, response.message
    # Millimetres are left: the guard holds what it measured last when a request comes late.
    rig.until(lambda: bool(np.linalg.norm(observer.pose()[:3] - target[:3]) < 2e-3), "the target", ask)
    assert driver.refused == []
    rig.keep(1.5)  # the last request expires after 1 s
    held = observer.pose()
    rig.keep(0.5)
    np.testing.assert_allclose(observer.pose(), held, atol=1e-3)
    assert np.linalg.norm(observer.pose()[:3] - target[:3]) < 0.01


def test_gripper_action_that_is_not_installed_is_named() -> None:
    rig = Rig(FakeUrDriver, "ur5e", [])
    try:
        with pytest.raises(ConfigError, match="control_msgs/action/GripperCommand"):
            rig.arm.configure()
    finally:
        rig.close()
