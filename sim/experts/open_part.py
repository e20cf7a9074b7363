"""Opening a door or drawer by its handle: before the handle, along its outward normal, close, follow its path.

Knows the axis (it is scripted): a policy sees the handle and the object alone. The hand keeps its orientation, a
handle's bar turns between the fingers.
"""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import Expert, GripWatch, action_towards

BEFORE_M = 0.07  # from the handle, outwards: where the open fingers clear it
ALIGNED_M = 0.012  # error across the normal within which the open fingers pass the bar
AT_M = 0.010  # and along it: the pads hold the bar
HELD_M = 0.024  # farther than this from the handle nothing is held
STOPPED_M_S = 0.03
CLOSING = 0.97  # below it the fingers are on their way: no second thoughts
OPEN, SHUT = 0.85, 0.04  # gripper positions: above open, below closed on nothing
RESTING = 0.01  # change of gripper position between two snapshots: a bar fills little of the hand
SHARE = 0.5  # of what remains, in each step: arms answer late
LEAD_M = 0.018  # how far ahead of the handle on its path the hand is sent: faster, the bar slips out


class OpenPartExpert:
    """Stage from the TCP relative to the handle, and the fingers."""

    def __init__(self) -> None:
        self._watch = GripWatch(RESTING)

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        handle, outward, tcp = _handle(snapshot), _outward(snapshot), snapshot.arm.pose_base_tcp[:3]
        grip, resting = snapshot.arm.gripper_position, self._watch.resting(snapshot)
        offset = tcp - handle
        along = float(offset @ outward)
        across = float(np.linalg.norm(offset - along * outward))
        distance = float(np.linalg.norm(offset))
        if distance < HELD_M and SHUT < grip < OPEN and resting:
            return action_towards(snapshot, spec, tcp + next_on_path(snapshot, LEAD_M) - handle, gripper=-1.0)
        # a handle near to its panel: the tips touch that before the TCP is at the bar
        stopped = float(np.linalg.norm(snapshot.arm.twist_base_tcp[:3])) < STOPPED_M_S and distance < HELD_M
        if ((distance < AT_M or stopped) and grip > SHUT) or (distance < HELD_M and grip < CLOSING and not resting):
            return action_towards(snapshot, spec, handle, gripper=-1.0, share=SHARE)
        if across < ALIGNED_M and along < 1.5 * BEFORE_M and grip > OPEN:
            return action_towards(snapshot, spec, handle, gripper=1.0, share=SHARE)
        if along < BEFORE_M - 0.02:  # beside or behind the handle: out first, not across it
            return action_towards(snapshot, spec, tcp + 0.05 * outward, gripper=1.0)
        return action_towards(snapshot, spec, handle + BEFORE_M * outward, gripper=1.0, share=SHARE)

    def progress(self, snapshot: Snapshot) -> float:
        """0.4 for reaching and closing, 0.6 for opening."""
        if snapshot.task.success:
            return 1.0
        distance = float(np.linalg.norm(snapshot.arm.pose_base_tcp[:3] - _handle(snapshot)))
        near = max(0.0, 1.0 - distance / 0.5)
        return 0.4 * near + 0.6 * float(np.clip(snapshot.task.scalars["opened"], 0.0, 0.9))


def next_on_path(snapshot: Snapshot, step_m: float) -> FloatArray:
    """Where the handle (3,) will be when its part has opened by another `step_m`, measured at the handle."""
    handle, axis_pose = _handle(snapshot), snapshot.task.poses["axis"]
    axis = frames.quat_to_matrix(axis_pose[3:])[:, 2]
    if snapshot.task.scalars["is_drawer"]:
        return handle + step_m * axis
    lever = handle - axis_pose[:3]
    radius = float(np.linalg.norm(lever - (lever @ axis) * axis))
    turn = frames.quat_to_matrix(frames.rotvec_to_quat(axis * (step_m / max(radius, 1e-3))))
    return axis_pose[:3] + turn @ lever


def _handle(snapshot: Snapshot) -> FloatArray:
    return snapshot.task.poses["handle"][:3]


def _outward(snapshot: Snapshot) -> FloatArray:
    """The way to pull (3,): the handle site's x."""
    return frames.quat_to_matrix(snapshot.task.poses["handle"][3:])[:, 0]


def expert() -> Expert:
    return OpenPartExpert()
