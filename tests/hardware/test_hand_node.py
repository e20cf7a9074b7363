"""The hand without an actor: what the person's device asks for becomes requests to the guard, and no more."""

from __future__ import annotations

import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState, Joy

from hardware import ros_messages
from hardware.nodes.hand import HandNode, HandNodeConfig
from tests.hardware.ros_rig import Ros, ros, wait_for

__all__ = ["ros"]
POSE = np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])


def test_the_hand_moves_the_target_and_letting_go_withdraws(ros: Ros) -> None:
    hand = HandNode("hand", HandNodeConfig, ros.context, "{task: lift}")
    assert hand.trigger_configure() is TransitionCallbackReturn.SUCCESS
    assert hand.trigger_activate() is TransitionCallbackReturn.SUCCESS
    ros.add(hand)
    robot = ros.node("robot")
    poses: list[PoseStamped] = []
    grippers: list[float | None] = []
    robot.create_subscription(PoseStamped, "human/target_pose", poses.append, 10)
    robot.create_subscription(
        JointState, "human/gripper/target", lambda said: grippers.append(ros_messages.read_gripper(said)), 10
    )
    pose = robot.create_publisher(PoseStamped, "current_pose", qos_profile_sensor_data)
    gripper = robot.create_publisher(JointState, "gripper/state", qos_profile_sensor_data)
    joy = robot.create_publisher(Joy, "human/joy", 10)

    def go_on(engaged: bool, *, silent: bool = False) -> None:
        now_s = time.time()
        if not silent:
            pose.publish(ros_messages.pose_message(POSE, now_s, "base_link"))
            gripper.publish(ros_messages.gripper_message(1.0, now_s))
        header = ros_messages.header(now_s, "tcp")
        joy.publish(Joy(header=header, axes=[0.0, 0.5, 0.0, -1.0], buttons=[int(engaged)]))
        time.sleep(0.03)

    go_on(engaged=False)
    assert poses == []
    wait_for(lambda: go_on(engaged=True) or len(poses) > 5, "requests")
    assert {said.header.frame_id for said in poses} == {"base_link"}  # the UR5e's
    first, last = (ros_messages.read_pose(poses[index]) for index in (0, -1))
    assert first[:3] == pytest.approx([0.5, 0.5 * 0.025, 0.2], abs=1e-6)
    assert first[1] < last[1] <= 3.5 * 0.025 + 1e-6, "leads the arm, which stands still, by the leash at most"
    assert set(grippers) == {0.0}
    wait_for(lambda: go_on(engaged=False) or poses[-1].header.stamp.sec == 0, "withdrawn")
    count = len(poses)
    wait_for(lambda: go_on(engaged=True) or len(poses) > count, "again")
    wait_for(lambda: go_on(engaged=True, silent=True) or poses[-1].header.stamp.sec == 0, "let go of a silent arm")
