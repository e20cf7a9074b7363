"""Picking something up by its grasp site and bringing it to a target: into it, onto it, down its hole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import UP, GraspShape, Picker, action_towards, yaw_to

SHAPE = GraspShape(aligned_m=0.012, clear_m=0.10, depth_m=0.012, aligned_rad=0.25, holding=(0.04, 0.9), funnel=4.0)


SHARE = 0.5  # of what remains, in each step: arms answer late
PREFERRED = np.array([0.25, 0.97, 0.0])
"""Of a finger line's two directions the one nearer to this is taken: near to where the fingers are at the start (base
y), and not just as far from both when a thing stands square to the base."""


@dataclass(frozen=True)
class Errand:
    """Where what is carried should go, relative to the target's frame, and when it is let go."""

    hover_m: float
    """Height of the carried point above the target while moving across."""
    lower_to_m: float
    """Height above the target at which it is let go of, or down to which it is pushed."""
    over_m: float
    """Sideways error within which it is lowered."""
    carried: str = "item"
    """Pose that has to arrive at the target."""
    lets_go: bool = True
    """Whether opening the hand is part of it."""
    squares: bool = False
    """Whether the item's x is turned along the target's x or y."""


class CarryExpert:
    """Stage from the TCP relative to the grasp, the fingers, and the item relative to the target."""

    def __init__(self, errand: Errand) -> None:
        self._errand, self._picker = errand, Picker(SHAPE, SHARE)

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        errand, poses, tcp = self._errand, snapshot.task.poses, snapshot.arm.pose_base_tcp[:3]
        gap = poses["target"][:3] - self._point(snapshot)
        over, above = float(np.linalg.norm(gap[:2])), -float(gap[2])
        if errand.lets_go and over < 1.5 * errand.over_m and above < errand.lower_to_m + 0.008:
            opened = snapshot.arm.gripper_position > 0.85
            return action_towards(snapshot, spec, tcp + opened * 0.1 * UP, gripper=1.0)
        grasp = poses["grasp"]
        turn = yaw_to(snapshot, _preferred(frames.quat_to_matrix(grasp[3:])[:, 0]), 2.0 * np.pi)
        fetch = self._picker.fetch(snapshot, spec, grasp[:3], turn)
        if fetch is not None:
            return fetch
        turn = self._square(snapshot) if errand.squares else 0.0
        rotvec = np.array([0.0, 0.0, turn])
        if over < errand.over_m and abs(turn) < 0.1:
            down = np.append(gap[:2], errand.lower_to_m - above)
            return action_towards(snapshot, spec, tcp + down, gripper=-1.0, rotvec_tcp=rotvec, share=SHARE)
        lift = errand.hover_m - above
        across = gap[:2] if lift < 0.03 else np.zeros(2)
        carry = tcp + np.append(across, lift)
        return action_towards(snapshot, spec, carry, gripper=-1.0, rotvec_tcp=rotvec, share=SHARE)

    def progress(self, snapshot: Snapshot) -> float:
        """0.45 for grasping, 0.5 for carrying."""
        if snapshot.task.success:
            return 1.0
        gap = snapshot.task.poses["target"][:3] - self._point(snapshot)
        carried = max(0.0, 1.0 - float(np.linalg.norm(gap[:2])) / 0.4)
        return 0.45 * self._picker.progress(snapshot, snapshot.task.poses["grasp"][:3]) + 0.5 * carried

    def _point(self, snapshot: Snapshot) -> FloatArray:
        return snapshot.task.poses[self._errand.carried][:3]

    @staticmethod
    def _square(snapshot: Snapshot) -> float:
        """Turn about the TCP's z that brings the item's x onto the target's x or y."""
        item = frames.quat_to_matrix(snapshot.task.poses["item"][3:])[:, 0]
        target = frames.quat_to_matrix(snapshot.task.poses["target"][3:])[:, 0]
        angle = float(np.arctan2(target[1], target[0]) - np.arctan2(item[1], item[0]))
        return -((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)  # the TCP's z points down


def _preferred(axis: FloatArray) -> FloatArray:
    return axis if axis @ PREFERRED > 0.0 else -axis
