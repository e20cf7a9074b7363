"""An extracted object's axes, as a tracker has them: a look at a thing does not tell which of its sides is its front.

A policy that sees orientations must be trained with those that it will be told.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.cousins.articulation import turned
from sim.cousins.scan import as_pose
from sim.cousins.scene import OrientedBox, SceneObject

ROUND = ("can", "bottle", "bowl")
"""Categories that look the same from all sides."""


def registered(seen: SceneObject, quat_base: FloatArray) -> SceneObject:
    """The object with its axes as near as it allows to those of `quat_base` (4,), a tracker's reading of it.

    A round thing takes the tracker's heading; any other is turned by quarter turns, its sizes with it. Things with
    parts keep their front.
    """
    if seen.parts:
        return seen
    wanted = _heading(quat_base)
    if seen.category in ROUND:
        turn = frames.rotvec_to_quat(np.array([0.0, 0.0, wanted - _heading(np.asarray(seen.box.pose_base[3:]))]))
        pose = [*seen.box.pose_base[:3], *frames.quat_multiply(turn, np.asarray(seen.box.pose_base[3:]))]
        return replace(seen, box=OrientedBox(as_pose(pose), seen.box.half_extents_m))
    boxes = [turned(seen.box, quarters) for quarters in range(4)]
    return replace(seen, box=min(boxes, key=lambda box: _apart(_heading(np.asarray(box.pose_base[3:])), wanted)))


def _heading(quat: FloatArray) -> float:
    """Angle of the x axis about the vertical."""
    x = frames.quat_to_matrix(quat)[:, 0]
    return float(np.arctan2(x[1], x[0]))


def _apart(one: float, other: float) -> float:
    return abs((one - other + np.pi) % (2.0 * np.pi) - np.pi)
