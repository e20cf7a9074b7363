"""The guard process: the only publisher of the arm's and gripper's targets.

It takes requests on <source>/target_pose and <source>/gripper/target (policy, human, reset), watches the
arm's state, and while armed publishes the filtered target at every tick. It needs neither the actor nor
the learner nor the page to be alive. Services: ~/arm, ~/disarm, ~/recover. A request whose stamp is zero
withdraws its source. A text on arm/fault is a fault until the arm and then the guard have recovered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from hardware import ros_messages
from hardware.guard import Guard, GuardStatus, Mode
from hardware.guard_config import GuardConfig
from hardware.mux import SOURCES
from hardware.nodes.lifecycle import ManagedNode, read_robot, run
from robot_rl.errors import HardwareError
from robot_rl.typed import check_positive, to_dataclass
from robot_rl.types import ArmState, ArmTarget

COMMAND_QOS = QoSProfile(depth=1)
"""Reliable, and only the newest counts."""
STATUS_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""A late listener gets the newest status at once."""
LEVELS = {
    Mode.DISARMED: DiagnosticStatus.WARN,
    Mode.ARMED: DiagnosticStatus.OK,
    Mode.FAULT: DiagnosticStatus.ERROR,
}


@dataclass(frozen=True)
class GuardNodeConfig:
    """Parameters of the guard node."""

    robot: str = ""
    """Name in conf/robot, or a YAML file: its `guard` section and its `base_frame` are used."""
    guard: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `GuardConfig`, over those of the robot."""
    base_frame: str = ""
    """Frame that requests must be in, when they name one; the robot's, or `base`, when empty."""
    status_rate_hz: float = 5.0
    """Rate of guard/status; changes are published at once."""

    def __post_init__(self) -> None:
        check_positive(self, "status_rate_hz")


class GuardNode(ManagedNode[GuardNodeConfig]):
    """Thin: messages in and out of `hardware.guard.Guard`."""

    def configure(self) -> None:
        limits, self.base_frame = guard_config(self.config)
        self.guard = Guard(limits)
        self._gripper_position = 1.0
        self._requests: dict[str, PoseStamped] = {}
        self._gripper_requests: dict[str, JointState] = {}
        self._published: GuardStatus | None = None
        self._published_s = 0.0
        self._targets = self.create_publisher(PoseStamped, "target_pose", COMMAND_QOS)
        self._gripper_targets = self.create_publisher(JointState, "gripper/target", COMMAND_QOS)
        self._statuses = self.create_publisher(DiagnosticArray, "guard/status", STATUS_QOS)
        sensor = qos_profile_sensor_data
        self.create_subscription(PoseStamped, "current_pose", self._on_state, sensor)
        self.create_subscription(JointState, "gripper/state", self._on_gripper, sensor)
        for source in SOURCES:
            self.create_subscription(
                PoseStamped, f"{source}/target_pose", partial(self._on_request, source), COMMAND_QOS
            )
            self.create_subscription(
                JointState, f"{source}/gripper/target", partial(self._on_gripper_request, source), COMMAND_QOS
            )
        self._arm_fault = ""
        self._disarm_requests = 0
        self.create_subscription(String, "arm/fault", self._on_fault, STATUS_QOS)
        self.create_service(Trigger, "~/arm", self._on_arm)
        self.create_service(Trigger, "~/disarm", self._on_disarm)
        self.create_service(Trigger, "~/release", self._on_release)
        self.create_service(Trigger, "~/recover", self._on_recover)
        self.create_timer(limits.tick_period_s, self._tick)

    def deactivate(self) -> None:
        self.guard.disarm("node deactivated")

    def _on_state(self, message: PoseStamped) -> None:
        if message.header.frame_id not in ("", self.base_frame):
            self.guard.reject("state frame")
            return
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        pose = ros_messages.read_pose(message)
        self.guard.update_state(ArmState(stamp_s, pose, np.zeros(6), np.zeros(0), self._gripper_position))

    def _on_gripper(self, message: JointState) -> None:
        position = ros_messages.read_gripper(message)
        if position is None:
            self.guard.reject("state gripper")
            return
        self._gripper_position = position

    def _on_fault(self, message: String) -> None:
        """What the arm node says about its driver; empty when all is well."""
        self._arm_fault = message.data
        if self._arm_fault:
            self.guard.fault(f"arm: {self._arm_fault}")

    def _on_request(self, source: str, message: PoseStamped) -> None:
        if message.header.stamp.sec == 0 and message.header.stamp.nanosec == 0:
            self.guard.withdraw(source)
            self._requests.pop(source, None)
            return
        if message.header.frame_id not in ("", self.base_frame):
            self.guard.reject("frame")
            return
        self._requests[source] = message
        self._pass_on(source)

    def _on_gripper_request(self, source: str, message: JointState) -> None:
        """The two topics are not ordered: a gripper request may come after the pose it belongs to."""
        self._gripper_requests[source] = message
        pose = self._requests.get(source)
        if pose is not None and pose.header.stamp == message.header.stamp:
            self._pass_on(source)

    def _pass_on(self, source: str) -> None:
        message = self._requests[source]
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        gripper = self._wanted_gripper(source)
        target = ArmTarget(stamp_s, ros_messages.read_pose(message), gripper, source)
        self.guard.request(source, target, self.now_s())

    def _wanted_gripper(self, source: str) -> float:
        """What `source` asked for last; else the present target; else where the gripper is."""
        if source in self._gripper_requests:
            message = self._gripper_requests[source]
            position = ros_messages.read_gripper(message)
            return float("nan") if position is None else position
        target = self.guard.gripper_target
        return self._gripper_position if target is None else target

    def _on_arm(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            if not self.active:
                raise HardwareError("cannot arm: the guard node is not active")
            if intruder := self._intruder():
                raise HardwareError(f"cannot arm: {intruder}")
            # A gripper request from before must not act when the next pose request comes.
            self._gripper_requests.clear()
            self.guard.arm(self.now_s())
            response.success = True
        except HardwareError as error:
            response.message = str(error)
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)  # an actor asks again and again
        self._publish_status()
        return response

    def _on_disarm(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.guard.disarm()
        self._disarm_requests += 1
        response.success = True
        self._publish_status()
        return response

    def _on_release(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """A program lets go of the arm between two episodes; not counted, as what a person asks for is."""
        self.guard.disarm("released")
        response.success = True
        self._publish_status()
        return response

    def _on_recover(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = not self._arm_fault
        if self._arm_fault:
            response.message = f"the arm still reports: {self._arm_fault}; recover the arm first"
        else:
            self.guard.recover()
        self._publish_status()
        return response

    def _intruder(self) -> str:
        """Names who else publishes targets; empty when this node is alone."""
        for topic in ("target_pose", "gripper/target"):
            if self.publishers_of(topic) > 1:
                infos = self.get_publishers_info_by_topic(self.resolve_topic_name(topic))
                names = sorted(f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos)
                return f"second publisher on {topic}: {', '.join(names)}"
        return ""

    def _tick(self) -> None:
        if self.guard.mode is Mode.ARMED and (intruder := self._intruder()):
            self.guard.disarm(intruder)
        target = self.guard.tick(self.now_s())
        if target is not None:
            self._targets.publish(ros_messages.pose_message(target.pose_base_tcp, target.stamp_s, self.base_frame))
            # Nobody has asked for a gripper position yet: saying one could make it drop what it holds.
            if self.guard.gripper_target is not None:
                self._gripper_targets.publish(ros_messages.gripper_message(self.guard.gripper_target, target.stamp_s))
        self._report()

    def _report(self) -> None:
        """Publish the status on change of mode, source or reason, and at its rate."""
        status, last = self.guard.status(), self._published
        changed = last is None or status.headline != last.headline
        if changed or self.now_s() - self._published_s >= 1.0 / self.config.status_rate_hz:
            self._publish_status()
        if changed and last is not None and status.mode is not last.mode:
            self.get_logger().info(f"{status.mode.value}: {status.reason}")

    def _publish_status(self) -> None:
        status = self.guard.status()
        values = {
            "armed": str(status.armed).lower(),
            "mode": status.mode.value,
            "source": status.source,
            "reason": status.reason,
            "disarm_requests": str(self._disarm_requests),
            "rejections": json.dumps(status.rejections),
            "clips": json.dumps(status.clips),
            **{f"rejected.{kind}": count for kind, count in status.rejections.items()},
            **{f"clipped.{name}": count for name, count in status.clips.items()},
        }
        now_s, text = self.now_s(), f"{status.mode.value}: {status.reason}"
        level = LEVELS[status.mode]
        self._statuses.publish(ros_messages.diagnostics_message("guard", values, now_s, level=level, text=text))
        self._published, self._published_s = status, now_s


def guard_config(config: GuardNodeConfig) -> tuple[GuardConfig, str]:
    """Limits and base frame: the robot's, with the node's own parameters over them."""
    robot = read_robot(config.robot)
    limits = to_dataclass(GuardConfig, {**robot.get("guard", {}), **config.guard}, "guard")
    return limits, config.base_frame or str(robot.get("base_frame", "base"))


def main(argv: Sequence[str] | None = None) -> int:
    return run("guard", GuardNode, GuardNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
