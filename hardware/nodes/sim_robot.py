"""The simulated robot: serves the arm's and cameras' topics from MuJoCo in real time.

To the rest of the system it is a robot like any other. It holds still until a target comes, obeys
target_pose and gripper/target, and refuses targets while somebody besides the guard publishes them. The
service reset_world places arm and objects anew: it answers when the new state has been published, with
{"seed": ...} as its message. Seeds count up from the parameter `seed`; setting it chooses the next one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_srvs.srv import Trigger

from hardware import ros_messages
from hardware.nodes.lifecycle import IDLE_S, ManagedNode, read_robot, run
from hardware.nodes.sim_robot_config import SimRobotConfig, make_world
from hardware.pacing import LoopTiming, Pacer
from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.types import ArmTarget, CameraFrame

MAX_LAG_PERIODS = 5.0
"""Lag of the physics that is caught up; more than this is dropped, and counted."""
DIAGNOSTICS_S = 1.0


class SimRobotNode(ManagedNode[SimRobotConfig]):
    """Steps the world against the clock between messages."""

    def configure(self) -> None:
        robot = read_robot(self.config.robot)
        self._frame = str(robot.get("base_frame", "base"))
        self._period_s = 1.0 / self.config.rate_hz
        self._world = make_world(self.config, str(robot.get("sim_robot", "panda")).lower())
        joints = len(self._world.arm.state().joint_pos_rad)
        names = [str(joint["name"]) for joint in robot.get("joints", ())]
        if names and len(names) != joints:
            problem = f"robot {self.config.robot!r} has {len(names)} joints, but the simulated arm has {joints}"
            raise ConfigError(f"{problem}: name the robot that the world was made with, such as robot=sim_ur5e")
        self._joint_names = names or [f"joint{i + 1}" for i in range(joints)]
        self._pacer, self._timing = Pacer(), LoopTiming()
        self._next_seed = self.config.seed
        if not self.has_parameter("seed"):
            self.declare_parameter("seed", self.config.seed)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._create_topics()
        self._reset()

    def activate(self) -> None:
        self._pacer.anchor()
        self._timing.start()

    def cleanup(self) -> None:
        if hasattr(self, "_world"):
            self._world.close()

    def work(self) -> float:
        if not self.active:
            return IDLE_S
        remaining_s = self._pacer.remaining_s()
        if remaining_s > 0.0:
            return remaining_s
        self._timing.slice(-remaining_s, self._period_s)
        self._world.advance(self._period_s)
        self._publish_state()
        self._publish_images()
        if self._timing.elapsed_s() >= DIAGNOSTICS_S:
            self._publish_diagnostics()
        self._pacer.schedule(self._period_s, MAX_LAG_PERIODS * self._period_s)
        return max(0.0, self._pacer.remaining_s())

    def _create_topics(self) -> None:
        sensor, newest = qos_profile_sensor_data, QoSProfile(depth=1)
        self._joints = self.create_publisher(JointState, "joint_states", sensor)
        self._pose = self.create_publisher(PoseStamped, "current_pose", sensor)
        self._twist = self.create_publisher(TwistStamped, "current_twist", sensor)
        self._wrench = self.create_publisher(WrenchStamped, "external_wrench", sensor)
        self._gripper = self.create_publisher(JointState, "gripper/state", sensor)
        self._task = self.create_publisher(JointState, "task/state", sensor)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        if unknown := sorted(set(self.config.cameras) - set(self._world.cameras)):
            valid = ", ".join(sorted(self._world.cameras)) or "(none)"
            raise ConfigError(f"unknown cameras {unknown}; valid choices: {valid}")
        period_s = 1.0 / self.config.camera_rate_hz
        names = self.config.cameras if self._can_render() else ()
        self._cameras = [_Camera(self, name, period_s) for name in names]
        self.create_subscription(PoseStamped, "target_pose", self._on_target, newest)
        self.create_subscription(JointState, "gripper/target", self._on_gripper_target, newest)
        self.create_service(Trigger, "reset_world", self._on_reset)

    def _can_render(self) -> bool:
        """Draws each camera once: opening the renderer takes seconds, which the arm cannot wait for later."""
        try:
            for name in self.config.cameras:
                self._world.cameras[name].read()
        except RobotRlError as error:
            self.get_logger().error(f"no cameras: {error}")
            return False
        return True

    def _on_parameters(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name != "seed":
                return SetParametersResult(successful=False, reason="only `seed` can be set while running")
            if not isinstance(parameter.value, int) or not 0 <= parameter.value < 2**63:
                return SetParametersResult(successful=False, reason="seed must be an integer in [0, 2^63)")
            self._next_seed = parameter.value
        return SetParametersResult(successful=True)

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, json.dumps({"seed": self._reset()})
        return response

    def _reset(self) -> int:
        seed, self._next_seed = self._next_seed, (self._next_seed + 1) % 2**63
        self._world.reset(seed)
        for camera in self._cameras:
            if camera.is_watched:
                self._world.cameras[camera.name].read()  # a scene's first picture takes long; now nothing moves
        state = self._world.arm.state()
        self._target_pose = np.asarray(state.pose_base_tcp, np.float64)
        self._target_gripper = float(round(state.gripper_position))
        self._publish_state()
        self._reset_s = self.now_s()
        self._pacer.anchor()
        self._timing.start()
        return seed

    def _on_target(self, message: PoseStamped) -> None:
        pose = ros_messages.read_pose(message)
        if self._obeys(message.header.stamp, "target_pose") and ros_messages.is_sound_pose(pose):
            self._target_pose = pose
            self._command()

    def _on_gripper_target(self, message: JointState) -> None:
        position = ros_messages.read_gripper(message)
        if self._obeys(message.header.stamp, "gripper/target") and position is not None:
            self._target_gripper = float(np.clip(position, 0.0, 1.0))
            self._command()

    def _command(self) -> None:
        self._world.arm.command(ArmTarget(self.now_s(), self._target_pose, self._target_gripper))

    def _obeys(self, stamp: Any, topic: str) -> bool:
        """A target from before the reset would send the arm back to where it was."""
        stamp_s = ros_messages.seconds_of(stamp)
        publishers = self.publishers_of(topic)
        if publishers != 1:
            text = f"{topic} has {publishers} publishers, must be 1 (the guard): target ignored"
            self.get_logger().warning(text, throttle_duration_sec=2.0)
        fresh = self.now_s() - stamp_s <= self.config.target_timeout_s
        return self.active and publishers == 1 and fresh and stamp_s >= self._reset_s

    def _publish_state(self) -> None:
        """`current_pose` comes last: whoever hears it has the rest of the same moment already."""
        state, task = self._world.arm.state(), self._world.task_state()
        stamp_s, frame = self.now_s(), self._frame
        self._joints.publish(ros_messages.joints_message(self._joint_names, state.joint_pos_rad, stamp_s))
        self._twist.publish(ros_messages.twist_message(state.twist_base_tcp, stamp_s, frame))
        self._wrench.publish(ros_messages.wrench_message(state.wrench_base, stamp_s, frame))
        self._gripper.publish(ros_messages.gripper_message(state.gripper_position, stamp_s))
        self._task.publish(ros_messages.task_message(task, stamp_s))
        self._pose.publish(ros_messages.pose_message(state.pose_base_tcp, stamp_s, frame))

    def _publish_images(self) -> None:
        """At most one camera per slice, so that physics waits for one picture and not for all."""
        for camera in self._cameras:
            if camera.is_due():
                with self._timing.rendering():
                    frame = self._world.cameras[camera.name].read()
                    camera.publish(frame, self.now_s(), self.config.jpeg_quality)
                return

    def _publish_diagnostics(self) -> None:
        publishers = self.publishers_of("target_pose")
        late = {"late_ticks": self._pacer.late_ticks, "lost_s": round(self._pacer.lost_s, 3)}
        values = self._timing.report() | late | {"target_publishers": publishers}
        level = DiagnosticStatus.OK if publishers == 1 else DiagnosticStatus.WARN
        text = "running" if publishers == 1 else f"target_pose has {publishers} publishers, must be 1"
        self._diagnostics.publish(
            ros_messages.diagnostics_message("sim_robot", values, self.now_s(), level=level, text=text)
        )


class _Camera:
    """Topics of one camera."""

    def __init__(self, node: SimRobotNode, name: str, period_s: float) -> None:
        self.name = name
        self._frame = f"{name}_color_optical_frame"
        self._period_s = period_s
        self._pacer = Pacer()
        topic, sensor = f"{name}/color/image_raw", qos_profile_sensor_data
        self._raw = node.create_publisher(Image, topic, sensor)
        self._compressed = node.create_publisher(CompressedImage, f"{topic}/compressed", sensor)
        self._info = node.create_publisher(CameraInfo, f"{name}/color/camera_info", sensor)
        self._depth = node.create_publisher(Image, f"{name}/aligned_depth_to_color/image_raw", sensor)

    def is_due(self) -> bool:
        """Its time has come and somebody listens."""
        if self._pacer.remaining_s() > 0.0:
            return False
        if not self.is_watched:
            self._pacer.anchor()
        return self.is_watched

    @property
    def is_watched(self) -> bool:
        """Somebody listens."""
        return self._raw.get_subscription_count() + self._compressed.get_subscription_count() > 0

    def publish(self, frame: CameraFrame, stamp_s: float, quality: int) -> None:
        self._pacer.schedule(self._period_s, self._period_s)
        color = frame.color
        if self._raw.get_subscription_count():
            self._raw.publish(ros_messages.image_message(color, stamp_s, self._frame))
        if self._compressed.get_subscription_count():
            self._compressed.publish(ros_messages.compressed_message(color, stamp_s, self._frame, quality))
        if frame.intrinsics is not None and self._info.get_subscription_count():
            hw = (color.shape[0], color.shape[1])
            self._info.publish(ros_messages.camera_info_message(frame.intrinsics, hw, stamp_s, self._frame))
        if frame.depth_m is not None and self._depth.get_subscription_count():
            self._depth.publish(ros_messages.depth_message(frame.depth_m, stamp_s, self._frame))


def main(argv: Sequence[str] | None = None) -> int:
    return run("sim_robot", SimRobotNode, SimRobotConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
