"""Test tables with exact ground truth: what extraction is measured on.

From a seed: one to six things, separated or with a touching pair (side by side, flush, leaning or stacked), seen by one
oblique camera like a RealSense D435 (640 x 480, 42.5 degrees upright).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import ConvexHull

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.cousins import tabletop_things as things
from sim.cousins.scene import OrientedBox
from sim.cousins.tabletop_things import Thing

TABLE_CENTRE = np.array([0.5, 0.0])
FOVY_DEG = 42.5
"""Intel RealSense D400 datasheet, colour sensor of the D435 at 4:3: 42.5 degrees upright."""
GAP_M = 0.025
"""Things that are said to be separated stand at least so far apart."""


@dataclass(frozen=True)
class Placed:
    """A thing and where it is."""

    thing: Thing
    position_m: tuple[float, float, float]
    """Centre of its box."""
    quat_wxyz: tuple[float, float, float, float]
    """Orientation of its box."""
    touching: bool = False
    """Whether it touches another thing."""

    @property
    def box(self) -> OrientedBox:
        return OrientedBox((*self.position_m, *self.quat_wxyz), self.thing.half_extents_m)

    def footprint(self) -> FloatArray:
        """Convex outline (K, 2) on the table; a round thing's circle by 24 points outside of it."""
        if self.thing.is_round:
            angle = np.arange(24) * np.pi / 12
            radius = self.thing.half_extents_m[0] / np.cos(np.pi / 24)
            return np.asarray(self.position_m[:2]) + radius * np.stack([np.cos(angle), np.sin(angle)], -1)
        return self.box.corners()[:, :2]


@dataclass(frozen=True)
class Tabletop:
    """A table with things on it, and the camera's place."""

    placed: tuple[Placed, ...]
    pose_base_camera: FloatArray
    """(7,), z forward and y down."""
    seed: int
    """What it was made from."""

    @property
    def touching(self) -> bool:
        """Whether any two things touch."""
        return any(one.touching for one in self.placed)


def sample_tabletop(seed: int, attempt: int = 0, touching_share: float = 0.45) -> Tabletop:
    """An arrangement in which things stand clear of each other, or two touch: which of these, `seed` alone decides.

    Whether the camera sees enough of it is not known yet; another `attempt` draws anew.
    """
    rng = np.random.default_rng((seed, attempt))
    placed: list[Placed] = []
    pose = _camera(rng)
    if np.random.default_rng(seed).uniform() < touching_share:
        placed += _touching_pair(rng, pose)
    count = int(rng.integers(1, 7))
    for _ in range(50):
        if len(placed) >= count:
            break
        new = _stand(rng, _thing(rng), TABLE_CENTRE + rng.uniform(-1, 1, 2) * (0.22, 0.26), pose)
        if all(gap_m(new.footprint(), old.footprint()) > GAP_M for old in placed):
            placed.append(new)
    return Tabletop(tuple(placed), pose, seed)


def _thing(rng: np.random.Generator, rgb: things.RGB | None = None) -> Thing:
    family = things.FAMILIES[rng.integers(len(things.FAMILIES))]
    thing = family(rng, rgb or things.color(rng))
    return thing.lying() if thing.category == "can" and rng.uniform() < 0.25 else thing


def _stand(rng: np.random.Generator, thing: Thing, xy: FloatArray, pose: FloatArray) -> Placed:
    """On the table, turned at random; a front with doors looks within 50 degrees of the camera."""
    yaw = float(rng.uniform(-np.pi, np.pi))
    if thing.doors or thing.drawers:
        towards = pose[:2] - xy
        yaw = float(np.arctan2(towards[1], towards[0]) + np.deg2rad(rng.uniform(-50, 50)))
    return _at(thing, xy, yaw)


def _at(thing: Thing, xy: FloatArray, yaw: float) -> Placed:
    quat = (float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2)))
    return Placed(thing, (float(xy[0]), float(xy[1]), thing.half_extents_m[2]), quat)


def _touching_pair(rng: np.random.Generator, pose: FloatArray) -> list[Placed]:
    """Two things in contact; one in five has the other's colour."""
    first_rgb = things.color(rng)
    second_rgb = first_rgb if rng.uniform() < 0.2 else things.color(rng)
    ways = (_beside, _flush, _leaning, _stacked)
    pair = ways[rng.choice(4, p=(0.45, 0.2, 0.2, 0.15))](rng, first_rgb, second_rgb, pose)
    return [replace(one, touching=True) for one in pair]


def _beside(rng: np.random.Generator, first: things.RGB, second: things.RGB, pose: FloatArray) -> list[Placed]:
    """Any two things, one moved towards the other until they meet."""
    xy = TABLE_CENTRE + rng.uniform(-0.1, 0.1, 2)
    anchor = _stand(rng, _thing(rng, first), xy, pose)
    other = _thing(rng, second)
    angle = rng.uniform(-np.pi, np.pi)
    return [anchor, _slide(lambda xy: _stand(rng, other, xy, pose), anchor, angle)]


def _flush(rng: np.random.Generator, first: things.RGB, second: things.RGB, pose: FloatArray) -> list[Placed]:
    """Two boxes face to face."""
    anchor = _stand(rng, things.box(rng, first), TABLE_CENTRE + rng.uniform(-0.1, 0.1, 2), pose)
    other = things.box(rng, second)
    if first == second:  # same colour and same height would be one box to anyone who looks
        higher = anchor.thing.half_extents_m[2] + 0.015
        half = (*other.half_extents_m[:2], higher)
        other = Thing("box", half, (replace(other.solids[0], size_m=half),))
    yaw = 2 * float(np.arctan2(anchor.quat_wxyz[3], anchor.quat_wxyz[0]))
    angle = yaw + float(rng.integers(4)) * np.pi / 2
    return [anchor, _slide(lambda xy: _at(other, xy, yaw), anchor, angle)]


def _leaning(rng: np.random.Generator, first: things.RGB, second: things.RGB, pose: FloatArray) -> list[Placed]:
    """A slab whose upper edge rests on the side of a higher box."""
    block = things.box(rng, first)
    half = (*block.half_extents_m[:2], float(rng.uniform(0.06, 0.1)))
    block = Thing("box", half, (replace(block.solids[0], size_m=half),))
    anchor = _stand(rng, block, TABLE_CENTRE + rng.uniform(-0.1, 0.1, 2), pose)
    slab = things.slab(rng, second)
    thin, _, tall = slab.half_extents_m
    tilt = float(np.deg2rad(rng.uniform(12, 35)))
    yaw = 2 * float(np.arctan2(anchor.quat_wxyz[3], anchor.quat_wxyz[0])) + float(rng.integers(4)) * np.pi / 2
    height = 2 * half[2]
    if 2 * tall * np.cos(tilt) > height:
        tall = 0.95 * height / np.cos(tilt) / 2
        size = (*slab.half_extents_m[:2], tall)
        slab = Thing("box", size, (replace(slab.solids[0], size_m=size),))
    quat = frames.quat_multiply(_about_z(yaw), frames.rotvec_to_quat(np.array([0.0, -tilt, 0.0])))
    reach = tall * np.sin(tilt) + thin * np.cos(tilt)
    side = half[0] if abs(np.cos(yaw - _yaw(anchor))) > 0.5 else half[1]
    outward = np.array([np.cos(yaw), np.sin(yaw)])
    xy = np.asarray(anchor.position_m[:2]) + (side + reach) * outward
    z = tall * np.cos(tilt) + thin * np.sin(tilt)
    leaning = Placed(slab, (float(xy[0]), float(xy[1]), float(z)), things.quaternion(quat))
    return [anchor, leaning]


def _stacked(rng: np.random.Generator, first: things.RGB, second: things.RGB, pose: FloatArray) -> list[Placed]:
    """A small thing on a box."""
    half = things.vector(rng.uniform((0.06, 0.06, 0.02), (0.09, 0.08, 0.05)))
    block = Thing("box", half, (things.Solid(things.BOX, half, (0.0, 0.0, 0.0), first),))
    base = _stand(rng, block, TABLE_CENTRE + rng.uniform(-0.15, 0.15, 2), pose)
    top = things.can(rng, second) if rng.uniform() < 0.5 else things.box(rng, second)
    limit = 0.045
    if max(top.half_extents_m[:2]) > limit:
        size = (min(top.half_extents_m[0], 0.03), min(top.half_extents_m[1], 0.03), top.half_extents_m[2])
        top = Thing("box", size, (things.Solid(things.BOX, size, (0.0, 0.0, 0.0), second),))
    on = _stand(rng, top, np.asarray(base.position_m[:2]) + rng.uniform(-0.012, 0.012, 2), pose)
    height = 2 * half[2] + top.half_extents_m[2]
    return [base, replace(on, position_m=(*on.position_m[:2], height))]


def _slide(stand: Callable[[FloatArray], Placed], anchor: Placed, angle: float) -> Placed:
    """What `stand` puts at a place, as near as it comes to `anchor` from the direction `angle`."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    centre = np.asarray(anchor.position_m[:2])
    placed = stand(centre + 0.5 * direction)
    low, high = 0.0, 0.5
    for _ in range(20):
        middle = (low + high) / 2
        xy = centre + middle * direction
        moved = replace(placed, position_m=(float(xy[0]), float(xy[1]), placed.position_m[2]))
        low, high = (low, middle) if gap_m(moved.footprint(), anchor.footprint()) > 0.0005 else (middle, high)
    xy = centre + high * direction
    return replace(placed, position_m=(float(xy[0]), float(xy[1]), placed.position_m[2]))


def gap_m(first: FloatArray, second: FloatArray) -> float:
    """Widest gap (negative: overlap) between convex outlines (K, 2) along the normals of their edges."""
    best = -np.inf
    for outline in (first, second):
        hull = _hull(outline)
        edges = np.roll(hull, -1, 0) - hull
        normals = np.stack([edges[:, 1], -edges[:, 0]], -1) / np.linalg.norm(edges, axis=-1, keepdims=True)
        for normal in normals:
            a, b = first @ normal, second @ normal
            best = max(best, b.min() - a.max(), a.min() - b.max())
    return float(best)


def _hull(points: FloatArray) -> FloatArray:
    return points[ConvexHull(points).vertices]


def _camera(rng: np.random.Generator) -> FloatArray:
    """From anywhere around the table, 35 to 60 degrees above it, 0.65 to 0.9 m away."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi), np.deg2rad(rng.uniform(35, 60))
    target = np.array([*(TABLE_CENTRE + rng.uniform(-0.03, 0.03, 2)), 0.03])
    away = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    position = target + rng.uniform(0.65, 0.9) * away
    right = np.cross(-away, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(-away, right), -away], -1)
    return np.concatenate([position, frames.matrix_to_quat(rotation)])


def _about_z(yaw: float) -> FloatArray:
    return np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def _yaw(placed: Placed) -> float:
    return 2 * float(np.arctan2(placed.quat_wxyz[3], placed.quat_wxyz[0]))
