"""Real processes of a small graph over DDS, each in a namespace of its own, and an ear on its topics."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hardware import ros_messages
from hardware.ros_link import RosLink
from robot_rl.protocols import Camera
from robot_rl.types import ArmState, ArmTarget, CameraFrame, FloatArray, TaskState

PATIENCE_S = 60.0
_counter = itertools.count()
GUARD = {
    "workspace_low_m": [0.2, -0.4, 0.0],
    "workspace_high_m": [0.8, 0.4, 0.6],
    # A busy machine: what matters here is order and content, not the last millisecond.
    "expire_periods": 10.0,
    "state_timeout_s": 2.0,
    "clock_jump_s": 20.0,
}


def shifted(pose: FloatArray, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> FloatArray:
    """A pose (7,) moved in the base frame."""
    return np.add(pose, [x, y, z, 0.0, 0.0, 0.0, 0.0])


class NumberedCamera:
    """Red is the number of the picture, green the camera's own, blue 7; the left half is dark."""

    def __init__(self, number: int, hw: tuple[int, int]) -> None:
        self._number, self._hw, self._count = number, hw, 0

    def read(self) -> CameraFrame:
        self._count += 1
        color = np.zeros((*self._hw, 3), np.uint8)
        color[:, self._hw[1] // 2 :] = (self._count % 256, self._number, 7)
        return CameraFrame(0.0, color, None, (50.0, 50.0, self._hw[1] / 2, self._hw[0] / 2))


class GlidingWorld:
    """The TCP glides to its target at up to `speed_m_s`; a cube is placed by the seed; near it is success."""

    def __init__(self, speed_m_s: float = 0.5) -> None:
        self.speed_m_s = speed_m_s
        self.cameras: Mapping[str, Camera] = {
            "front": NumberedCamera(11, (48, 64)),
            "wrist": NumberedCamera(22, (48, 64)),
        }
        self.time_s = 0.0
        self.reset(0)

    @property
    def arm(self) -> GlidingWorld:
        return self

    def state(self) -> ArmState:
        return ArmState(self.time_s, self.pose.copy(), self.twist.copy(), np.arange(7) / 10.0, self.gripper)

    def command(self, target: ArmTarget) -> None:
        self.target = target

    def task_state(self) -> TaskState:
        near = bool(np.linalg.norm(self.pose[:3] - self.cube[:3]) < 0.02)
        return TaskState(self.time_s, {"cube": self.cube}, {"seed": float(self.seed)}, near)

    def reset(self, seed: int | None) -> None:
        self.seed = -1 if seed is None else seed
        self.pose = np.array([0.5, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0])
        self.twist = np.zeros(6)
        self.gripper = 1.0
        self.target: ArmTarget | None = None
        offset = np.random.default_rng(self.seed + 1).uniform(-0.1, 0.1, 3)
        self.cube = self.pose + np.concatenate([offset, np.zeros(4)])

    def advance(self, duration_s: float) -> ArmTarget | None:
        self.time_s += duration_s
        if self.target is not None:
            way = self.target.pose_base_tcp[:3] - self.pose[:3]
            length = float(np.linalg.norm(way))
            step = way * min(1.0, self.speed_m_s * duration_s / max(length, 1e-9))
            self.twist[:3] = step / duration_s
            self.pose = np.concatenate([self.pose[:3] + step, self.target.pose_base_tcp[3:]])
            self.gripper = self.target.gripper_position
        return None

    def close(self) -> None:
        pass


class Rig:
    """Processes and an ear. Use as a context manager: nothing is left behind."""

    def __init__(self) -> None:
        self.namespace = f"/t{os.getpid()}_{next(_counter)}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Rig:
        self.link = RosLink("ear", self.namespace)
        self.targets: list[tuple[float, FloatArray, float]] = []  # heard (monotonic), pose, stamp
        self.poses: list[FloatArray] = []
        self.status: dict[str, str] = {}
        self.task: JointState | None = None
        node = self.link.node
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(PoseStamped, "target_pose", self._on_target, QoSProfile(depth=500))
        node.create_subscription(PoseStamped, "current_pose", self._on_pose, qos_profile_sensor_data)
        node.create_subscription(JointState, "task/state", self._on_task, qos_profile_sensor_data)
        node.create_subscription(DiagnosticArray, "guard/status", self._on_status, latched)
        self.requests = node.create_publisher(PoseStamped, "policy/target_pose", QoSProfile(depth=1))
        names = ("guard/arm", "guard/disarm", "guard/release", "guard/recover", "reset_world")
        self._clients = {name: node.create_client(Trigger, name) for name in names}
        self.link.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.link.close()

    def start(self, name: str, **parameters: Any) -> subprocess.Popen[bytes]:
        arguments = ["--config", json.dumps(parameters), "--ros-args", "-r", f"__ns:={self.namespace}"]
        return self.launch(name, "-m", f"hardware.nodes.{name}", *arguments)

    def launch(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        self.processes[name] = subprocess.Popen([sys.executable, *arguments])
        return self.processes[name]

    def start_robot(self, **parameters: Any) -> Rig:
        """Guard and simulated robot, up and talking."""
        self.start("guard", guard=GUARD)
        self.start_sim(**parameters)
        self.wait(lambda: bool(self.status) and bool(self.poses), "guard and robot to speak")
        return self

    def start_sim(self, **parameters: Any) -> None:
        world = "tests.hardware.guard_rig:GlidingWorld"
        self.start("sim_robot", robot="", world=world, **{"cameras": [], **parameters})

    def call(self, service: str) -> Trigger.Response:
        return self.link.call(self._clients[service], Trigger.Request(), PATIENCE_S)

    def arm(self) -> None:
        self.wait(lambda: self.call("guard/arm").success, "the guard to arm")

    def ask(self, pose: FloatArray, age_s: float = 0.0) -> None:
        self.requests.publish(ros_messages.pose_message(pose, self.link.now_s() - age_s, "base"))

    def rejected(self, kind: str) -> int:
        return json.loads(self.status.get("rejections", "{}")).get(kind, 0)

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"waited {timeout_s} s for {what}; status {self.status}"
            time.sleep(0.02)

    def _on_target(self, message: PoseStamped) -> None:
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        self.targets.append((time.monotonic(), ros_messages.read_pose(message), stamp_s))

    def _on_pose(self, message: PoseStamped) -> None:
        self.poses.append(ros_messages.read_pose(message))

    def _on_task(self, message: JointState) -> None:
        self.task = message

    def _on_status(self, message: DiagnosticArray) -> None:
        self.status = ros_messages.read_diagnostics(message)
