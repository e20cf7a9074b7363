"""Door: grasp the handle from the front, swing it down around its pivot, pull the door open."""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import Expert, GripWatch, action_towards, yaw_to

# Geometry of robosuite's door_lock.xml, in the handle site's frame: x along the bar from pivot to tip, y into
# the door.
PIVOT_FROM_SITE_M = np.array([-0.125, 0.10, 0.0])
GRASP_RADIUS_M = 0.11  # where along the bar to hold it: its tip is at 0.15
BAR_FROM_PIVOT_Y_M = -0.10
ALIGNED_M = np.array([0.012, 0.025])  # error across the fingers and along the bar with which they pass it
ALIGNED_RAD = 0.3
RETREAT_M = 0.06  # distance before the bar at which the finger tips clear it
AROUND_M = np.array([0.03, 0.035, 0.018])  # the bar is between the pads: TCP this near to its centre (TCP frame)
HOLDING = (0.06, 0.85)  # gripper positions when closed on the bar
UNLATCHED_RAD = 1.15  # latch angle at which the door comes free
PRESSED_RAD = 1.35  # latch angle to hold while pulling: at less, the latch drags along the frame
AJAR_RAD = 0.2  # hinge angle at which the latch can no longer catch


class DoorExpert:
    """Stage from the TCP's place relative to the handle, the fingers, and the two joint angles."""

    def __init__(self) -> None:
        self._watch = GripWatch()

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        resting, grip = self._watch.resting(snapshot), snapshot.arm.gripper_position
        tcp, rotation = snapshot.arm.pose_base_tcp[:3], frames.quat_to_matrix(snapshot.arm.pose_base_tcp[3:])
        hinge, latch = snapshot.task.scalars["hinge_rad"], snapshot.task.scalars["latch_rad"]
        bar, turn = _bar_point(snapshot, latch), yaw_to(snapshot, _bar_up(snapshot), np.pi)
        offset = rotation.T @ (bar - tcp)
        goal, gripper = bar, -1.0
        if (np.abs(offset) < AROUND_M).all():
            if resting and HOLDING[0] < grip < HOLDING[1]:
                swing = 0.0 if hinge > AJAR_RAD else float(np.clip(PRESSED_RAD - latch, -0.2, 0.3))
                pull = 0.05 if hinge > AJAR_RAD or latch > UNLATCHED_RAD else 0.0
                goal = _bar_point(snapshot, latch + swing) + pull * _pull_direction(snapshot)
                turn += swing
        elif (np.abs(offset[:2]) < ALIGNED_M).all() and abs(turn) < ALIGNED_RAD and grip > HOLDING[1]:
            gripper = 1.0
        else:
            goal, gripper = bar - RETREAT_M * rotation[:, 2], 1.0
            if -0.1 < offset[2] < RETREAT_M - 0.015 and np.abs(offset[:2]).max() < 0.1:
                goal = tcp + (offset[2] - RETREAT_M) * rotation[:, 2]  # back out first, along the fingers
        return action_towards(snapshot, spec, goal, gripper=gripper, rotvec_tcp=np.array([0.0, 0.0, turn]))

    def progress(self, snapshot: Snapshot) -> float:
        """0.3 for reaching the handle, 0.3 for pressing it, 0.4 for opening."""
        if snapshot.task.success:
            return 1.0
        hinge, latch = snapshot.task.scalars["hinge_rad"], snapshot.task.scalars["latch_rad"]
        distance = float(np.linalg.norm(_bar_point(snapshot, latch) - snapshot.arm.pose_base_tcp[:3]))
        reached = 0.3 * max(0.0, 1.0 - distance / 0.5)
        pressed = 0.3 if hinge > AJAR_RAD else 0.3 * float(np.clip(latch / UNLATCHED_RAD, 0.0, 1.0))
        return reached + pressed + 0.4 * float(np.clip(hinge / 0.3, 0.0, 1.0))


def _bar_point(snapshot: Snapshot, latch_rad: float) -> FloatArray:
    """Where the grasp point on the bar (3,) is, or would be at another latch angle, in the base frame."""
    handle = snapshot.task.poses["handle"]
    turned = frames.quat_to_matrix(handle[3:])
    ahead = latch_rad - snapshot.task.scalars["latch_rad"]
    along = np.array([np.cos(ahead), 0.0, -np.sin(ahead)]) * GRASP_RADIUS_M
    return handle[:3] + turned @ (PIVOT_FROM_SITE_M + along + [0.0, BAR_FROM_PIVOT_Y_M, 0.0])


def _bar_up(snapshot: Snapshot) -> FloatArray:
    """The bar's own upward axis (3,), in the base frame: the fingers close along it."""
    return frames.quat_to_matrix(snapshot.task.poses["handle"][3:])[:, 2]


def _pull_direction(snapshot: Snapshot) -> FloatArray:
    """Out of the door, in the base frame."""
    return -frames.quat_to_matrix(snapshot.task.poses["handle"][3:])[:, 1]


def expert() -> Expert:
    return DoorExpert()
