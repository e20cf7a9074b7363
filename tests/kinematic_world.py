"""A world with arithmetic for physics: the TCP reaches part of the way to its target in each tick.

It stands in for a robot in tests of the code around it, and says exactly what happened.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl import frames
from robot_rl.protocols import Camera
from robot_rl.types import ActionSpec, ArmState, ArmTarget, CameraFrame, FloatArray, Snapshot, TaskState

DOWN_WXYZ = np.array([0.0, 1.0, 0.0, 0.0])
GOAL_RADIUS_M = 0.02


class PlainCamera:
    """A camera whose every pixel says how many ticks have passed."""

    def __init__(self, world: KinematicWorld, hw: tuple[int, int]) -> None:
        self._world = world
        self._hw = hw

    def read(self) -> CameraFrame:
        color = np.full((*self._hw, 3), self._world.ticks % 256, np.uint8)
        return CameraFrame(self._world.time_s, color)


class KinematicWorld:
    """Implements `World` and `Arm`; success when the TCP is within `GOAL_RADIUS_M` of the goal."""

    def __init__(self, *, tracking: float = 1.0, image_hw: tuple[int, int] | None = None) -> None:
        self.tracking = tracking
        self.executed: ArmTarget | None = None
        self.override: ArmTarget | None = None  # what a guard would let through instead
        self.commands: list[ArmTarget] = []
        self.time_s = 0.0
        self.ticks = 0
        self.closed = False
        self.pose = np.concatenate([[0.4, 0.0, 0.2], DOWN_WXYZ])
        self.goal = self.pose.copy()
        self.gripper = 1.0
        self.cameras: Mapping[str, Camera] = {"front": PlainCamera(self, image_hw)} if image_hw else {}

    @property
    def arm(self) -> KinematicWorld:
        return self

    def state(self) -> ArmState:
        return ArmState(self.time_s, self.pose.copy(), np.zeros(6), np.zeros(7), self.gripper)

    def command(self, target: ArmTarget) -> None:
        self.commands.append(target)

    def task_state(self) -> TaskState:
        near = bool(np.linalg.norm(self.pose[:3] - self.goal[:3]) < GOAL_RADIUS_M)
        return TaskState(self.time_s, {"goal": self.goal}, {"height_m": float(self.pose[2])}, near)

    def reset(self, seed: int | None) -> None:
        random = np.random.default_rng(seed)
        self.pose = np.concatenate([[0.4, 0.0, 0.2], DOWN_WXYZ])
        direction = random.standard_normal(3)
        self.goal = self.pose.copy()
        self.goal[:3] += 0.1 * direction / np.linalg.norm(direction)
        self.gripper = 1.0
        self.ticks = 0
        self.time_s = 0.0
        self.commands.clear()

    def advance(self, duration_s: float) -> ArmTarget | None:
        target = self.override or self.commands[-1]
        self.pose[:3] += self.tracking * (target.pose_base_tcp[:3] - self.pose[:3])
        self.gripper = target.gripper_position
        self.time_s += duration_s
        self.ticks += 1
        return self.override

    def close(self) -> None:
        self.closed = True


class GoalExpert:
    """Goes straight to the goal; progress is the share of the way that lies behind."""

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        offset = frames.relative(snapshot.arm.pose_base_tcp, snapshot.task.poses["goal"])[:3]
        action = np.zeros(spec.dim)
        action[:3] = np.clip(offset / spec.translation_m, -1, 1)
        return action

    def progress(self, snapshot: Snapshot) -> float:
        distance = np.linalg.norm(snapshot.arm.pose_base_tcp[:3] - snapshot.task.poses["goal"][:3])
        return float(np.clip(1 - distance / 0.1, 0, 1))
