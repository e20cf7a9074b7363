"""One publisher of the arm's targets: the guard. Whatever the topic is called, and after a guard that was killed."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import Trigger

from hardware import ros_messages
from hardware.ros_world import RosWorld, RosWorldConfig
from robot_rl.errors import HardwareError
from tests.hardware.guard_rig import GUARD, Rig

HOME = np.array([0.5, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0])


def test_a_guard_finds_an_intruder_on_a_remapped_topic() -> None:
    with Rig() as rig:
        rig.link.node.create_publisher(PoseStamped, "cell/target_pose", 1)
        ros = ["--ros-args", "-r", f"__ns:={rig.namespace}", "-r", "target_pose:=cell/target_pose"]
        rig.launch("guard", "-m", "hardware.nodes.guard", "--config", json.dumps({"guard": GUARD}), *ros)
        rig.wait(lambda: "second publisher on" in rig.call("guard/arm").message, "the intruder to be named", 10.0)


class TalkingGuard:
    """Says that it is armed, and a target; its robot hears `publishers` of targets."""

    def __init__(self, rig: Rig, publishers: int) -> None:
        self._link, node = rig.link, rig.link.node
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.targets = [node.create_publisher(PoseStamped, "target_pose", 1) for _ in range(publishers)]
        self._statuses = node.create_publisher(DiagnosticArray, "guard/status", latched)
        node.create_timer(0.05, self._speak)
        for name in ("guard/arm", "guard/release"):
            node.create_service(Trigger, name, lambda _, response: Trigger.Response(success=True))

    def _speak(self) -> None:
        now_s = self._link.now_s()
        values = {"armed": "true", "source": "hold", "disarm_requests": "0"}
        self._statuses.publish(ros_messages.diagnostics_message("guard", values, now_s))
        self.targets[0].publish(ros_messages.pose_message(HOME, now_s, "base"))


def test_an_episode_waits_until_the_robot_hears_the_guard_alone() -> None:
    """While a killed guard lingers in DDS the robot obeys nobody: and targets counted as executed."""
    with Rig() as rig:
        guard = TalkingGuard(rig, publishers=2)
        world = RosWorld(RosWorldConfig(namespace=rig.namespace, task=False, arm_timeout_s=0.8))
        try:
            with pytest.raises(HardwareError, match=r"target_pose has 2 publishers, must be 1"):
                world._arm()
            rig.link.node.destroy_publisher(guard.targets.pop())
            began_s = time.monotonic()
            world._arm()
            assert time.monotonic() - began_s < 0.8
        finally:
            world.close()
