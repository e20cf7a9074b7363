"""What `RosWorld` hears and says: the newest message of each topic, checked, with deadlines."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

from hardware import ros_messages
from hardware.mux import SOURCES
from hardware.ros_link import RosLink
from robot_rl.errors import HardwareError, StaleError, UnknownNameError
from robot_rl.types import ArmState, ArmTarget, CameraFrame, FloatArray, TaskState

COMMAND_QOS = QoSProfile(depth=1)
STATUS_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class InboxConfig:
    """Which topics are needed, and how old they may be."""

    cameras: tuple[str, ...] = ()
    """Cameras to listen to."""
    compressed: bool = False
    """Take the JPEG topic of the cameras: less to carry between machines, some work to decode."""
    image_hw: tuple[int, int] | None = None
    """Crop images in their middle to this aspect and shrink them to this height and width."""
    joint_names: tuple[str, ...] = ()
    """Order of `joint_pos_rad`; empty takes the names of the first message."""
    required: tuple[str, ...] = ("joint_states", "current_twist", "gripper/state")
    """Topics besides `current_pose` that must be fresh. Zeros stand for what is absent and not required."""
    task: bool = True
    """A `task/state` topic exists. Without it there are no objects, and success is what a person says."""
    state_deadline_s: float = 0.25
    """Oldest arm and task state that is used."""
    camera_deadline_s: float = 0.5
    """Oldest image that is used."""


class RosInbox:
    """Subscriptions and publications of the actor's side. Callbacks run in the link's thread."""

    def __init__(self, config: InboxConfig, link: RosLink) -> None:
        self.config = config
        self.link = link
        self.rejected: Counter[str] = Counter()
        self.guard_status: dict[str, str] = {}
        self.heard_target_s = float("-inf")  # monotonic
        self._frame = "base"
        self._names: tuple[str, ...] = config.joint_names
        self._joints: dict[str, float] = {}
        self._twist = np.zeros(6)
        self._wrench = np.zeros(6)
        self._gripper = 0.0
        self._heard: dict[str, tuple[float, float]] = {}  # stamp, arrival (monotonic)
        self._arm: ArmState | None = None
        self._task: TaskState | None = None
        self._images: dict[str, Image | CompressedImage] = {}
        self._target: tuple[float, FloatArray] | None = None
        self._gripper_target: float | None = None
        self._source = ""
        self._subscribe()
        node = link.node
        self._poses, self._grippers = (
            {source: node.create_publisher(kind, f"{source}/{topic}", COMMAND_QOS) for source in SOURCES}
            for kind, topic in ((PoseStamped, "target_pose"), (JointState, "gripper/target"))
        )

    def arm_state(self) -> ArmState:
        """Newest state within the deadline; waits for one that long. Raises `StaleError`."""
        deadline_s = self.config.state_deadline_s
        if self.link.wait_for(lambda: self._arm_age_s() <= deadline_s, deadline_s) and self._arm is not None:
            return self._arm
        topics = ("current_pose", *self.config.required)
        silent = ", ".join(topic for topic in topics if self._age_s(topic) > deadline_s)
        if self._joints and (never := set(self._names) - set(self._joints)):
            raise StaleError(f"joint_states tells of {sorted(self._joints)}, never of {sorted(never)}: another arm?")
        raise StaleError(f"no arm state younger than {deadline_s} s: {silent} silent; is the driver running?")

    def task_state(self) -> TaskState:
        """As `arm_state`, for the task."""
        if not self.config.task:
            return TaskState(self.link.now_s(), {}, {}, False)
        deadline_s = self.config.state_deadline_s
        fresh = self.link.wait_for(lambda: self._age_s("task/state") <= deadline_s, deadline_s)
        if fresh and self._task is not None:
            return self._task
        raise StaleError(f"no task/state younger than {deadline_s} s; is the robot's node running?")

    def frame(self, camera: str) -> CameraFrame:
        """As `arm_state`, for a camera. Raises `HardwareError` for an image that cannot be decoded."""
        topic, deadline_s = f"{camera}/color/image_raw", self.config.camera_deadline_s
        if not self.link.wait_for(lambda: self._age_s(topic) <= deadline_s, deadline_s):
            raise StaleError(f"camera {camera!r}: no image younger than {deadline_s} s; is its node running?")
        message = self._images[camera]
        if isinstance(message, Image):
            color = ros_messages.read_image(message)
            kind = message.encoding
        else:
            color = ros_messages.read_compressed(message)
            kind = message.format
        if color is None:
            self.rejected[topic] += 1
            raise HardwareError(f"camera {camera!r}: cannot decode an image of encoding {kind!r}")
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        hw = self.config.image_hw
        return CameraFrame(stamp_s, color if hw is None else ros_messages.fit(color, hw))

    def command(self, target: ArmTarget) -> None:
        """Publish the request of `target.source`; the source that spoke before lets go."""
        if target.source not in SOURCES:
            raise UnknownNameError("source", target.source, SOURCES)
        if self._source not in ("", target.source):
            self.withdraw(self._source)
        self._source = target.source
        self._grippers[target.source].publish(ros_messages.gripper_message(target.gripper_position, target.stamp_s))
        self._poses[target.source].publish(ros_messages.pose_message(target.pose_base_tcp, target.stamp_s, self._frame))

    def withdraw(self, source: str) -> None:
        """Tell the guard that `source` lets go: a request with the zero stamp."""
        self._poses[source].publish(PoseStamped())

    def executed(self, gripper_position: float) -> ArmTarget | None:
        """The guard's newest target; `gripper_position` stands in until it has said one."""
        with self.link.changed:
            if self._target is None:
                return None
            stamp_s, pose = self._target
            gripper = gripper_position if self._gripper_target is None else self._gripper_target
            return ArmTarget(stamp_s, pose, gripper, self.guard_status.get("source", "hold"))

    def forget_guard(self) -> None:
        """What the guard said until now is of the last episode."""
        with self.link.changed:
            self.guard_status = {}
            self._target = self._gripper_target = None
            self.heard_target_s = float("-inf")

    def guard_acts(self) -> bool:
        """It said that it is armed, and a target since."""
        return self.guard_status.get("armed") == "true" and self._target is not None

    def newest_stamp_s(self) -> float:
        """Stamp of the older one of arm and task state."""
        topics = ("current_pose", "task/state") if self.config.task else ("current_pose",)
        return min(self._heard.get(topic, (float("-inf"), 0.0))[0] for topic in topics)

    def _subscribe(self) -> None:
        node, sensor = self.link.node, qos_profile_sensor_data
        node.create_subscription(JointState, "joint_states", self._on_joints, sensor)
        node.create_subscription(PoseStamped, "current_pose", self._on_pose, sensor)
        node.create_subscription(TwistStamped, "current_twist", self._on_twist, sensor)
        node.create_subscription(WrenchStamped, "external_wrench", self._on_wrench, sensor)
        node.create_subscription(JointState, "gripper/state", self._on_gripper, sensor)
        self.targets = node.create_subscription(PoseStamped, "target_pose", self._on_target, COMMAND_QOS)
        node.create_subscription(JointState, "gripper/target", self._on_gripper_target, COMMAND_QOS)
        node.create_subscription(DiagnosticArray, "guard/status", self._on_status, STATUS_QOS)
        if self.config.task:
            node.create_subscription(JointState, "task/state", self._on_task, sensor)
        kind, suffix = (CompressedImage, "/compressed") if self.config.compressed else (Image, "")
        for name in self.config.cameras:
            topic = f"{name}/color/image_raw{suffix}"
            node.create_subscription(kind, topic, partial(self._on_image, name), sensor)

    def _on_pose(self, message: PoseStamped) -> None:
        """Completes a state: what came before belongs to the same moment."""
        pose = ros_messages.read_pose(message)
        if not ros_messages.is_sound_pose(pose):
            self.rejected["current_pose"] += 1
            return
        pose[3:] /= np.linalg.norm(pose[3:])
        joints = np.array([self._joints[name] for name in self._names if name in self._joints])
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        with self.link.changed:
            self._frame = message.header.frame_id
            self._arm = ArmState(stamp_s, pose, self._twist, joints, self._gripper, self._wrench)
            self._note("current_pose", message.header)

    def _on_joints(self, message: JointState) -> None:
        values = ros_messages.read_joints(message)
        if len(values) != len(message.name) or not values:
            self.rejected["joint_states"] += 1
        with self.link.changed:
            self._joints.update(values)
            self._names = self._names or tuple(values)
            if values and all(name in self._joints for name in self._names):
                self._note("joint_states", message.header)

    def _on_twist(self, message: TwistStamped) -> None:
        twist = ros_messages.read_twist(message)
        if twist is None:
            self.rejected["current_twist"] += 1
            return
        with self.link.changed:
            self._twist = twist
            self._note("current_twist", message.header)

    def _on_wrench(self, message: WrenchStamped) -> None:
        wrench = ros_messages.read_wrench(message)
        if wrench is None:
            self.rejected["external_wrench"] += 1
            return
        with self.link.changed:
            self._wrench = wrench
            self._note("external_wrench", message.header)

    def _on_gripper(self, message: JointState) -> None:
        position = ros_messages.read_gripper(message)
        if position is None:
            self.rejected["gripper/state"] += 1
            return
        with self.link.changed:
            self._gripper = float(np.clip(position, 0.0, 1.0))
            self._note("gripper/state", message.header)

    def _on_task(self, message: JointState) -> None:
        task = ros_messages.read_task(message)
        if task is None:
            self.rejected["task/state"] += 1
            return
        with self.link.changed:
            self._task = task
            self._note("task/state", message.header)

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        """Decoded when somebody looks."""
        with self.link.changed:
            self._images[camera] = message
            self._note(f"{camera}/color/image_raw", message.header)

    def _on_target(self, message: PoseStamped) -> None:
        pose = ros_messages.read_pose(message)
        if not ros_messages.is_sound_pose(pose):
            self.rejected["target_pose"] += 1
            return
        with self.link.changed:
            self._target = (ros_messages.seconds_of(message.header.stamp), pose)
            self.heard_target_s = time.monotonic()
            self.link.changed.notify_all()

    def _on_gripper_target(self, message: JointState) -> None:
        position = ros_messages.read_gripper(message)
        if position is None:
            self.rejected["gripper/target"] += 1
            return
        with self.link.changed:
            self._gripper_target = position

    def _on_status(self, message: DiagnosticArray) -> None:
        with self.link.changed:
            self.guard_status = ros_messages.read_diagnostics(message)
            self.link.changed.notify_all()

    def _note(self, topic: str, header: Header) -> None:
        """`topic` was heard; called with the lock held."""
        self._heard[topic] = (ros_messages.seconds_of(header.stamp), time.monotonic())
        self.link.changed.notify_all()

    def _age_s(self, topic: str) -> float:
        """By its stamp, or by its arrival should that be longer ago (a clock that is ahead)."""
        if topic not in self._heard:
            return float("inf")
        stamp_s, arrival_s = self._heard[topic]
        return max(self.link.now_s() - stamp_s, time.monotonic() - arrival_s)

    def _arm_age_s(self) -> float:
        return max(self._age_s(topic) for topic in ("current_pose", *self.config.required))


class RosArm:
    """Implements `robot_rl.protocols.Arm`."""

    def __init__(self, inbox: RosInbox) -> None:
        self._inbox = inbox

    def state(self) -> ArmState:
        return self._inbox.arm_state()

    def command(self, target: ArmTarget) -> None:
        self._inbox.command(target)


class RosCamera:
    """Implements `robot_rl.protocols.Camera`."""

    def __init__(self, inbox: RosInbox, name: str) -> None:
        self._inbox = inbox
        self._name = name

    def read(self) -> CameraFrame:
        return self._inbox.frame(self._name)
