"""A robot that is not there, for tests of the page: the topics and services of the contract, and a log."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState, Joy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from hardware import ros_messages
from hardware.nodes.human import PHASE, PHASE_QOS, PhaseMessage
from robot_rl.types import TaskState

JOINTS = (0.0, 0.196, 0.0, -2.618, 0.0, 2.942, 0.785)
# As robosuite's arms stand: TCP x along base y, TCP y along base x, TCP z down.
TCP = np.array([0.45, 0.0, 0.13, 0.0, math.sqrt(0.5), math.sqrt(0.5), 0.0])
COLORS = {"front": (20, 200, 40), "wrist": (200, 30, 190)}
SERVICES = ("guard/arm", "guard/disarm", "guard/recover", "reset_world")


@dataclass
class Log:
    """What the page has said, with the time of arrival."""

    joy: list[tuple[float, int, list[float]]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)


class FakeRobot:
    """Publishes at 20 Hz from a thread of its own until closed."""

    def __init__(self) -> None:
        self.log = Log()
        self.guard = {"armed": "true", "source": "policy", "reason": "armed", "mode": "armed"}
        self.gripper_target: float | None = None
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("fake_robot", context=self._context)
        newest = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        sensor, create = qos_profile_sensor_data, self._node.create_publisher
        self._joints = create(JointState, "joint_states", sensor)
        self._pose = create(PoseStamped, "current_pose", sensor)
        self._target = create(PoseStamped, "target_pose", 1)
        self._gripper = create(JointState, "gripper/state", sensor)
        self._gripper_target = create(JointState, "gripper/target", 1)
        self._task = create(JointState, "task/state", sensor)
        self._images = {name: create(Image, f"{name}/color/image_raw", sensor) for name in COLORS}
        self._status = create(DiagnosticArray, "guard/status", newest)
        self.episodes = create(String, "training/episode", 100)
        self._phase = create(String, PHASE, PHASE_QOS)
        self._node.create_subscription(Joy, "human/joy", self._on_joy, 50)
        self._node.create_subscription(String, "human/verdict", self._on_verdict, 10)
        for name in SERVICES:
            self._node.create_service(Trigger, name, self._answer(name))
        self._node.create_timer(0.05, self._publish)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    @property
    def has_page(self) -> bool:
        """Whether somebody listens to the fast topics."""
        return self._joints.get_subscription_count() > 0

    def finish_episode(self, number: int) -> None:
        values = {"phase": "learn", "episode": number, "success": number % 2 == 0, "steps": 50 - number}
        values |= {"interventions": 5, "env_steps": 50 * number, "utd": 4.0, "policy_version": number}
        self.episodes.publish(String(data=json.dumps(values)))

    def announce(self, state: str) -> None:
        self._phase.publish(String(data=PhaseMessage("learn", 1, state).to_json()))

    def _spin(self) -> None:
        while not self._closed.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _answer(self, name: str) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            self.log.calls.append(name)
            response.success, response.message = True, f"{name} answered"
            return response

        return answer

    def _on_joy(self, message: Joy) -> None:
        self.log.joy.append((time.monotonic(), message.buttons[0], list(message.axes)))

    def _on_verdict(self, message: String) -> None:
        self.log.verdicts.append(message.data)

    def _publish(self) -> None:
        now = time.time()
        names = [f"fr3_joint{index + 1}" for index in range(7)]
        self._joints.publish(ros_messages.joints_message(names, np.array(JOINTS), now))
        self._gripper.publish(ros_messages.gripper_message(1.0, now))
        if self.gripper_target is not None:
            self._gripper_target.publish(ros_messages.gripper_message(self.gripper_target, now))
        task = TaskState(now, {"cube": np.array([0.5, 0.1, 0.02, 1.0, 0, 0, 0])}, {}, False)
        self._task.publish(ros_messages.task_message(task, now))
        for name, color in COLORS.items():
            image = np.full((48, 64, 3), color, np.uint8)
            self._images[name].publish(ros_messages.image_message(image, now, name))
        self._status.publish(ros_messages.diagnostics_message("guard", self.guard, now))
        self._target.publish(ros_messages.pose_message(TCP, now, "base"))
        self._pose.publish(ros_messages.pose_message(TCP, now, "base"))
