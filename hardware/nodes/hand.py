"""Moves the arm as the person's device asks (`human/joy`), where no actor runs: nothing is learned or recorded.

Asks the guard by `human/target_pose` and `human/gripper/target`, in the steps of the task's actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState

from hardware import ros_messages
from hardware.nodes.human import TopicHuman
from hardware.nodes.lifecycle import ManagedNode, run
from robot_rl.apps.wiring import node_experiment
from robot_rl.env import GRIPPER_THRESHOLD, leashed, moved
from robot_rl.types import FloatArray

STALE_S = 0.3
"""Age of the measured pose beyond which nothing is asked for."""
COMMAND_QOS = QoSProfile(depth=1)


@dataclass(frozen=True)
class HandNodeConfig:
    """How far the hand moves the arm."""

    task: str = "lift"
    """Name in conf/task: its actions and their scales, as on the page, and its rate."""
    overrides: tuple[str, ...] = ()
    """Overrides of the task's configuration, the same as the page's."""


class HandNode(ManagedNode[HandNodeConfig]):
    """Thin: what the person asks for becomes targets."""

    def __init__(self, name: str, config_class: type[HandNodeConfig], context: Context, config_text: str = "") -> None:
        super().__init__(name, config_class, context, config_text)
        self._pose: tuple[float, FloatArray] | None = None
        self._frame = ""  # that of the measured poses: the guard refuses any other
        self._target: FloatArray | None = None  # None while nobody steers
        self._gripper: float | None = None

    def configure(self) -> None:
        env = node_experiment(self.config.task, 0, self.config.overrides).task.env
        self._spec = env.action_spec
        self._human = TopicHuman(self, self._spec.names)
        self._poses = self.create_publisher(PoseStamped, "human/target_pose", COMMAND_QOS)
        self._grippers = self.create_publisher(JointState, "human/gripper/target", COMMAND_QOS)
        self.create_subscription(PoseStamped, "current_pose", self._on_pose, qos_profile_sensor_data)
        self.create_subscription(JointState, "gripper/state", self._on_gripper, qos_profile_sensor_data)
        self.create_timer(1.0 / env.rate_hz, self._step)

    def deactivate(self) -> None:
        self._let_go()

    def _on_pose(self, message: PoseStamped) -> None:
        pose = ros_messages.read_pose(message)
        if ros_messages.is_sound_pose(pose):
            self._pose = ros_messages.seconds_of(message.header.stamp), pose
            self._frame = message.header.frame_id

    def _on_gripper(self, message: JointState) -> None:
        position = ros_messages.read_gripper(message)
        if position is not None and self._target is None:
            self._gripper = float(round(position))

    def _step(self) -> None:
        """One period: a step of the target, or the hand off."""
        said = self._human.read()
        if not (self.active and said.engaged and self._pose and self._gripper is not None):
            self._let_go()
            return
        stamp_s, measured = self._pose
        if self.now_s() - stamp_s > STALE_S:
            self._let_go()
            return
        reference = measured if self._target is None else leashed(measured, self._target, self._spec)
        self._target = moved(reference, said.action, self._spec)
        if self._spec.has_gripper and abs(said.action[-1]) > GRIPPER_THRESHOLD:
            self._gripper = float(np.sign(said.action[-1]) > 0)
        self._grippers.publish(ros_messages.gripper_message(self._gripper, stamp_s))
        self._poses.publish(ros_messages.pose_message(self._target, stamp_s, self._frame))

    def _let_go(self) -> None:
        if self._target is not None:
            self._target = None
            self._poses.publish(PoseStamped())  # the zero stamp withdraws


def main(argv: Sequence[str] | None = None) -> int:
    return run("hand", HandNode, HandNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
