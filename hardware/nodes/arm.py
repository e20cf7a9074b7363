"""The arm node: between the guard and the maker's driver, as the robot's YAML binds them.

It turns the guard's `target_pose` and `gripper/target` into what the driver takes, and the driver's
state into `joint_states`, `current_pose`, `current_twist`, `external_wrench` and `gripper/state`.
`arm/fault` (latched) says why the arm may not move; empty when it may. Services: ~/recover calls the
driver out of a fault, ~/stop ends its program. Starting this node moves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from hardware.arm_adapter import ArmAdapter
from hardware.arm_binding import load_binding
from hardware.native_binding import FaultBinding
from hardware.nodes.driver_calls import DriverCalls
from hardware.nodes.gripper import GripperBridge
from hardware.nodes.lifecycle import ManagedNode, run
from hardware.nodes.native_messages import COMMAND_MESSAGES, QOS, field_value, interface_type
from hardware.ros_messages import (
    diagnostics_message,
    joints_message,
    pose_message,
    read_pose,
    read_wrench,
    seconds_of,
    twist_message,
    wrench_message,
)
from robot_rl.errors import ConfigError
from robot_rl.typed import check_positive
from robot_rl.types import FloatArray

CONTRACT_TOPICS = (
    *("joint_states", "current_pose", "current_twist", "external_wrench", "gripper/state", "arm/fault"),
    *("target_pose", "gripper/target"),
)


@dataclass(frozen=True)
class ArmNodeConfig:
    """Parameters of the arm node."""

    robot: str = ""
    """Name in conf/robot, or a YAML file."""
    overrides: tuple[str, ...] = ()
    """`dotted.key=value` over that file, values in YAML."""
    diagnostics_rate_hz: float = 1.0
    """Rate of /diagnostics."""

    def __post_init__(self) -> None:
        check_positive(self, "diagnostics_rate_hz")


class ArmNode(ManagedNode[ArmNodeConfig]):
    """Thin: messages in and out of `hardware.arm_adapter.ArmAdapter`."""

    def configure(self) -> None:
        overrides = [text for text in self.config.overrides if text]
        self._adapter = ArmAdapter(load_binding(self.config.robot, overrides))
        self._binding, self._native = self._adapter.binding, self._adapter.native
        self._refuse_shared_topics()
        self._missing_types: list[str] = []
        self._wrench: tuple[float, FloatArray] | None = None
        self._published_stamp_s = 0.0
        self._counted_at_s = time.monotonic()
        self._sent = self._states = 0
        self._published_fault: str | None = None
        self._create_publishers()
        self._subscribe_to_driver()
        self.create_subscription(PoseStamped, "target_pose", self._on_target, QOS["reliable"])
        self._gripper = GripperBridge(self, self._native.gripper, self._resolve, self._gripper_states.publish)
        self.create_subscription(JointState, "gripper/target", self._on_gripper_target, QOS["reliable"])
        self._calls = DriverCalls(self, self._adapter, self._resolve)
        self.create_timer(1.0 / self._binding.rate_hz, self._tick)
        self.create_timer(1.0 / self.config.diagnostics_rate_hz, self._report)

    def _resolve(self, name: str) -> str:
        """The driver's `name`, absolute."""
        return name if name.startswith("/") else f"{self._native.namespace.rstrip('/')}/{name}"

    def _refuse_shared_topics(self) -> None:
        """The driver and this node must not speak on the same topic: they would hear themselves."""
        native = self._native
        topics = [native.command.topic, native.gripper.command, native.state.joints.topic]
        optional = (native.state.pose, native.state.wrench, native.gripper.state)
        topics += [topic.topic for topic in optional if topic]
        ours = {self.resolve_topic_name(name): name for name in CONTRACT_TOPICS}
        if clash := sorted({self._resolve(topic) for topic in topics if topic} & set(ours)):
            raise ConfigError(
                f"the driver of {self._binding.name} and this graph would share {', '.join(clash)}: run the "
                "graph in a namespace (for instance namespace:=cell), or the driver in one and set "
                "native.namespace"
            )

    def _create_publishers(self) -> None:
        sensor = QOS["sensor_data"]
        command_type, self._command_message = COMMAND_MESSAGES[self._native.command.kind]
        self._commands = self.create_publisher(
            command_type, self._resolve(self._native.command.topic), QOS[self._native.command.qos]
        )
        self._joints = self.create_publisher(JointState, "joint_states", sensor)
        self._poses = self.create_publisher(PoseStamped, "current_pose", sensor)
        self._twists = self.create_publisher(TwistStamped, "current_twist", sensor)
        self._wrenches = self.create_publisher(WrenchStamped, "external_wrench", sensor)
        self._gripper_states = self.create_publisher(JointState, "gripper/state", sensor)
        self._faults = self.create_publisher(String, "arm/fault", QOS["latched"])
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QOS["reliable"])

    def _subscribe_to_driver(self) -> None:
        state = self._native.state
        self._listen(JointState, state.joints, self._on_joints)
        if state.pose is not None:
            self._listen(PoseStamped, state.pose, self._on_pose)
        if state.wrench is not None:
            self._listen(WrenchStamped, state.wrench, self._on_wrench)
        for fault in self._native.faults:
            try:
                self._listen(interface_type(fault.type), fault, partial(self._on_fault, fault))
            except ConfigError as error:
                if fault.required:
                    raise
                self._missing_types.append(fault.type)
                self.get_logger().warning(f"{fault.topic} is not watched: {error}")

    def _listen(self, message_type: Any, topic: Any, callback: Any) -> None:
        self.create_subscription(message_type, self._resolve(topic.topic), callback, QOS[topic.qos])

    def _stamp_s(self, message: Any) -> float:
        """Stamp of the measurement; time of arrival when the driver gives none, or its clock is not ours."""
        stamp_s = seconds_of(message.header.stamp)
        return stamp_s if stamp_s > 0.0 and self._native.state.stamps == "driver" else self.now_s()

    def _on_joints(self, message: JointState) -> None:
        self._adapter.on_joints(
            list(message.name), message.position, message.velocity, self._stamp_s(message), time.monotonic()
        )

    def _on_pose(self, message: PoseStamped) -> None:
        pose = read_pose(message)
        self._adapter.on_pose(message.header.frame_id, pose, self._stamp_s(message), time.monotonic())

    def _on_wrench(self, message: WrenchStamped) -> None:
        wrench = read_wrench(message)
        if wrench is not None:
            self._wrench = (self._stamp_s(message), wrench)

    def _on_fault(self, fault: FaultBinding, message: Any) -> None:
        self._adapter.on_fault(fault.topic, field_value(message, fault.field))
        self._publish_fault()

    def _publish_fault(self) -> None:
        if self._adapter.fault != self._published_fault:
            self._published_fault = self._adapter.fault
            self._faults.publish(String(data=self._adapter.fault))
            if self._adapter.fault:
                self.get_logger().error(f"fault: {self._adapter.fault}")

    def _on_target(self, message: PoseStamped) -> None:
        if self._is_guarded("target_pose"):
            self._adapter.on_target(message.header.frame_id, read_pose(message), time.monotonic())

    def _on_gripper_target(self, message: JointState) -> None:
        if self.active and not self._adapter.fault and self._is_guarded("gripper/target"):
            self._gripper.on_target(message)

    def _is_guarded(self, topic: str) -> bool:
        """A guard that sees an intruder falls silent, and then the intruder alone would be obeyed."""
        publishers = self.publishers_of(topic)
        if publishers > 1:
            self._adapter.counts["targets of several publishers"] += 1
            text = f"{topic} has {publishers} publishers, must be 1 (the guard): target ignored"
            self.get_logger().warning(text, throttle_duration_sec=2.0)
        return publishers <= 1

    def deactivate(self) -> None:
        """Forget the target: nothing moves on activation before the guard speaks again."""
        self._adapter.forget_target()
        self._gripper.reset()

    def _tick(self) -> None:
        self._publish_state()
        self._publish_fault()
        if not self.active:
            return
        values = self._adapter.tick(time.monotonic())
        if values is not None:
            self._commands.publish(self._command_message(self._binding, values, self.now_s()))
            self._sent += 1

    def _publish_state(self) -> None:
        measured = self._adapter.measured()
        self._gripper.tick(self.now_s())
        if measured is None or measured.stamp_s == self._published_stamp_s:
            return
        self._published_stamp_s = measured.stamp_s
        stamp_s, frame = measured.stamp_s, self._binding.base_frame
        names = [joint.name for joint in self._binding.joints]
        joints = joints_message(names, measured.joint_pos_rad, stamp_s)
        joints.velocity = [float(value) for value in measured.joint_vel_rad_s]
        self._joints.publish(joints)
        self._poses.publish(pose_message(measured.pose_base_tcp, stamp_s, frame))
        self._twists.publish(twist_message(self._adapter.twist(measured), stamp_s, frame))
        self._states += 1
        if self._wrench is not None:
            wrench_stamp_s, wrench = self._wrench
            self._wrench = None
            self._wrenches.publish(wrench_message(self._adapter.wrench_base(wrench, measured), wrench_stamp_s, frame))

    def _report(self) -> None:
        now_s, adapter = time.monotonic(), self._adapter
        elapsed_s = max(now_s - self._counted_at_s, 1e-9)
        values = {
            "state_rate_hz": f"{self._states / elapsed_s:.1f}",
            "command_rate_hz": f"{self._sent / elapsed_s:.1f}",
            "state_age_s": f"{self.now_s() - self._published_stamp_s:.3f}",
            "reason": adapter.reason,
            "fault": adapter.fault,
            "not_watched": ", ".join(self._missing_types),
            **{f"count.{name}": count for name, count in adapter.counts.items()},
        }
        level = DiagnosticStatus.OK
        if adapter.reason or self._missing_types:
            level = DiagnosticStatus.WARN
        if adapter.fault:
            level = DiagnosticStatus.ERROR
        text = adapter.fault or adapter.reason or "tracking"
        self._diagnostics.publish(
            diagnostics_message(f"arm {self._binding.name}", values, self.now_s(), level=level, text=text)
        )
        self._counted_at_s, self._sent, self._states = now_s, 0, 0


def main(argv: Sequence[str] | None = None) -> int:
    return run("arm", ArmNode, ArmNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
