"""PickPlaceCan: grasp the can near its top, carry it over the wall, drop it in its compartment."""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import UP, Expert, GraspShape, Picker, action_towards

SHAPE = GraspShape(aligned_m=0.012, clear_m=0.09, depth_m=0.015)
GRASP_ABOVE_CENTRE_M = 0.025  # of a can that stands: the hand stays clear of the bin's walls
CARRY_M = 0.16  # height of the can's centre above its goal at which it clears the walls between the bins
DROP_M = 0.04  # sideways error within which it may be dropped: the compartment is 20 cm wide


class CanExpert:
    """Stage from the TCP's place relative to the can, the fingers, and the can relative to its goal."""

    def __init__(self) -> None:
        self._picker = Picker(SHAPE)

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        tcp, can, goal = _places(snapshot)
        if _may_drop(can, goal):
            if snapshot.arm.gripper_position < 0.85:
                return action_towards(snapshot, spec, tcp, gripper=1.0)
            return action_towards(snapshot, spec, tcp + 0.1 * UP, gripper=1.0)
        fetch = self._picker.fetch(snapshot, spec, _grasp_point(snapshot))
        if fetch is not None:
            return fetch
        lift = goal[2] + CARRY_M - can[2]
        across = (goal - can)[:2] if lift < 0.06 else np.zeros(2)
        return action_towards(snapshot, spec, tcp + np.append(across, lift), gripper=-1.0)

    def progress(self, snapshot: Snapshot) -> float:
        """0.4 for grasping, 0.2 for raising, 0.4 for carrying."""
        if snapshot.task.success:
            return 1.0
        _, can, goal = _places(snapshot)
        if _may_drop(can, goal):
            return 0.96
        grasped = self._picker.progress(snapshot, _grasp_point(snapshot))
        raised = float(np.clip((can - goal)[2] / CARRY_M, 0.0, 1.0))
        carried = max(0.0, 1.0 - float(np.linalg.norm((can - goal)[:2])) / 0.8)
        return 0.4 * grasped + 0.2 * raised + 0.35 * carried


def _may_drop(can: FloatArray, goal: FloatArray) -> bool:
    offset = can - goal
    return bool(np.abs(offset[:2]).max() < DROP_M and offset[2] < CARRY_M + 0.05)


def _grasp_point(snapshot: Snapshot) -> FloatArray:
    """Where to hold the can (3,) in the base frame: near its top, about its middle when it lies."""
    pose = snapshot.task.poses["can"]
    upright = abs(float(frames.quat_to_matrix(pose[3:])[2, 2]))
    return pose[:3] + GRASP_ABOVE_CENTRE_M * upright * UP


def _places(snapshot: Snapshot) -> tuple[FloatArray, FloatArray, FloatArray]:
    """TCP, can and goal (3,) in the base frame."""
    return snapshot.arm.pose_base_tcp[:3], snapshot.task.poses["can"][:3], snapshot.task.poses["goal"][:3]


def expert() -> Expert:
    return CanExpert()
