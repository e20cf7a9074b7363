"""The scripted person as a node: speaks when the phase asks for it, and only while it sees the robot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import String

from hardware import ros_messages
from hardware.nodes.human import PHASE, PHASE_QOS, SCRIPTED, PhaseMessage
from hardware.nodes.person import PersonNode, PersonNodeConfig
from tests.faults.fake_lift import FakeLift
from tests.hardware.ros_rig import Ros, ros, wait_for

__all__ = ["ros"]


class Robot:
    """Publishes the state of a robot that stands still, until it is silenced."""

    def __init__(self, ros: Ros) -> None:
        node = ros.node("robot")
        self.world = FakeLift()
        self._pose = node.create_publisher(PoseStamped, "current_pose", qos_profile_sensor_data)
        self._gripper = node.create_publisher(JointState, "gripper/state", qos_profile_sensor_data)
        self._task = node.create_publisher(JointState, "task/state", qos_profile_sensor_data)
        self._phase = node.create_publisher(String, PHASE, PHASE_QOS)
        self.heard: list[Joy] = []
        node.create_subscription(Joy, "human/joy", self.heard.append, 100)
        self.silent = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def say(self, phase: str, state: str) -> None:
        self._phase.publish(String(data=PhaseMessage(phase, 1, state).to_json()))

    def say_text(self, text: str) -> None:
        self._phase.publish(String(data=text))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            if self.silent:
                continue
            now_s, state = time.time(), self.world.state()
            self._gripper.publish(ros_messages.gripper_message(state.gripper_position, now_s))
            self._task.publish(ros_messages.task_message(self.world.task_state(), now_s))
            self._pose.publish(ros_messages.pose_message(state.pose_base_tcp, now_s, "base"))


@pytest.fixture
def robot(ros: Ros) -> Iterator[Robot]:
    robot = Robot(ros)
    yield robot
    robot.close()


@pytest.fixture
def person(ros: Ros, robot: Robot) -> PersonNode:
    config = "{task: lift, rate_hz: 20.0, overrides: ['person.hand_noise=0.0']}"
    person = PersonNode("person", PersonNodeConfig, ros.context, config)
    assert person.trigger_configure() is TransitionCallbackReturn.SUCCESS
    assert person.trigger_activate() is TransitionCallbackReturn.SUCCESS
    ros.add(person)
    return person


def test_demonstrates_towards_the_object(robot: Robot, person: PersonNode) -> None:
    robot.say("demo", "run")
    wait_for(lambda: len(robot.heard) >= 5, "five messages")
    joy = robot.heard[-1]
    assert joy.header.frame_id == SCRIPTED and list(joy.buttons) == [1] and len(joy.axes) == 4
    assert abs(ros_messages.seconds_of(joy.header.stamp) - time.time()) < 2.0
    # The hand looks down: its z axis points at the table, its x axis along the base's.
    offset = robot.world.task_state().poses["cube"][:2] - robot.world.state().pose_base_tcp[:2]
    assert np.dot([joy.axes[0], -joy.axes[1]], offset) > 0


def test_lets_go_when_the_episode_is_over(robot: Robot, person: PersonNode) -> None:
    robot.say("demo", "run")
    wait_for(lambda: robot.heard, "engaged")
    robot.say("demo", "idle")
    wait_for(lambda: list(robot.heard[-1].buttons) == [0], "released")
    count = len(robot.heard)
    time.sleep(0.3)
    assert len(robot.heard) == count


def test_gives_up_once_and_lets_go(ros: Ros, robot: Robot) -> None:
    """The robot stands still, so nothing comes further."""
    config = "{task: lift, rate_hz: 20.0, overrides: ['person.give_up_s=0.5']}"
    person = PersonNode("person", PersonNodeConfig, ros.context, config)
    verdicts: list[str] = []
    listener = ros.node("listener")
    listener.create_subscription(String, "human/verdict", lambda message: verdicts.append(message.data), 10)
    person.trigger_configure()
    person.trigger_activate()
    ros.add(person)
    robot.say("demo", "run")
    wait_for(lambda: verdicts, "a verdict")
    wait_for(lambda: list(robot.heard[-1].buttons) == [0], "released")
    time.sleep(0.7)
    assert verdicts == ["failure"]


def test_keeps_off_while_evaluating_and_while_being_told_nonsense(robot: Robot, person: PersonNode) -> None:
    robot.say("evaluate", "run")
    robot.say_text("{nonsense")
    time.sleep(0.5)
    assert robot.heard == []
    robot.say("demo", "run")
    wait_for(lambda: robot.heard, "still alive")


def test_lets_go_when_the_robot_falls_silent(robot: Robot, person: PersonNode) -> None:
    robot.say("demo", "run")
    wait_for(lambda: robot.heard, "engaged")
    robot.silent = True
    wait_for(lambda: list(robot.heard[-1].buttons) == [0], "released")


def test_takes_over_when_nothing_happens_while_learning(robot: Robot, person: PersonNode) -> None:
    robot.say("learn", "run")
    time.sleep(0.5)
    assert robot.heard == []
    wait_for(lambda: robot.heard and list(robot.heard[-1].buttons) == [1], "patience runs out")
