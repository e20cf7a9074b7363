"""Assets put so that they touch what the objects touched: what stands on something is moved with it, what is against
a wall or another thing's side, or hangs on a wall, has its side on it, whatever its own size.

The place along a wall or side is free; what is across it follows from the asset's own surface.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.geometry import collides, geom_mesh, geom_pose, has_surface
from sim.cousins.layout import Relation
from sim.cousins.planes import Plane, top_plane
from sim.cousins.relations import side_facing, turn_to
from sim.cousins.scan import as_pose
from sim.cousins.scene import Pose, Scene, SceneObject, Vector3

HALF_TURN = np.array([0.0, 0.0, 0.0, 1.0])
HAIR_M = 2e-4
"""Sides that touch are put so far apart: MuJoCo's contacts of boxes go wrong where faces coincide exactly."""
FACES = 0.7
"""Cosine between directions that are said to be the same."""


@dataclass(frozen=True)
class Choice:
    """What stands for an extracted object."""

    object: SceneObject
    """As extracted."""
    asset: Asset
    """Scaled to its size."""
    pose_base: Pose
    """Where the centre of the asset's bounding box goes."""
    distance: float = 0.0
    """Between the two, by `sim.cousins.matching`."""
    color_rgb: Vector3 | None = None
    """Median colour that it takes; the asset's own when None."""
    relations: tuple[Relation, ...] = ()
    """What it was put on, in and against; filled in by `keep_relations`."""


def keep_relations(scene: Scene, choices: Sequence[Choice]) -> list[Choice]:
    """The choices, in their order, moved so that the relations of `scene` hold."""
    done: dict[str, Choice] = {}
    for choice in sorted(choices, key=lambda one: scene.depth(one.object.name)):
        done[choice.object.name] = _kept(scene, choice, done)
    return [done[choice.object.name] for choice in choices]


def _kept(scene: Scene, choice: Choice, done: Mapping[str, Choice]) -> Choice:
    """`choice` beside what it touches, which is `done`."""
    seen = {one.name: one for one in scene.objects}
    walls = {one.name: top_plane(one) for one in scene.supports if one.kind == "wall"}
    one, relations, planes, leader = seen[choice.object.name], [], [], ""
    for kind, other in scene.relations(one.name):
        plane = None
        if kind in ("against", "hanging"):
            plane = walls.get(other) or _side(one, seen[other], done.get(other))
            planes.append(plane)
        relations.append(Relation(kind, other, None if plane is None else plane.normal))
        if other in done and not leader:
            leader = other
            turn_rad = 0.0 if plane is None else _yaw(plane) - _yaw(side_facing(seen[other].box, one.box.corners()))
            choice = replace(choice, pose_base=_carried(one, seen[other], choice, done[other], turn_rad))
    if planes:
        choice = replace(choice, pose_base=_flush(choice, planes))
    return replace(choice, relations=tuple(relations))


def _side(one: SceneObject, other: SceneObject, placed: Choice | None) -> Plane:
    """The side of `other` that `one` touches, as it is on the asset that is `placed` for it."""
    side = side_facing(other.box, one.box.corners())
    if placed is None:
        return side
    back = turn_to(placed.pose_base[3:], side.normal)  # from the asset's nearest side to the one that was seen
    x, y, z = normal = frames.quat_to_matrix(back).T @ np.asarray(side.normal)
    return Plane((float(x), float(y), float(z)), float((_surface_m(placed.asset, placed.pose_base) @ normal).max()))


def _carried(one: SceneObject, other: SceneObject, choice: Choice, placed: Choice, turn_rad: float) -> Pose:
    """The pose of `choice`, as far from what is `placed` for the `other` as `one` was seen from it."""
    offset = np.subtract(one.box.pose_base[:2], other.box.pose_base[:2])
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    x, y = np.asarray(placed.pose_base[:2]) + np.array([[cosine, -sine], [sine, cosine]]) @ offset
    return (float(x), float(y), *choice.pose_base[2:])


def _flush(choice: Choice, planes: Sequence[Plane]) -> Pose:
    """Turned about the vertical until a side is parallel to the first plane, and slid level onto all of them.

    What opens has its front (+x) anywhere but there.
    """
    quat = frames.quat_multiply(turn_to(choice.pose_base[3:], planes[0].normal), np.asarray(choice.pose_base[3:]))
    if choice.asset.joints and frames.quat_to_matrix(quat)[:, 0] @ planes[0].normal < -FACES:
        quat = frames.quat_multiply(HALF_TURN, quat)
    pose = np.array([*choice.pose_base[:3], *quat])
    surface = _surface_m(choice.asset, pose)
    gaps = np.array([plane.height_m(surface).min() - HAIR_M for plane in planes])
    pose[:2] -= np.linalg.lstsq(np.array([plane.normal[:2] for plane in planes]), gaps, rcond=None)[0]
    return as_pose(pose)


def _surface_m(asset: Asset, pose_base: Sequence[float] | FloatArray) -> FloatArray:
    """Points (V, 3) of the base frame that what collides of the asset reaches out to."""
    return _vertices_m(asset) @ frames.quat_to_matrix(np.asarray(pose_base[3:])).T + np.asarray(pose_base[:3])


@lru_cache(maxsize=256)
def _vertices_m(asset: Asset) -> FloatArray:
    model = asset.build().compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    geoms = [geom for geom in range(model.ngeom) if collides(model, geom) and has_surface(model, geom)]
    return np.concatenate([geom_mesh(model, geom).moved(*geom_pose(data, geom)).vertices_m for geom in geoms])


def _yaw(plane: Plane) -> float:
    return float(np.arctan2(plane.normal[1], plane.normal[0]))
