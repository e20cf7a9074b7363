"""The twin as a node: follows topics, says when it is blind, and proposes to the guard when it leads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState

from hardware import ros_messages
from hardware.nodes import twin as twin_node
from hardware.nodes.twin import TwinNode, TwinNodeConfig, make_twin_model
from robot_rl.errors import ConfigError
from robot_rl.types import TaskState
from tests.hardware.ros_rig import Ros, ros, wait_for
from tests.twin_scene import BLOCK, JOINTS, small_twin

__all__ = ["ros"]
pytestmark = pytest.mark.processes
REST = np.array([0.0, 0.0, 0.1])


class Robot:
    """Publishes the state of a robot that stands still, 20 ms late, and hears the twin."""

    def __init__(self, ros: Ros) -> None:
        node = ros.node("robot")
        sensor = qos_profile_sensor_data
        self._joints = node.create_publisher(JointState, "joint_states", sensor)
        self._task = node.create_publisher(JointState, "task/state", sensor)
        self.requests = node.create_publisher(PoseStamped, "twin/policy/target_pose", QoSProfile(depth=1))
        self.block, self.joints = BLOCK, REST
        self.sees, self.tasks, self.proposals = True, [], []
        self.wrenches: list[WrenchStamped] = []
        self.statuses: list[DiagnosticStatus] = []
        self.innovations: list[JointState] = []
        node.create_subscription(JointState, "twin/task/state", self.tasks.append, sensor)
        node.create_subscription(JointState, "twin/innovation", self.innovations.append, sensor)
        node.create_subscription(WrenchStamped, "twin/correction/block", self.wrenches.append, sensor)
        node.create_subscription(PoseStamped, "policy/target_pose", self.proposals.append, QoSProfile(depth=10))
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def block_seen(self) -> np.ndarray:
        task = ros_messages.read_task(self.tasks[-1])
        assert task is not None
        return task.poses["block"]

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            now_s = time.time()
            self._joints.publish(ros_messages.joints_message(JOINTS, self.joints, now_s))
            if self.sees:
                task = TaskState(now_s - 0.02, {"block": self.block}, {"depth": 0.5}, False)
                self._task.publish(ros_messages.task_message(task, now_s - 0.02))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses.extend(status for status in message.status if status.name == "twin")


@pytest.fixture
def robot(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> Iterator[Robot]:
    monkeypatch.setattr(twin_node, "make_twin_model", lambda config, robot: small_twin("block"))
    robot = Robot(ros)
    yield robot
    robot.close()


def start(ros: Ros, **extra: str) -> TwinNode:
    """The node, worked by a thread of the fixture's executor through a timer."""
    options = "".join(f", {key}: {value}" for key, value in extra.items())
    config = f"{{robot: '', sync: {{bank: {{particles: 2}}, inbox: {{joint_timeout_s: 0.5}}}}{options}}}"
    node = TwinNode("twin", TwinNodeConfig, ros.context, config)
    assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() is TransitionCallbackReturn.SUCCESS
    node.create_timer(0.005, lambda: node.work() and None)
    ros.add(node)
    return node


def test_follows_the_block_and_publishes_what_it_did_not_expect(ros: Ros, robot: Robot) -> None:
    start(ros)
    wait_for(lambda: len(robot.tasks) > 30, "the twin to speak")
    np.testing.assert_allclose(robot.block_seen(), BLOCK, atol=1e-3)
    robot.block = np.add(BLOCK, [0.004, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    wait_for(lambda: abs(robot.block_seen()[0] - 0.204) < 1e-3, "the twin to follow")
    assert any(abs(message.wrench.force.x) > 0.01 for message in robot.wrenches)
    names = dict(zip(robot.innovations[-1].name, robot.innovations[-1].position, strict=True))
    assert set(names) == {f"block.{key}" for key in ("x", "y", "z", "rx", "ry", "rz", "nis")}
    told = ros_messages.read_task(robot.tasks[-1])
    assert told is not None and told.scalars == {"depth": 0.5}
    assert not robot.proposals  # it follows


def test_says_that_it_is_blind_and_holds(ros: Ros, robot: Robot) -> None:
    start(ros)
    wait_for(lambda: any(one.level == DiagnosticStatus.OK for one in robot.statuses), "in step")
    values = {pair.key: pair.value for pair in robot.statuses[-1].values}
    assert values["predictive.block"] == "True" and values["tracking_failures"] == "0"
    robot.sees = False
    wait_for(lambda: "blind: no pose of block" in robot.statuses[-1].message, "the twin to say so")
    assert robot.statuses[-1].level == DiagnosticStatus.ERROR
    held, robot.joints = robot.block_seen(), REST + 0.01
    time.sleep(0.2)
    np.testing.assert_array_equal(robot.block_seen(), held)
    robot.sees = True
    wait_for(lambda: robot.statuses[-1].level == DiagnosticStatus.OK, "the twin to see again")


def test_leading_it_asks_the_guard_for_where_its_tcp_is(ros: Ros, robot: Robot) -> None:
    node = start(ros, leads="true", lead="{max_lead_m: 0.03}")
    wait_for(lambda: robot.tasks, "the twin to speak")
    assert not robot.proposals  # nobody drives
    goal = np.array([0.1, 0.0, 0.15, 1.0, 0.0, 0.0, 0.0])  # 10 cm ahead; the robot does not move
    asked_s = time.time()

    def ask() -> bool:
        robot.requests.publish(ros_messages.pose_message(goal, time.time(), "base"))
        return bool(robot.proposals) and robot.proposals[-1].pose.position.x > 0.025

    wait_for(ask, "proposals")
    time.sleep(0.3)
    farthest = max(message.pose.position.x for message in robot.proposals)
    assert 0.025 < farthest < 0.045  # it waits for the robot
    stamps = [ros_messages.seconds_of(message.header.stamp) for message in robot.proposals]
    assert min(stamps) >= asked_s - 1e-3 and len(set(stamps)) > 1  # the policy's own stamps
    node.trigger_deactivate()
    wait_for(lambda: ros_messages.seconds_of(robot.proposals[-1].header.stamp) == 0.0, "the withdrawal")


def test_it_needs_a_scene_or_a_task() -> None:
    with pytest.raises(ConfigError, match="needs `scene`"):
        make_twin_model(TwinNodeConfig(), "panda")


def test_a_node_that_could_not_be_set_up_can_be_shut_down(ros: Ros, capfd: pytest.CaptureFixture[str]) -> None:
    node = TwinNode("twin", TwinNodeConfig, ros.context, "{scene: /nowhere}")
    assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
    node.trigger_shutdown()
    told = capfd.readouterr().err
    assert "/nowhere" in told and "AttributeError" not in told
