"""A stand-in for the lift task that starts at once: the TCP goes to its target, the cube sticks to the hand.

It answers the same topics through the simulated robot's node (`world: tests.faults.fake_lift:make`), has
the task's object and success, and leaves the minutes of loading a physics engine out of a fault test.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot_rl import frames
from robot_rl.protocols import Camera
from robot_rl.types import ArmState, ArmTarget, CameraFrame, TaskState

DOWN_WXYZ = np.array([0.0, 1.0, 0.0, 0.0])
HOME_M = np.array([0.46, 0.0, 0.06])
CUBE_Z_M = -0.09  # resting on the table, as seen from the base of the simulated Panda
GRASP_RADIUS_M = 0.025
LIFT_M = 0.04
CUBE_WIDTH = 0.5  # of the gripper's stroke
ARM_TIME_CONSTANT_S = 0.06
GRIPPER_SPEED_1_S = 4.0


class DarkCamera:
    """Sees nothing."""

    def read(self) -> CameraFrame:
        return CameraFrame(0.0, np.zeros((64, 64, 3), np.uint8))


class FakeLift:
    """Implements `World` and `Arm` with a first-order arm."""

    def __init__(self) -> None:
        self.cameras: Mapping[str, Camera] = {name: DarkCamera() for name in ("front", "wrist")}
        self._time_s = 0.0
        self.reset(0)

    @property
    def arm(self) -> FakeLift:
        return self

    def state(self) -> ArmState:
        return ArmState(self._time_s, self._pose.copy(), self._twist.copy(), np.zeros(7), self._gripper)

    def command(self, target: ArmTarget) -> None:
        self._target, self._gripper_target = target.pose_base_tcp.copy(), target.gripper_position

    def task_state(self) -> TaskState:
        lifted = bool(self._cube[2] > CUBE_Z_M + LIFT_M)
        return TaskState(self._time_s, {"cube": self._cube.copy()}, {}, lifted)

    def reset(self, seed: int | None) -> None:
        random = np.random.default_rng(seed)
        self._pose = np.concatenate([HOME_M + random.uniform(-0.02, 0.02, 3), DOWN_WXYZ])
        self._cube = np.concatenate([[*(HOME_M[:2] + random.uniform(-0.03, 0.03, 2)), CUBE_Z_M], frames.IDENTITY[3:]])
        self._target, self._twist = self._pose.copy(), np.zeros(6)
        self._gripper = self._gripper_target = 1.0
        self._held = False

    def advance(self, duration_s: float) -> None:
        share = 1.0 - float(np.exp(-duration_s / ARM_TIME_CONSTANT_S))
        step_m = share * (self._target[:3] - self._pose[:3])
        self._pose[:3] += step_m
        self._twist[:3] = step_m / duration_s
        reach = GRIPPER_SPEED_1_S * duration_s
        self._gripper += float(np.clip(self._gripper_target - self._gripper, -reach, reach))
        near = float(np.linalg.norm(self._pose[:3] - self._cube[:3])) < GRASP_RADIUS_M
        closing = self._gripper_target < 0.5 and self._gripper <= CUBE_WIDTH
        self._held = closing and (self._held or near)
        if self._held:
            self._gripper = CUBE_WIDTH  # the fingers stop at the cube
            self._cube[:3] += step_m
        else:
            self._cube[2] = CUBE_Z_M
        self._time_s += duration_s

    def close(self) -> None:
        pass


def make() -> FakeLift:
    return FakeLift()
