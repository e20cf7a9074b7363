"""The twin in step: a simulation that follows the robot at 60 Hz, or (`leads`) that the robot follows.

It hears `joint_states`, `gripper/state` and objects' poses (`task/state`, or a PoseStamped topic for each object), late
and noisy as they are, and publishes where the arm and the objects are now: `twin/joint_states`, `twin/current_pose`,
`twin/task/state`; and how far that can be trusted: `twin/innovation`, `twin/correction/<object>`, /diagnostics.

When it leads, the policy sends its requests to `twin/policy/target_pose` and sees the topics below `twin/`; what the
guard is asked for is where the twin's TCP is, with the stamp of the policy's request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState

from hardware import ros_messages
from hardware.nodes.lifecycle import IDLE_S, ManagedNode, read_robot, run
from hardware.pacing import LoopTiming, Pacer
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray, TaskState
from sim.twin.estimate import Estimate
from sim.twin.lead import LeadConfig, Leader
from sim.twin.model import TwinModel
from sim.twin.pace import PaceKeeper
from sim.twin.scenes import scene_twin, task_twin
from sim.twin.sync import SyncConfig, TwinSync

AXES = ("x", "y", "z", "rx", "ry", "rz")
DIAGNOSTICS_S = 1.0
MAX_LAG_PERIODS = 1.0
LISTEN_SHARE = 0.2
"""Of the period: the least time for messages between two ticks."""


@dataclass(frozen=True)
class TwinNodeConfig:
    """What the twin is made of, and how it follows."""

    robot: str = "sim_panda"
    """Name in conf/robot, or a YAML file: joints' names, base frame and `sim_robot` are used."""
    scene: str = ""
    """Folder of a generated scene (`robot-rl cousins`)."""
    task: str = ""
    """Without a scene: a simulated task (`sim.tasks`), whose objects are tracked."""
    objects: Mapping[str, str] = field(default_factory=dict)
    """Tracked objects of a scene: name -> `body:<name>` or `site:<name>`; all loose ones when empty."""
    trackers: Mapping[str, str] = field(default_factory=dict)
    """Name of an object -> PoseStamped topic with its pose; the others are read from `task/state`."""
    leads: bool = False
    """Real-is-Sim: the policy drives the twin and the robot follows it through the guard."""
    budget: float = 0.8
    """Share of the period that a tick may take on average; beyond it, particles are left out."""
    sync: SyncConfig = field(default_factory=SyncConfig)
    """Noise, gate, particles."""
    lead: LeadConfig = field(default_factory=LeadConfig)
    """Speeds of a twin that leads."""


class TwinNode(ManagedNode[TwinNodeConfig]):
    """Thin: messages in and out of `sim.twin.sync.TwinSync` and `sim.twin.lead.Leader`."""

    def configure(self) -> None:
        config, robot = self.config, read_robot(self.config.robot)
        twin = make_twin_model(config, str(robot.get("sim_robot", "panda")).lower())
        names = [str(joint["name"]) for joint in robot.get("joints", ())]
        self._names = dict(zip(names, twin.plan.joints, strict=True)) if len(names) == len(twin.plan.joints) else {}
        self._frame = str(robot.get("base_frame", "base"))
        self._period_s = 1.0 / config.sync.rate_hz
        if unknown := sorted(set(config.trackers) - set(twin.plan.objects)):
            raise ConfigError(f"trackers of unknown objects {unknown}; valid choices: {', '.join(twin.plan.objects)}")
        self._sync, self._leader = TwinSync(twin, config.sync, leads=config.leads), Leader(twin, config.lead)
        self._pacer, self._timing = Pacer(), LoopTiming()
        self._ticks = self._late = 0
        self._pace, self._listens_until_s = PaceKeeper(self._sync, config.budget), 0.0
        self._task_state: TaskState | None = None
        self._gripper_request: float | None = None
        self._create_topics()

    def activate(self) -> None:
        self._pacer.anchor()
        self._timing.start()

    def deactivate(self) -> None:
        self._let_go()

    def cleanup(self) -> None:
        if hasattr(self, "_sync"):
            self._sync.close()

    def work(self) -> float:
        if not self.active:
            return IDLE_S
        remaining_s = self._pacer.remaining_s()
        wait_s = max(remaining_s, self._listens_until_s - time.monotonic())
        if wait_s > 0.0:
            return wait_s
        self._timing.slice(-remaining_s, self._period_s)
        began_s = time.monotonic()
        self._tick(self.now_s())
        took_s = time.monotonic() - began_s
        self._pace.took(took_s)
        self._ticks += 1
        self._late += took_s > self._period_s
        if self._timing.elapsed_s() >= DIAGNOSTICS_S:
            self._publish_diagnostics()
        self._pacer.schedule(self._period_s, MAX_LAG_PERIODS * self._period_s)
        # An overloaded twin that never listens would take itself for blind.
        self._listens_until_s = time.monotonic() + LISTEN_SHARE * self._period_s
        return max(LISTEN_SHARE * self._period_s, self._pacer.remaining_s())

    def _create_topics(self) -> None:
        sensor, newest = qos_profile_sensor_data, QoSProfile(depth=1)
        self._joints = self.create_publisher(JointState, "twin/joint_states", sensor)
        self._pose = self.create_publisher(PoseStamped, "twin/current_pose", sensor)
        self._task = self.create_publisher(JointState, "twin/task/state", sensor)
        self._innovation = self.create_publisher(JointState, "twin/innovation", sensor)
        self._corrections = {
            name: self.create_publisher(WrenchStamped, f"twin/correction/{name}", sensor)
            for name in self._sync.twin.plan.objects
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(JointState, "joint_states", self._on_joints, sensor)
        self.create_subscription(JointState, "gripper/state", self._on_gripper, sensor)
        self.create_subscription(JointState, "task/state", self._on_task, sensor)
        for name, topic in self.config.trackers.items():
            self.create_subscription(PoseStamped, topic, partial(self._on_pose, name), sensor)
        if self.config.leads:
            self._requests = self.create_publisher(PoseStamped, "policy/target_pose", newest)
            self._gripper_requests = self.create_publisher(JointState, "policy/gripper/target", newest)
            self.create_subscription(PoseStamped, "twin/policy/target_pose", self._on_target, newest)
            self.create_subscription(JointState, "twin/policy/gripper/target", self._on_gripper_target, newest)

    def _on_joints(self, message: JointState) -> None:
        positions = {self._names.get(name, name): value for name, value in ros_messages.read_joints(message).items()}
        self._sync.joints(ros_messages.seconds_of(message.header.stamp), positions, self.now_s())

    def _on_gripper(self, message: JointState) -> None:
        position = ros_messages.read_gripper(message)
        if position is not None:
            self._sync.gripper(position)

    def _on_task(self, message: JointState) -> None:
        task = ros_messages.read_task(message)
        if task is None:
            self._sync.inbox.rejected["task/state: unsound"] += 1
            return
        self._task_state = task
        for name in self._sync.twin.plan.objects:
            if name in task.poses and name not in self.config.trackers:
                self._sync.pose(name, task.stamp_s, task.poses[name], self.now_s())

    def _on_pose(self, name: str, message: PoseStamped) -> None:
        if message.header.frame_id not in ("", self._frame):
            self._sync.inbox.rejected["pose: wrong frame"] += 1
            return
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        self._sync.pose(name, stamp_s, ros_messages.read_pose(message), self.now_s())

    def _on_target(self, message: PoseStamped) -> None:
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        if stamp_s == 0.0:
            self._let_go()
        elif not self._leader.target(stamp_s, ros_messages.read_pose(message), self.now_s()):
            self._sync.inbox.rejected["target: unsound, old or of the future"] += 1

    def _on_gripper_target(self, message: JointState) -> None:
        self._gripper_request = ros_messages.read_gripper(message)

    def _tick(self, now_s: float) -> None:
        sync = self._sync
        if self.config.leads and sync.inbox.joints is not None:
            reference, velocity = self._leader.step(sync.inbox.joints, now_s, self._period_s)
            sync.refer(now_s, reference, velocity)
        estimate = sync.tick(now_s)
        while sync.events:
            self.get_logger().warning(sync.events.popleft())
        if estimate is not None:
            self._publish(estimate)

    def _publish(self, estimate: Estimate) -> None:
        stamp_s, pose = estimate.stamp_s, self._leader.tcp(estimate.joints)
        joints = list(self._names) or list(self._sync.twin.plan.joints)
        self._joints.publish(ros_messages.joints_message(joints, estimate.joints, stamp_s))
        told = self._task_state
        task = TaskState(
            stamp_s,
            {name: one.pose for name, one in estimate.objects.items()},
            told.scalars if told else {},
            bool(told and told.success),
        )
        self._task.publish(ros_messages.task_message(task, stamp_s))
        names, values = [], []
        for name, one in estimate.objects.items():
            names += [*(f"{name}.{axis}" for axis in AXES), f"{name}.nis"]
            values += [*one.innovation, one.nis]
            self._corrections[name].publish(ros_messages.wrench_message(one.wrench, stamp_s, self._frame))
        self._innovation.publish(ros_messages.joints_message(names, np.array(values), stamp_s))
        self._pose.publish(ros_messages.pose_message(pose, stamp_s, self._frame))
        if self.config.leads and not estimate.blind:
            self._propose(pose)

    def _propose(self, pose: FloatArray) -> None:
        """The guard judges it like any request; its age is that of the policy's own."""
        stamp_s = self._leader.stamp_s
        if not np.isfinite(stamp_s):
            return
        self._requests.publish(ros_messages.pose_message(pose, stamp_s, self._frame))
        if self._gripper_request is not None:
            self._gripper_requests.publish(ros_messages.gripper_message(self._gripper_request, stamp_s))

    def _let_go(self) -> None:
        self._leader.release()
        self._gripper_request = None
        if self.config.leads:
            self._requests.publish(PoseStamped())  # a zero stamp withdraws

    def _publish_diagnostics(self) -> None:
        estimate, stamp_s = self._sync.newest, self.now_s()
        values = self._timing.report()
        values["on_time"] = round(1.0 - self._late / max(1, self._ticks), 4)
        level, text = DiagnosticStatus.ERROR, "blind: nothing was measured yet"
        if estimate is not None:
            values |= report(estimate)
            level, text = judgement(estimate)
        rejected = self._sync.inbox.rejected
        values |= {f"rejected.{reason}": count for reason, count in rejected.items()}
        self._ticks = self._late = 0
        self._diagnostics.publish(ros_messages.diagnostics_message("twin", values, stamp_s, level=level, text=text))


def make_twin_model(config: TwinNodeConfig, robot: str) -> TwinModel:
    """From a scene's folder or a simulated task."""
    if config.scene:
        return scene_twin(config.scene, config.objects)
    if config.task:
        return task_twin(config.task, robot)
    raise ConfigError("a twin needs `scene` (a generated scene's folder) or `task` (a simulated one)")


def report(estimate: Estimate) -> dict[str, Any]:
    """Values for /diagnostics."""
    values: dict[str, Any] = {
        "blind": estimate.blind,
        "tracking_failures": estimate.failures,
        "friction": round(estimate.factors.friction, 3),
        "mass": round(estimate.factors.mass, 3),
        "particles": len(estimate.weights),
        "best_weight": round(float(estimate.weights.max()), 3),
    }
    for name, one in estimate.objects.items():
        values[f"nis.{name}"] = round(one.nis, 2)
        values[f"predictive.{name}"] = one.predictive
        values[f"correction_n.{name}"] = round(float(np.linalg.norm(one.wrench[:3])), 3)
    return values


def judgement(estimate: Estimate) -> tuple[bytes, str]:
    """Level and text: blind is an error; not predictive, a warning."""
    if estimate.blind:
        return DiagnosticStatus.ERROR, f"blind: {estimate.blind}"
    if lost := [name for name, one in estimate.objects.items() if not one.predictive]:
        return DiagnosticStatus.WARN, f"not predictive of {', '.join(lost)}"
    return DiagnosticStatus.OK, "in step"


def main(argv: Sequence[str] | None = None) -> int:
    return run("twin", TwinNode, TwinNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
