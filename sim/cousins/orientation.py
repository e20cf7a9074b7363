"""How an asset stands in an object's box: turns that keep what is up, refined by yaw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.cousins.profiles import AssetProfile
from sim.cousins.scene import OrientedBox, SceneObject

LYING = ("bottle", "can", "box", "tool", "peg", "connector")
"""Categories that may lie on any side; others keep their z up."""
FRONTED = ("door", "drawer")
"""Parts that say where an object's front is: the +x of its box."""
TRIED = 4
"""Box fits that are refined: as many as there are quarter turns."""
ICP_STEPS, ICP_POINTS = 8, 128
"""Iterations, and points that take part."""
MAX_YAW_RAD = np.deg2rad(20.0)
"""An object's box is known to about so much."""


@dataclass(frozen=True, eq=False)
class Orientation:
    """One way to put the asset into the box."""

    rotation: FloatArray
    """(3, 3) from the asset's axes to the box's, a signed permutation, before yaw."""
    yaw_rad: float
    """About the box's z, after that."""
    residual: float
    """Mean distance from seen points to the surface, in units of the box's half diagonal."""

    def half_m(self, profile: AssetProfile) -> FloatArray:
        """The asset's half extents (3,) along the box's axes."""
        return np.abs(self.rotation) @ profile.half_m


def turns(asset: Asset, seen: SceneObject) -> list[FloatArray]:
    """Rotations (3, 3) that may be meant."""
    if asset.joints and any(part.kind in FRONTED for part in seen.parts):
        return [np.eye(3)]
    cyclic = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    lifts = [np.eye(3), cyclic, cyclic @ cyclic] if asset.category in LYING and not asset.joints else [np.eye(3)]
    return [np.round(_yaw(quarter * np.pi / 2)) @ lift for lift in lifts for quarter in range(4)]


def box_fits(asset: Asset, profile: AssetProfile, seen: SceneObject) -> list[FloatArray]:
    """The turns that make the asset's box most like the object's, at most `TRIED`."""
    wanted = np.log(seen.box.half_extents_m)
    costs = [(float(np.abs(np.log(np.abs(turn) @ profile.half_m) - wanted).sum()), turn) for turn in turns(asset, seen)]
    return [turn for _, turn in sorted(costs, key=lambda pair: pair[0])[:TRIED]]


def refine(turn: FloatArray, profile: AssetProfile, box: OrientedBox, points_m: FloatArray) -> Orientation:
    """ICP (Besl and McKay 1992) in yaw alone. The asset is stretched to the box, whose frame `points_m` (N, 3) have."""
    half = np.asarray(box.half_extents_m)
    model = profile.points_m @ turn.T * (half / (np.abs(turn) @ profile.half_m))
    points_m = points_m[:: max(len(points_m) // ICP_POINTS, 1)]
    tree, diagonal, yaw = KDTree(model), float(np.linalg.norm(half)), 0.0
    for _ in range(ICP_STEPS):
        turned = points_m @ _yaw(-yaw).T
        target = model[tree.query(turned)[1]]
        sine = float((target[:, 0] * turned[:, 1] - target[:, 1] * turned[:, 0]).sum())
        step = float(np.arctan2(sine, float((target[:, :2] * turned[:, :2]).sum())))
        yaw = float(np.clip(yaw + step, -MAX_YAW_RAD, MAX_YAW_RAD))
        if abs(step) < 1e-4:
            break
    distances, _ = tree.query(points_m @ _yaw(-yaw).T)
    return Orientation(turn, yaw, float(distances.mean()) / diagonal)


def pose_base(orientation: Orientation, profile: AssetProfile, box: OrientedBox) -> FloatArray:
    """Pose (7,) of the asset in the base frame: over the box's centre, with the box's lower face."""
    lift = orientation.half_m(profile)[2] - box.half_extents_m[2]
    rotation = _yaw(orientation.yaw_rad) @ orientation.rotation
    local = np.concatenate([[0.0, 0.0, lift], frames.matrix_to_quat(rotation)])
    return frames.compose(np.asarray(box.pose_base), local)


def _yaw(angle_rad: float) -> FloatArray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
