"""Wipe: press the wiper on the table and follow the nearest dirt."""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import Expert, action_towards

HOVER_M = 0.03  # height above the table when far from any dirt
NEAR_M = 0.10
TILTED_RAD = 0.03
CONTACT_M = (-0.003, -0.0008)  # heights at which the wiper wipes; pressing harder would tilt it


class WipeExpert:
    """Goes to the nearest marker that is left, pressing lightly."""

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        tcp, dirt = snapshot.arm.pose_base_tcp[:3], snapshot.task.poses["nearest"][:3]
        height = tcp[2] - dirt[2]
        if np.linalg.norm((dirt - tcp)[:2]) > NEAR_M:
            down = HOVER_M - height  # over the table on the way
        elif _tilt_rad(snapshot) > TILTED_RAD:
            down = 0.02  # pressed too hard: let go, then come down again
        elif height > 0.02:
            down = -height
        else:
            down = -0.002 if height > CONTACT_M[1] else 0.002 if height < CONTACT_M[0] else 0.0
        return action_towards(snapshot, spec, np.append(dirt[:2], tcp[2] + down), gripper=0.0)

    def progress(self, snapshot: Snapshot) -> float:
        """0.1 for reaching the dirt, 0.9 for what is wiped."""
        wiped = snapshot.task.scalars["wiped_fraction"]
        distance = float(np.linalg.norm(snapshot.task.poses["nearest"][:3] - snapshot.arm.pose_base_tcp[:3]))
        return 1.0 if snapshot.task.success else 0.1 * max(wiped > 0.0, 1.0 - distance / 0.5) + 0.9 * wiped


def _tilt_rad(snapshot: Snapshot) -> float:
    """Angle between the TCP's z and straight down."""
    down = -frames.quat_to_matrix(snapshot.arm.pose_base_tcp[3:])[2, 2]
    return float(np.arccos(np.clip(down, -1.0, 1.0)))


def expert() -> Expert:
    return WipeExpert()
