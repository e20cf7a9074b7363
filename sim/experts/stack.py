"""Stack: grasp the red cube, carry it over the green one, set it down, let go."""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import UP, Expert, GraspShape, Picker, action_towards, yaw_to

SHAPE = GraspShape(aligned_m=0.012, clear_m=0.08, depth_m=0.012, aligned_rad=0.3)
CARRY_M = 0.085  # height of the red cube over the green one (centres) when carried
STACKED_M = 0.045  # and when it rests there: half of 4 cm and of 5 cm
OVER_M = 0.008  # sideways error within which it is lowered


class StackExpert:
    """Stage from the TCP relative to the red cube, the fingers, and the cubes relative to each other."""

    def __init__(self) -> None:
        self._picker = Picker(SHAPE)

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        tcp, red, green = _places(snapshot)
        gap, turn = green - red, yaw_to(snapshot, _face(snapshot), np.pi / 2)
        over = float(np.linalg.norm(gap[:2]))
        if _is_stacked(gap):
            return action_towards(snapshot, spec, tcp, gripper=1.0)
        fetch = self._picker.fetch(snapshot, spec, red, turn)
        if fetch is not None:
            return fetch
        if over < OVER_M:
            return action_towards(snapshot, spec, tcp + gap + (STACKED_M - 0.005) * UP, gripper=-1.0)
        lift = gap[2] + CARRY_M
        across = gap[:2] if lift < 0.03 else np.zeros(2)
        return action_towards(snapshot, spec, tcp + np.append(across, lift), gripper=-1.0)

    def progress(self, snapshot: Snapshot) -> float:
        """0.5 for grasping, 0.2 for raising, 0.25 for carrying."""
        if snapshot.task.success:
            return 1.0
        _, red, green = _places(snapshot)
        if _is_stacked(green - red):
            return 0.96
        raised = float(np.clip((red - green)[2] / STACKED_M, 0.0, 1.0))
        carried = max(0.0, 1.0 - float(np.linalg.norm((green - red)[:2])) / 0.4)
        return 0.5 * self._picker.progress(snapshot, red) + 0.2 * raised + 0.25 * carried


def _is_stacked(gap: FloatArray) -> bool:
    """Whether red rests on green, from the vector (3,) from red to green."""
    return bool(np.linalg.norm(gap[:2]) < 0.02 and abs(gap[2] + STACKED_M) < 0.006)


def _places(snapshot: Snapshot) -> tuple[FloatArray, FloatArray, FloatArray]:
    """TCP, red and green cube (3,) in the base frame."""
    return snapshot.arm.pose_base_tcp[:3], snapshot.task.poses["red"][:3], snapshot.task.poses["green"][:3]


def _face(snapshot: Snapshot) -> FloatArray:
    """Normal (3,) of one of the red cube's faces."""
    return frames.quat_to_matrix(snapshot.task.poses["red"][3:])[:, 0]


def expert() -> Expert:
    return StackExpert()
