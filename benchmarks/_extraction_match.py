"""Extracted boxes against true ones: overlap, assignment, and errors that respect symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.cousins.articulation import turned
from sim.cousins.scene import OrientedBox, SceneObject
from sim.cousins.tabletop import Placed

MIN_IOU = 0.5
GRID = 24


@dataclass(frozen=True)
class Match:
    """One true thing and what was made of it."""

    touching: bool
    category: str
    found: str | None
    """Category of the match; None without one."""
    iou: float = 0.0
    centre_mm: float = np.nan
    half_extent_mm: float = np.nan
    """Mean over the three axes."""
    yaw_deg: float = np.nan
    """Of the heading, up to quarter turns that swap the sizes with it; NaN for round things."""
    tilt_deg: float = np.nan
    """Between the axes that are nearest to up."""
    articulation: bool | None = None
    """For true cabinets: whether doors and drawers are counted right, on the right side."""


def iou(first: OrientedBox, second: OrientedBox) -> float:
    """Intersection over union of two boxes, by a grid of 24^3 points in the first."""
    steps = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) * first.half_extents_m
    rotation = frames.quat_to_matrix(np.asarray(first.pose_base[3:]))
    points = grid @ rotation.T + np.asarray(first.pose_base[:3])
    inside = (np.abs(second.to_local(points)) <= second.half_extents_m).all(1).mean()
    volumes = [8 * np.prod(one.half_extents_m) for one in (first, second)]
    shared = inside * volumes[0]
    return float(shared / (sum(volumes) - shared))


def match(true: Sequence[Placed], found: Sequence[SceneObject]) -> tuple[list[Match], list[bool]]:
    """A `Match` per true thing; for each found object without one, whether the nearest true thing touches another."""
    overlap = np.array([[iou(one.box, other.box) for other in found] for one in true]).reshape(len(true), len(found))
    rows, columns = linear_sum_assignment(-overlap)
    pairs = {row: column for row, column in zip(rows, columns, strict=True) if overlap[row, column] >= MIN_IOU}
    matches = [
        compare(one, found[pairs[row]], overlap[row, pairs[row]])
        if row in pairs
        else Match(
            one.touching, one.thing.category, None, articulation=False if one.thing.category == "cabinet" else None
        )
        for row, one in enumerate(true)
    ]
    centres = np.array([one.position_m for one in true])
    alone = [number for number in range(len(found)) if number not in pairs.values()]
    nearest = [np.linalg.norm(centres - found[number].box.pose_base[:3], axis=1).argmin() for number in alone]
    return matches, [true[int(number)].touching for number in nearest]


def compare(true: Placed, found: SceneObject, overlap: float) -> Match:
    """Errors of a match; of the four headings that a box can be described by, the nearest counts."""
    options = [turned(found.box, quarter) for quarter in range(4)]
    yaws = [abs(_wrapped(_heading(one) - _heading(true.box))) for one in options]
    best = options[int(np.argmin(yaws))]
    tilt = np.arccos(np.clip(_axis(best, 2) @ _axis(true.box, 2), -1, 1))
    articulation = None
    if true.thing.category == "cabinet":
        kinds = [part.kind for part in found.parts]
        same = (kinds.count("door"), kinds.count("drawer")) == (true.thing.doors, true.thing.drawers)
        articulation = bool(same and yaws[0] < np.pi / 4)
    return Match(
        true.touching,
        true.thing.category,
        found.category,
        float(overlap),
        float(np.linalg.norm(np.subtract(found.box.pose_base[:3], true.position_m))) * 1e3,
        float(np.abs(np.subtract(best.half_extents_m, true.thing.half_extents_m)).mean()) * 1e3,
        float("nan") if true.thing.is_round else float(np.rad2deg(min(yaws))),
        float(np.rad2deg(tilt)),
        articulation,
    )


def _heading(box: OrientedBox) -> float:
    x = _axis(box, 0)
    return float(np.arctan2(x[1], x[0]))


def _axis(box: OrientedBox, number: int) -> FloatArray:
    return frames.quat_to_matrix(np.asarray(box.pose_base[3:]))[:, number]


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
