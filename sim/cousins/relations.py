"""What hangs on a wall and what stands against a wall or another thing's side, by geometry.

A scene says it by name (`SceneObject.support`, `SceneObject.against`); `sim.cousins.placing` keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.cousins.fusion import Cloud
from sim.cousins.planes import Plane, top_plane
from sim.cousins.scan import as_pose
from sim.cousins.scene import OrientedBox, SceneObject, Support
from sim.cousins.surfaces import UPRIGHT

AROUND = np.arange(48) * 2 * np.pi / 48


@dataclass(frozen=True)
class RelationConfig:
    """When two things touch, and when one hangs."""

    wall_m: float = 0.02
    """A side this near to a wall touches it: what is seen within 8 mm of a wall counts as wall, and depth is noisy."""
    side_m: float = 0.006
    """A side this near to another object's side (or so far in it) touches it."""
    parallel_deg: float = 10.0
    """Sides that touch are parallel within this."""
    overlap_m: float = 0.01
    """Sides that touch face each other over at least this, across and upwards."""
    hangs_m: float = 0.03
    """What hangs ends at least this far above what is below it ..."""
    seen_under: int = 90
    """... and at least so many points are seen through the space between: nothing carries it there."""


def side_facing(box: OrientedBox, points: FloatArray) -> Plane:
    """The upright side of `box` that lies between it and the `points` (N, 3), or is least deep among them."""
    local, half = box.to_local(points), box.half_extents_m
    gaps = [((sign * local[:, axis]).min() - half[axis], axis, sign) for axis in (0, 1) for sign in (-1.0, 1.0)]
    _, axis, sign = max(gaps)
    x, y, z = normal = sign * frames.quat_to_matrix(np.asarray(box.pose_base[3:]))[:, axis]
    return Plane((float(x), float(y), float(z)), float(normal @ np.asarray(box.pose_base[:3])) + half[axis])


def turn_to(quat_wxyz: Sequence[float] | FloatArray, normal: Sequence[float]) -> FloatArray:
    """The turn (w, x, y, z) about the vertical after which one of the level axes is along `normal`, the least one."""
    axes = frames.quat_to_matrix(np.asarray(quat_wxyz)).T[:, :2]
    axes = axes[np.linalg.norm(axes, axis=1) > 0.5]
    angles = np.arctan2(normal[1], normal[0]) - np.arctan2(axes[:, 1], axes[:, 0])
    angles = (angles + np.pi / 4) % (np.pi / 2) - np.pi / 4
    return frames.rotvec_to_quat(np.array([0.0, 0.0, angles[np.argmin(np.abs(angles))]]))


def outline(box: OrientedBox, is_round: bool) -> FloatArray:
    """Points (N, 3) that the solid in `box` reaches out to: corners, or circles."""
    if not is_round:
        return box.corners()
    x, y, z, *_ = box.pose_base
    half = box.half_extents_m
    circle = np.stack([x + half[0] * np.cos(AROUND), y + half[0] * np.sin(AROUND)], -1)
    return np.concatenate([np.insert(circle, 2, z + sign * half[2], axis=1) for sign in (-1.0, 1.0)])


def wall_of(
    box: OrientedBox, is_round: bool, supports: Sequence[Support], config: RelationConfig
) -> tuple[Support, ...]:
    """The walls that a thing in `box` touches."""
    points = outline(box, is_round)
    found = []
    for wall in supports:
        if wall.kind != "wall" or not (is_round or _is_parallel(box, top_plane(wall), config)):
            continue
        within = _overlap_m(wall.box.to_local(points), wall.box, (1, 2)) > config.overlap_m
        if within and abs(top_plane(wall).height_m(points).min()) < config.wall_m:
            found.append(wall)
    return tuple(found)


def drawn_to(box: OrientedBox, wall: Support) -> OrientedBox:
    """The upright box turned parallel to the wall and drawn out so that its back, which cannot be seen, is on it."""
    plane = top_plane(wall)
    quat = frames.quat_multiply(turn_to(box.pose_base[3:], plane.normal), np.asarray(box.pose_base[3:]))
    box = OrientedBox(as_pose([*box.pose_base[:3], *quat]), box.half_extents_m)
    gap = float(plane.height_m(box.corners()).min())
    along = frames.quat_to_matrix(quat).T @ np.asarray(plane.normal)
    axis = int(np.argmax(np.abs(along[:2])))
    half, centre = np.array(box.half_extents_m), np.zeros(3)
    half[axis] += gap / 2
    centre[axis] = -np.sign(along[axis]) * gap / 2
    pose = frames.compose(np.asarray(box.pose_base), np.array([*centre, 1.0, 0.0, 0.0, 0.0]))
    return OrientedBox(as_pose(pose), (float(half[0]), float(half[1]), float(half[2])))


def is_seen_under(box: OrientedBox, ground_m: float, cloud: Cloud, config: RelationConfig) -> bool:
    """Whether the camera looks through the space between `box` and the ground below it: the box does not stand."""
    bottom = float(box.corners()[:, 2].min())
    if bottom - ground_m < config.hangs_m:
        return False
    margin = config.hangs_m / 4
    x, y, _, *quat = box.pose_base
    under = OrientedBox(
        as_pose([x, y, (bottom + ground_m) / 2, *quat]),
        (0.8 * box.half_extents_m[0], 0.8 * box.half_extents_m[1], (bottom - ground_m) / 2 - margin),
    )
    start, end = under.to_local(cloud.origins), under.to_local(cloud.points)
    step = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = (np.array(under.half_extents_m) * np.array([[[-1.0]], [[1.0]]]) - start) / step  # (2, N, 3)
    enters, leaves = bounds.min(0).max(1), bounds.max(0).min(1)
    return int(((enters < leaves) & (enters > 0.0) & (leaves < 1.0)).sum()) >= config.seen_under


def with_touches(
    objects: Sequence[SceneObject], is_round: Collection[str], supports: Sequence[Support], config: RelationConfig
) -> tuple[SceneObject, ...]:
    """The objects with what each is against; boxes that touch a wall are drawn out to it."""
    drawn = []
    for one in objects:
        walls = wall_of(one.box, one.name in is_round, supports, config)
        for wall in walls:
            if one.name not in is_round and _is_upright(one.box):
                one = replace(one, box=drawn_to(one.box, wall))
        drawn.append(replace(one, against=tuple(wall.name for wall in walls if wall.name != one.support)))
    return tuple(
        replace(one, against=(*one.against, *(o.name for o in drawn if _is_against(one, o, is_round, config))))
        for one in drawn
    )


def _is_against(one: SceneObject, other: SceneObject, is_round: Collection[str], config: RelationConfig) -> bool:
    """Whether `one` touches a side of the larger `other`. Round things have no side to stand against."""
    smaller = (np.prod(one.box.half_extents_m), one.name) < (np.prod(other.box.half_extents_m), other.name)
    if not smaller or other.name in is_round or other.name == one.support or not _is_upright(other.box):
        return False
    points = outline(one.box, one.name in is_round)
    side = side_facing(other.box, points)
    if abs(side.height_m(points).min()) > config.side_m:
        return False
    normal = np.abs(frames.quat_to_matrix(np.asarray(other.box.pose_base[3:])).T @ np.asarray(side.normal))
    across = 1 - int(np.argmax(normal[:2]))
    faces_it = _overlap_m(other.box.to_local(points), other.box, (across, 2)) > config.overlap_m
    return faces_it and (one.name in is_round or _is_parallel(one.box, side, config))


def _overlap_m(local: FloatArray, box: OrientedBox, axes: tuple[int, int]) -> float:
    """Over how much the points (N, 3) of the box's frame and the box face each other, along the lesser of two axes."""
    half = np.asarray(box.half_extents_m)
    return min(min(local[:, axis].max(), half[axis]) - max(local[:, axis].min(), -half[axis]) for axis in axes)


def _is_parallel(box: OrientedBox, plane: Plane, config: RelationConfig) -> bool:
    turn = turn_to(box.pose_base[3:], plane.normal)
    return float(2.0 * np.arccos(min(abs(turn[0]), 1.0))) < np.deg2rad(config.parallel_deg)


def _is_upright(box: OrientedBox) -> bool:
    return bool(frames.quat_to_matrix(np.asarray(box.pose_base[3:]))[2, 2] > UPRIGHT)
