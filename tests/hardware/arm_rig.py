"""A test bench for the arm node: it, a fake driver and an observer, spun together by one thread over DDS."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.context import Context
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from hardware.nodes.arm import ArmNode, ArmNodeConfig
from hardware.nodes.native_messages import QOS
from hardware.ros_messages import gripper_message, pose_message, read_pose, seconds_of
from robot_rl.types import FloatArray

PATIENCE_S = 20.0
DRIVER = "/driver"


class Observer(Node):
    """Plays the guard and the rest of the graph: sends targets, keeps what the contract topics say."""

    def __init__(self, context: Context) -> None:
        super().__init__("observer", context=context)
        self.newest: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        sensor = QOS["sensor_data"]
        topics = {
            "joint_states": (JointState, sensor),
            "current_pose": (PoseStamped, sensor),
            "current_twist": (TwistStamped, sensor),
            "external_wrench": (WrenchStamped, sensor),
            "gripper/state": (JointState, sensor),
            "arm/fault": (String, QOS["latched"]),
        }
        for topic, (kind, qos) in topics.items():
            self.create_subscription(kind, topic, partial(self._keep, topic), qos)
        self._senders: dict[str, Any] = {}
        self.recover = self.create_client(Trigger, "arm/recover")
        self.stop = self.create_client(Trigger, "arm/stop")

    def _keep(self, topic: str, message: Any) -> None:
        self.newest[topic] = message
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def _send(self, topic: str, message: Any) -> None:
        """Publishers are made when they are used: a real guard suffers none beside it."""
        if topic not in self._senders:
            self._senders[topic] = self.create_publisher(type(message), topic, QOS["reliable"])
        self._senders[topic].publish(message)

    def send_pose(self, pose: FloatArray, frame: str, source: str = "") -> None:
        """As the guard; or, with a `source`, as one who asks the guard."""
        self._send(f"{source}/target_pose".lstrip("/"), pose_message(pose, time.time(), frame))

    def send_gripper(self, opening: float) -> None:
        self._send("gripper/target", gripper_message(opening, time.time()))

    def pose(self) -> FloatArray:
        return read_pose(self.newest["current_pose"])

    def age_s(self) -> float:
        return time.time() - seconds_of(self.newest["current_pose"].header.stamp)


class Rig:
    """Close it at the end; `error` is what a callback raised."""

    def __init__(self, make_driver: Callable[[Context], Node], robot: str, overrides: list[str]) -> None:
        self.context = Context()
        rclpy.init(args=["--ros-args", "-r", "__ns:=/cell"], context=self.context)
        self.driver: Any = make_driver(self.context)
        self.observer = Observer(self.context)
        config = json.dumps({"robot": robot, "overrides": [f"native.namespace={DRIVER}", *overrides]})
        self.arm = ArmNode("arm", ArmNodeConfig, self.context, config)
        self._executor = EventsExecutor(context=self.context)
        for node in (self.driver, self.observer, self.arm):
            self._executor.add_node(node)
        self._more: list[Any] = []
        self.error: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            while not self._stopped.is_set():
                self._executor.spin_once(timeout_sec=0.05)
        except BaseException as error:
            self.error = error

    def add(self, node: Any) -> None:
        """Configure, activate and spin one more node of the graph; closed with the rest."""
        assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() is TransitionCallbackReturn.SUCCESS
        self._executor.add_node(node)
        self._more.append(node)

    def start(self) -> None:
        """Configure and activate the arm node, and wait until it hears and is heard."""
        assert self.arm.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert self.arm.trigger_activate() is TransitionCallbackReturn.SUCCESS
        self.until(lambda: "current_pose" in self.observer.newest, "the arm's pose")
        self.until(lambda: self.driver.listens(), "the arm node to find the driver")

    def until(self, condition: Callable[[], bool], what: str, act: Callable[[], None] | None = None) -> None:
        """Wait for `condition`, doing `act` 50 times a second meanwhile."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < end_s, f"waited {PATIENCE_S} s for {what}"
            if act is not None:
                act()
            time.sleep(0.02)

    def keep(self, duration_s: float, act: Callable[[], None] | None = None) -> None:
        """Let time pass, doing `act` 50 times a second."""
        end_s = time.monotonic() + duration_s
        self.until(lambda: time.monotonic() >= end_s, "time to pass", act)

    def call(self, client: Any) -> Trigger.Response:
        self.until(client.service_is_ready, client.srv_name)
        future = client.call_async(Trigger.Request())
        self.until(future.done, f"an answer of {client.srv_name}")
        return future.result()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=5.0)
        self._executor.shutdown()
        for node in (*self._more, self.arm, self.observer, self.driver):
            node.destroy_node()
        rclpy.shutdown(context=self.context)


def circle(center: FloatArray, radius_m: float, angle_rad: float) -> FloatArray:
    """A pose on a circle through `center` in the base's y-z plane."""
    pose = center.copy()
    pose[1] += radius_m * np.sin(angle_rad)
    pose[2] += radius_m * (1.0 - np.cos(angle_rad))
    return pose
