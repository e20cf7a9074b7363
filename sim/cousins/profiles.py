"""What matching knows of an asset: its outer surface, what opens and on which side, where its handles are."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.geometry import Mesh, outer_points, picture
from sim.cousins.scene import SceneObject

SURFACE_POINTS = 1024


@dataclass(frozen=True, eq=False)
class Opening:
    """A door, drawer or lid."""

    kind: str
    """See `sim.assets.asset.PartKind`."""
    hinge: FloatArray
    """(3,) from the panel's middle to its hinge, across the axis; 0 for a drawer."""


@dataclass(frozen=True, eq=False)
class Profile:
    """An asset or an object, in its own frame."""

    half_m: FloatArray
    """(3,) half extents."""
    openings: tuple[Opening, ...]
    """What opens."""
    handles_m: FloatArray
    """(H, 3) places of the handles that open something."""


@dataclass(frozen=True, eq=False)
class AssetProfile(Profile):
    """With its shape."""

    mesh: Mesh
    """What is drawn."""
    points_m: FloatArray
    """(P, 3) of the surface that can be seen from outside."""


@lru_cache(maxsize=4096)
def asset_profile(asset: Asset) -> AssetProfile:
    """Compiles the asset, once."""
    model = asset.build().compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mesh = picture(model, data)
    points = outer_points(mesh, SURFACE_POINTS, np.random.default_rng(0))
    openings = tuple(Opening(one.kind, _hinge_side(model, data, one.name)) for one in asset.joints)
    handles = [data.site(a.site).xpos.copy() for a in asset.affordances if a.kind == "handle" and a.joint]
    return AssetProfile(np.array(asset.half_extents_m), openings, np.array(handles).reshape(-1, 3), mesh, points)


def object_profile(seen: SceneObject) -> Profile:
    """Of what extraction says."""
    rotation = frames.quat_to_matrix(np.asarray(seen.box.pose_base[3:]))
    openings, handles = [], []
    for part in seen.parts:
        arm = seen.box.to_local(np.asarray(part.axis_point_base)) - seen.box.to_local(
            np.asarray(part.panel.pose_base[:3])
        )
        openings.append(
            Opening(part.kind, np.zeros(3) if part.kind == "drawer" else _across(arm, rotation.T @ part.axis_base))
        )
        if part.handle is not None:
            handles.append(seen.box.to_local(np.asarray(part.handle.pose_base[:3])))
    return Profile(np.array(seen.box.half_extents_m), tuple(openings), np.array(handles).reshape(-1, 3))


def _hinge_side(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> FloatArray:
    joint = model.joint(name)
    if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE:
        return np.zeros(3)
    moved = picture(model, data, np.flatnonzero(model.geom_bodyid == joint.bodyid[0]).tolist()).vertices_m
    center = (moved.min(0) + moved.max(0)) / 2
    return _across(data.xanchor[joint.id] - center, data.xaxis[joint.id])


def _across(arm: FloatArray, axis: FloatArray) -> FloatArray:
    return arm - (arm @ axis) * axis
