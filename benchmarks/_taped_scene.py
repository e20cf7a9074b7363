"""A hidden world's scene as a person with a tape measure would write it down: boxes, the door, its hinge and handle.

It stands for what extraction says of a scan, in the same form, with errors of millimetres; so figures that rest on it
are not those of the whole recipe.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.assets.asset import ROOT, Affordance
from sim.cousins.hidden import HiddenWorld, hidden_world
from sim.cousins.layout import PlacedAsset
from sim.cousins.scene import OrientedBox, Part, Pose, Scene, SceneObject, Support, Vector3

PLACE_M, SIZE = 0.003, 0.02
"""Standard deviations of places, and of sizes as a share."""
TABLE_M = (0.45, 0.7, 0.02)
"""Half extents."""
GREY = (0.5, 0.5, 0.5)


def taped_scene(family: str, seed: int) -> Scene:
    """Of `sim.cousins.hidden.hidden_world(family, seed)`."""
    world, rng = hidden_world(family, seed), np.random.default_rng([seed, 77])
    data = mujoco.MjData(world.model)
    mujoco.mj_forward(world.model, data)
    objects = tuple(_object(world, data, placed, rng) for placed in world.layout.objects)
    top_m = min(float(one.box.corners()[:, 2].min()) for one in objects)
    table = Support("table_0", "table", OrientedBox((0.6, 0.0, top_m - TABLE_M[2], 1.0, 0.0, 0.0, 0.0), TABLE_M))
    views = world.layout.views
    world.close()
    return Scene((table,), objects, views)


def _object(world: HiddenWorld, data: mujoco.MjData, placed: PlacedAsset, rng: np.random.Generator) -> SceneObject:
    pose = np.asarray(placed.pose_base, np.float64)
    shift = np.append(rng.normal(0.0, PLACE_M, 2), 0.0)
    half = np.asarray(placed.half_extents_m, np.float64) * np.append(1.0 + rng.normal(0.0, SIZE, 2), 1.0)
    handles = [one for one in placed.affordances if one.kind == "handle"]
    parts = tuple(_part(world.model, data, placed.name, one, shift) for one in handles)
    category = placed.asset.rpartition("/")[2].replace("item", "box")
    box = OrientedBox(_pose(pose[:3] + shift, pose[3:]), _three(half))
    return SceneObject(placed.name, box, GREY, category, 1.0, parts, "table_0")


def _part(model: mujoco.MjModel, data: mujoco.MjData, name: str, handle: Affordance, shift: FloatArray) -> Part:
    """The panel is the first box of the body that the handle's joint moves; the handle is what that body carries."""
    joint = model.joint(handle.joint)
    body, rotation = int(joint.bodyid[0]), data.body(f"{name}/{ROOT}").xmat.reshape(3, 3)
    quat = frames.matrix_to_quat(rotation)
    of_body = np.flatnonzero(model.geom_bodyid == body)
    panel = int(next(one for one in of_body if model.geom_type[one] == mujoco.mjtGeom.mjGEOM_BOX))
    carried = np.flatnonzero(model.body_parentid[model.geom_bodyid] == body).tolist()
    low, high = _bounds(model, data, carried, rotation)
    centre, is_door = data.geom_xpos[panel], joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE
    return Part(
        "door" if is_door else "drawer",
        OrientedBox(_pose(centre + shift, quat), _three(model.geom_size[panel])),
        _three((data.xanchor[joint.id] if is_door else centre) + shift),
        _three(data.xaxis[joint.id]),
        OrientedBox(_pose(rotation @ (low + high) / 2 + shift, quat), _three((high - low) / 2)),
        "user",
    )


def _bounds(
    model: mujoco.MjModel, data: mujoco.MjData, geoms: Sequence[int], rotation: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest corner (3,) of the geoms' boxes, along the axes of `rotation`."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = [
        data.geom_xpos[one]
        + (model.geom_aabb[one, :3] + signs * model.geom_aabb[one, 3:]) @ data.geom_xmat[one].reshape(3, 3).T
        for one in geoms
    ]
    local = np.concatenate(corners) @ rotation
    return local.min(0), local.max(0)


def _pose(position: FloatArray, quat: FloatArray) -> Pose:
    x, y, z, qw, qx, qy, qz = (float(one) for one in (*position, *quat))
    return x, y, z, qw, qx, qy, qz


def _three(values: FloatArray) -> Vector3:
    x, y, z = (float(one) for one in values)
    return x, y, z
