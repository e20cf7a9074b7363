"""Wipe: press the wiper on the table and follow the nearest dirt."""

from __future__ import annotations

import numpy as np

from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import Expert, action_towards


class WipeExpert:
    """Goes to the nearest marker that is left, pressing lightly."""

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        tcp, dirt = snapshot.arm.pose_base_tcp[:3], snapshot.task.poses["nearest"][:3]
        press = 0.01 if np.linalg.norm((dirt - tcp)[:2]) < 0.1 else -0.03
        return action_towards(snapshot, spec, dirt - [0.0, 0.0, press], gripper=0.0)

    def progress(self, snapshot: Snapshot) -> float:
        """0.1 for reaching the dirt, 0.9 for what is wiped."""
        wiped = snapshot.task.scalars["wiped_fraction"]
        distance = float(np.linalg.norm(snapshot.task.poses["nearest"][:3] - snapshot.arm.pose_base_tcp[:3]))
        return 1.0 if snapshot.task.success else 0.1 * max(wiped > 0.0, 1.0 - distance / 0.5) + 0.9 * wiped


def expert() -> Expert:
    return WipeExpert()
