"""The bridge between the contract's gripper topics and one arm's gripper: topics or an action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.action.client import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from hardware.gripper import Changes, reported, to_native
from hardware.native_binding import GripperBinding
from hardware.nodes.native_messages import QOS, interface_type
from hardware.ros_messages import gripper_message, joints_message, read_gripper, seconds_of

Sender = Callable[[float], bool]
"""Sends a native gripper value; false when the driver was not there to take it."""


class GripperBridge:
    """`gripper/target` to the driver's command, the driver's state to `gripper/state`."""

    def __init__(
        self,
        node: Node,
        binding: GripperBinding,
        resolve: Callable[[str], str],
        publish: Callable[[Any], None],
    ) -> None:
        """`resolve` makes the driver's names absolute; `publish` takes `gripper/state` messages.

        Raises `ConfigError` when an action type that the binding needs is not installed.
        """
        self._node, self._binding, self._publish = node, binding, publish
        self._send = _SENDERS[binding.kind](node, binding, resolve)
        self._changes = Changes()
        self.opening: float | None = None
        if binding.state is not None:
            topic = resolve(binding.state.topic)
            node.create_subscription(JointState, topic, self._on_state, QOS[binding.state.qos])

    def on_target(self, message: JointState) -> None:
        """A target of the guard."""
        opening = read_gripper(message)
        if opening is None or not self._changes.passes(opening):
            return
        if not self._send(to_native(self._binding, opening)):
            self._changes.reset()

    def reset(self) -> None:
        """Forget what was commanded: the next target is sent in any case."""
        self._changes.reset()

    def tick(self, now_s: float) -> None:
        """An arm without gripper reports an open one, so that everything else need not know."""
        if self._binding.state is None:
            self._report(1.0, now_s)

    def _on_state(self, message: JointState) -> None:
        opening = reported(self._binding, list(message.name), list(message.position))
        if opening is not None:
            self._report(opening, seconds_of(message.header.stamp))

    def _report(self, opening: float, stamp_s: float) -> None:
        self.opening = opening
        now_s = self._node.get_clock().now().nanoseconds * 1e-9
        self._publish(gripper_message(opening, stamp_s or now_s))


def _none(node: Node, binding: GripperBinding, resolve: Callable[[str], str]) -> Sender:
    return lambda value: True


def _float64_array(node: Node, binding: GripperBinding, resolve: Callable[[str], str]) -> Sender:
    publisher = node.create_publisher(Float64MultiArray, resolve(binding.command), QOS["reliable"])

    def send(value: float) -> bool:
        publisher.publish(Float64MultiArray(data=[value]))
        return publisher.get_subscription_count() > 0

    return send


def _joint_state(node: Node, binding: GripperBinding, resolve: Callable[[str], str]) -> Sender:
    publisher = node.create_publisher(JointState, resolve(binding.command), QOS["reliable"])

    def send(value: float) -> bool:
        now_s = node.get_clock().now().nanoseconds * 1e-9
        publisher.publish(joints_message([binding.joint], np.array([value]), now_s))
        return publisher.get_subscription_count() > 0

    return send


def _action(
    type_name: str, fill: Callable[[Any, GripperBinding, float], None]
) -> Callable[[Node, GripperBinding, Callable[[str], str]], Sender]:
    def build(node: Node, binding: GripperBinding, resolve: Callable[[str], str]) -> Sender:
        action_type = interface_type(type_name)
        client = ActionClient(node, action_type, resolve(binding.command))

        def send(value: float) -> bool:
            if not client.server_is_ready():
                return False
            goal = action_type.Goal()
            fill(goal, binding, value)
            client.send_goal_async(goal)
            return True

        return send

    return build


def fill_gripper_command(goal: Any, binding: GripperBinding, value: float) -> None:
    """control_msgs/GripperCommand: one position, one effort."""
    goal.command.position = value
    goal.command.max_effort = binding.max_effort


def fill_parallel_gripper_command(goal: Any, binding: GripperBinding, value: float) -> None:
    """control_msgs/ParallelGripperCommand: a JointState; no effort means the driver's own."""
    goal.command.name = [binding.joint]
    goal.command.position = [value]
    goal.command.effort = [binding.max_effort] if binding.max_effort else []


_SENDERS = {
    "none": _none,
    "float64_array": _float64_array,
    "joint_state": _joint_state,
    "gripper_command": _action("control_msgs/action/GripperCommand", fill_gripper_command),
    "parallel_gripper_command": _action("control_msgs/action/ParallelGripperCommand", fill_parallel_gripper_command),
}
