"""Simple solids fitted to what one side of a thing shows: boxes (upright or tilted), round things, lying cylinders.

A camera sees some faces; the rest follows from symmetry (round things) and from standing on the support (the solid is
carried down to it). Each fit says which share of the points it explains, by the direction of their normals.

Shape letters: N points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from robot_rl import frames
from robot_rl.types import BoolArray, FloatArray
from sim.cousins.scan import as_pose
from sim.cousins.scene import OrientedBox
from sim.cousins.surfaces import (
    AGREES,
    MIN_FACE,
    UP,
    UPRIGHT,
    Surface,
    lying_axis,
    round_axis,
    tilted_axes,
    upright_axes,
)

ShapeKind = Literal["box", "round", "lying"]
REACH_DOWN_M = 0.05
"""A tilted solid whose lowest corner is nearer to the support than this is carried down to it."""
MIN_HALF_M = 0.002
MAX_RADIUS = 0.75
"""Of a round thing as a share of the width that is seen of it; half of it is seen, so 0.5 is right."""


@dataclass(frozen=True)
class Shape:
    """A solid, and how well it explains the points."""

    kind: ShapeKind
    """What it is."""
    box: OrientedBox
    """Its oriented box, in the scene's convention of axes."""
    explained: float
    """Share of the normals that it explains."""


def fit_shape(surface: Surface) -> Shape:
    """The solid that explains the points best; a box unless another one is clearly better."""
    shapes = [fit_box(surface), fit_round(surface), fit_lying(surface)]
    box, best = shapes[0], max(shapes, key=lambda shape: shape.explained)
    if best is not box and best.explained - box.explained < 0.08 and not _outline_is_round(surface):
        return box
    if best is box and _outline_is_round(surface) and shapes[1].explained > 0.9:
        return shapes[1]
    return best


def fit_box(surface: Surface) -> Shape:
    """Axes from the normals' directions, sizes from faces where they are seen and from the points' range elsewhere."""
    rotation = tilted_axes(surface)
    if rotation is None:
        rotation = upright_axes(surface)
    low, high = _box_range(surface, rotation)
    return _scored("box", make_box(rotation, low, high), surface)


def agreement(shape: Shape, surface: Surface) -> BoolArray:
    """Which points' normals (N,) are those that the solid has there."""
    normals = surface.normals
    local = shape.box.to_local(surface.points)
    rotation = frames.quat_to_matrix(np.asarray(shape.box.pose_base[3:]))
    if shape.kind == "box":
        return np.abs(normals @ rotation).max(1) > AGREES
    axis = 2 if shape.kind == "round" else 0
    across = [one for one in range(3) if one != axis]
    offset, turned = local[:, across], normals @ rotation
    size = np.linalg.norm(offset, axis=1) * np.linalg.norm(turned[:, across], axis=1)
    radial = (turned[:, across] * offset).sum(1) / np.maximum(size, 1e-9)
    on_end = np.abs(turned[:, axis]) > AGREES
    if shape.kind == "round":  # seen from inside, too: a bowl; and narrowing: a bottle
        return (np.abs(radial) > AGREES) | on_end
    radius = shape.box.half_extents_m[2]
    at_radius = np.abs(np.linalg.norm(offset, axis=1) - radius) < 0.2 * radius + 0.003
    on_side = (radial > AGREES) & at_radius & (np.abs(turned[:, axis]) < 0.4)
    return on_side | on_end


def fits(shape: Shape, surface: Surface, slack_m: float) -> BoolArray:
    """Which points (N,) are explained by normal and, on a box, lie on its surface within `slack_m`."""
    agrees = agreement(shape, surface)
    if shape.kind != "box":
        return agrees
    local, half = np.abs(shape.box.to_local(surface.points)), np.asarray(shape.box.half_extents_m)
    return agrees & (local < half + slack_m).all(1) & (np.abs(local - half).min(1) < slack_m)


def _scored(kind: ShapeKind, box: OrientedBox, surface: Surface) -> Shape:
    return Shape(kind, box, float(agreement(Shape(kind, box, 0.0), surface).mean()))


def fit_round(surface: Surface) -> Shape:
    """A solid of revolution about an upright axis."""
    x, y, radius = _outer_circle(surface.points, round_axis(surface))
    top = top_height(surface)
    low = np.array([x - radius, y - radius, surface.ground_m])
    high = np.array([x + radius, y + radius, max(top, surface.ground_m + 2 * MIN_HALF_M)])
    if radius > MAX_RADIUS * max(cv2.minAreaRect(surface.points[:, :2].astype(np.float32))[1]):
        return Shape("round", make_box(np.eye(3), low, high), 0.0)  # a short arc may belong to any circle
    return _scored("round", make_box(np.eye(3), low, high), surface)


def fit_lying(surface: Surface) -> Shape:
    """A cylinder whose axis is level: radius from its height, place from its normals."""
    points, normals = surface.points, surface.normals
    axis = lying_axis(normals)
    side = np.cross(UP, axis)
    rotation = np.stack([axis, side, UP], -1)
    is_round = np.abs(normals @ axis) < 0.4
    if is_round.sum() < MIN_FACE:
        return Shape("lying", fit_box(surface).box, 0.0)
    top = float(np.percentile(points[:, 2], 99.0))
    radius = max((top - surface.ground_m) / 2, MIN_HALF_M)
    flat = np.stack([points @ side, points[:, 2]], -1)[is_round]
    across = normals[is_round] @ np.stack([side, UP], -1)
    centre = float(np.median(flat[:, 0] - radius * across[:, 0]))
    along = points @ axis
    start, end = np.percentile(along, (0.7, 99.3))
    low = np.array([start, centre - radius, surface.ground_m])
    high = np.array([end, centre + radius, surface.ground_m + 2 * radius])
    pose = as_pose(np.concatenate([rotation @ ((low + high) / 2), frames.matrix_to_quat(rotation)]))
    half = max(float(end - start) / 2, MIN_HALF_M)
    return _scored("lying", OrientedBox(pose, (half, radius, radius)), surface)


def make_box(rotation: FloatArray, low: FloatArray, high: FloatArray) -> OrientedBox:
    """The box between two corners given along the columns of `rotation`; x becomes the longer horizontal axis."""
    half = np.maximum((high - low) / 2, MIN_HALF_M)
    centre = rotation @ ((high + low) / 2)
    order = np.argsort(-np.abs(rotation[2]))
    up, (first, second) = order[0], sorted(order[1:], key=lambda axis: -half[axis])
    z = rotation[:, up] * np.sign(rotation[2, up])
    x = rotation[:, first]
    turned = np.stack([x, np.cross(z, x), z], -1)
    pose = as_pose(np.concatenate([centre, frames.matrix_to_quat(turned)]))
    return OrientedBox(pose, (float(half[first]), float(half[second]), float(half[up])))


def top_height(surface: Surface) -> float:
    """Height of the upper face if there is one, else of the highest points."""
    z = surface.points[:, 2]
    highest = float(np.percentile(z, 99.0))
    flat = (surface.normals[:, 2] > UPRIGHT) & (z > highest - 0.008)
    return float(np.median(z[flat])) if flat.sum() > MIN_FACE else highest


def _outer_circle(points: FloatArray, centre: FloatArray) -> FloatArray:
    """Circle (x, y, radius) through the points that are farthest from the axis at `centre` (2,)."""
    distance = np.linalg.norm(points[:, :2] - centre, axis=1)
    outer = np.percentile(distance, 97.0)
    rim = points[distance > outer - 0.006, :2]
    circle = np.array([*centre, outer])
    for _ in range(8):
        offset = rim - circle[:2]
        length = np.linalg.norm(offset, axis=1)
        residual = length - circle[2]
        jacobian = np.concatenate([-offset / length[:, None], -np.ones((len(rim), 1))], 1)
        weight = 1 / (1 + (residual / 0.003) ** 2)
        # The axis found from all normals holds the centre where the rim is a short arc.
        hold = np.diag([0.02 * len(rim), 0.02 * len(rim), 0.0])
        gradient = (jacobian * weight[:, None]).T @ residual + hold @ (circle - [*centre, 0.0])
        circle = circle - np.linalg.solve((jacobian * weight[:, None]).T @ jacobian + hold, gradient)
    return circle


def _box_range(surface: Surface, rotation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lower and upper corner along the columns of `rotation`, carried down to the support."""
    local, facing = surface.points @ rotation, surface.normals @ rotation
    low, high = np.percentile(local, 0.7, axis=0), np.percentile(local, 99.3, axis=0)
    for axis in range(3):
        for sign, bound in ((1, high), (-1, low)):
            edge = np.percentile(local[:, axis], 99 if sign > 0 else 1)
            face = (sign * facing[:, axis] > AGREES) & (np.abs(local[:, axis] - edge) < 0.012)
            if face.sum() > max(MIN_FACE, 0.03 * len(local)):
                bound[axis] = np.median(local[face, axis])
    up = int(np.argmax(np.abs(rotation[2])))
    down, bound = (low, -1) if rotation[2, up] > 0 else (high, 1)
    signs = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    lowest = float(((low + signs * (high - low)) @ rotation.T)[:, 2].min())
    gap = lowest - surface.ground_m
    if abs(rotation[2, up]) > UPRIGHT or gap < REACH_DOWN_M:
        down[up] += bound * gap / abs(rotation[2, up])
    return low, high


def _outline_is_round(surface: Surface) -> bool:
    """Whether the upper face, seen from above, fills its rectangle as a disc does (pi / 4), not as a box (1)."""
    top = surface.points[surface.points[:, 2] > top_height(surface) - 0.006][:, :2].astype(np.float32)
    if len(top) < 2 * MIN_FACE:
        return False
    hull = cv2.convexHull(top)
    _, (width, height), _ = cv2.minAreaRect(hull)
    filled = cv2.contourArea(hull) / max(width * height, 1e-9)
    return bool(filled < 0.87 and min(width, height) > 0.75 * max(width, height))
