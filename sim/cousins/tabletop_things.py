"""Things for test tables, made of MuJoCo primitives: what they look like and exactly how large they are.

A thing's origin is the centre of its bounding box, z up; a cabinet's front is +x.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from itertools import pairwise

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray

Vector3 = tuple[float, float, float]
RGB = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
BOX, CYLINDER, ELLIPSOID = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_ELLIPSOID


@dataclass(frozen=True)
class Solid:
    """One primitive of a thing."""

    kind: mujoco.mjtGeom
    """Box, cylinder or ellipsoid."""
    size_m: Vector3
    """Half sizes; radius and half length of a cylinder."""
    position_m: Vector3
    """Of its centre in the thing's frame."""
    color_rgb: RGB
    """0 ... 1."""
    quat_wxyz: Quaternion = (1.0, 0.0, 0.0, 0.0)
    """Orientation in the thing's frame."""


@dataclass(frozen=True)
class Thing:
    """What stands on a test table."""

    category: str
    """One of `sim.assets.CATEGORIES`."""
    half_extents_m: Vector3
    """Of its bounding box."""
    solids: tuple[Solid, ...]
    """What it is made of."""
    is_round: bool = False
    """Whether it is symmetric about z, so that yaw means nothing."""
    doors: int = 0
    """Number of doors."""
    drawers: int = 0
    """Number of drawers."""

    def lying(self) -> Thing:
        """A round thing turned onto its side, axis along x."""
        turn = np.array([np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0])
        rotation = frames.quat_to_matrix(turn)
        solids = tuple(
            replace(
                one,
                position_m=vector(rotation @ one.position_m),
                quat_wxyz=quaternion(frames.quat_multiply(turn, np.asarray(one.quat_wxyz))),
            )
            for one in self.solids
        )
        radius, _, half_height = self.half_extents_m
        return replace(self, half_extents_m=(half_height, radius, radius), solids=solids, is_round=False)


def color(rng: np.random.Generator) -> RGB:
    """Any hue, from pale to strong."""
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.15, 1.0), rng.uniform(0.35, 0.95))


def box(rng: np.random.Generator, rgb: RGB) -> Thing:
    """A block or a package; one in four has a label of another colour on a face."""
    half = vector(rng.uniform((0.015, 0.015, 0.012), (0.08, 0.06, 0.09)))
    solids = [Solid(BOX, half, (0.0, 0.0, 0.0), rgb)]
    if rng.uniform() < 0.25:
        axis = int(rng.integers(3))
        side = 1.0 if axis == 2 else float(rng.choice((-1.0, 1.0)))
        size, position = np.array(half) * rng.uniform(0.4, 0.8), np.zeros(3)
        size[axis], position[axis] = 0.0003, side * half[axis]
        solids.append(Solid(BOX, vector(size), vector(position), color(rng)))
    return Thing("box", half, tuple(solids))


def slab(rng: np.random.Generator, rgb: RGB) -> Thing:
    """A book or a plate that can lean: thin along x, tall along z."""
    half = vector(rng.uniform((0.008, 0.04, 0.05), (0.018, 0.08, 0.09)))
    return Thing("box", half, (Solid(BOX, half, (0.0, 0.0, 0.0), rgb),))


def can(rng: np.random.Generator, rgb: RGB) -> Thing:
    """A cylinder, from a tin to a tube."""
    radius, half_height = float(rng.uniform(0.022, 0.045)), float(rng.uniform(0.035, 0.07))
    solid = Solid(CYLINDER, (radius, half_height, 0.0), (0.0, 0.0, 0.0), rgb)
    return Thing("can", (radius, radius, half_height), (solid,), is_round=True)


def bottle(rng: np.random.Generator, rgb: RGB) -> Thing:
    """Body, round shoulder, neck and a cap of another colour."""
    radius, half_height = float(rng.uniform(0.026, 0.042)), float(rng.uniform(0.08, 0.12))
    neck_radius = radius * float(rng.uniform(0.32, 0.45))
    shoulder = radius * float(rng.uniform(0.6, 1.1))
    cap, neck = float(rng.uniform(0.012, 0.02)), float(rng.uniform(0.015, 0.03))
    body = 2 * half_height - shoulder - neck - cap
    top = -half_height + body
    solids = (
        Solid(CYLINDER, (radius, body / 2, 0.0), (0.0, 0.0, -half_height + body / 2), rgb),
        Solid(ELLIPSOID, (radius, radius, shoulder), (0.0, 0.0, top), rgb),
        Solid(CYLINDER, (neck_radius, (shoulder + neck) / 2, 0.0), (0.0, 0.0, top + (shoulder + neck) / 2), rgb),
        Solid(CYLINDER, (neck_radius * 1.15, cap / 2, 0.0), (0.0, 0.0, half_height - cap / 2), color(rng)),
    )
    return Thing("bottle", (radius, radius, half_height), solids, is_round=True)


def bowl(rng: np.random.Generator, rgb: RGB, segments: int = 28) -> Thing:
    """A cone's wall in segments on a disc."""
    rim, half_height, wall = float(rng.uniform(0.055, 0.085)), float(rng.uniform(0.02, 0.034)), 0.002
    foot = rim * float(rng.uniform(0.5, 0.7))
    lean = float(np.arctan2(rim - foot, 2 * half_height))
    # Measured to the outer upper edge, so that the rim's circle is the bounding box's.
    middle = (rim + foot) / 2 - wall * np.cos(lean)
    length = np.hypot(rim - foot, 2 * half_height) / 2 - wall * np.sin(lean)
    solids = [Solid(CYLINDER, (foot, 0.003, 0.0), (0.0, 0.0, -half_height + 0.003), rgb)]
    for angle in np.arange(segments) * 2 * np.pi / segments:
        about_z = frames.rotvec_to_quat(np.array([0.0, 0.0, angle]))
        quat = frames.quat_multiply(about_z, frames.rotvec_to_quat(np.array([0.0, lean, 0.0])))
        width = rim * np.tan(np.pi / segments)
        position = (middle * np.cos(angle), middle * np.sin(angle), 0.0)
        solids.append(Solid(BOX, vector((wall, width, length)), vector(position), rgb, quaternion(quat)))
    return Thing("bowl", (rim, rim, half_height), tuple(solids), is_round=True)


def cabinet(rng: np.random.Generator, rgb: RGB) -> Thing:
    """A carcass with doors, drawers or both in front, separated by seams, each with a bar or a knob."""
    body = rng.uniform((0.10, 0.16, 0.13), (0.17, 0.26, 0.26)) / 2
    thickness, seam, reach = 0.012, float(rng.uniform(0.004, 0.006)), float(rng.uniform(0.02, 0.03))
    panels = _layout(rng)
    shade, metal = color(rng) if rng.uniform() < 0.5 else _darker(rgb, 0.85), _darker(color(rng), 0.7)
    solids = [Solid(BOX, vector((body[0] - thickness / 2, body[1], body[2])), (-thickness / 2, 0.0, 0.0), rgb)]
    for kind, y0, y1, z0, z1 in panels:
        centre = np.array([body[0] - thickness / 2, (y0 + y1) * body[1], (z0 + z1) * body[2]])
        half = np.array([thickness / 2, (y1 - y0) * body[1] - seam / 2, (z1 - z0) * body[2] - seam / 2])
        solids.append(Solid(BOX, vector(half), vector(centre), shade))
        solids += _handle(rng, kind, centre + np.array([thickness / 2, 0.0, 0.0]), half, reach, metal)
    # The box of a thing holds its handles, too.
    shifted = [replace(one, position_m=vector(np.array(one.position_m) - (reach / 2, 0.0, 0.0))) for one in solids]
    kinds = [panel[0] for panel in panels]
    half_extents = vector((body[0] + reach / 2, body[1], body[2]))
    doors, drawers = (sum(kind.startswith(what) for kind in kinds) for what in ("door", "drawer"))
    return Thing("cabinet", half_extents, tuple(shifted), doors=doors, drawers=drawers)


def _layout(rng: np.random.Generator) -> list[tuple[str, float, float, float, float]]:
    """Panels of a front as (kind, y0, y1, z0, z1) in shares of it from its middle; a door's kind tells its hinge."""
    choice = int(rng.integers(5))
    if choice == 0:
        return [(str(rng.choice(("door-left", "door-right"))), -0.5, 0.5, -0.5, 0.5)]
    if choice == 1:
        return [("door-right", -0.5, 0.0, -0.5, 0.5), ("door-left", 0.0, 0.5, -0.5, 0.5)]
    if choice == 2:
        return [("door-left", -0.5, 0.5, -0.5, 0.15), ("drawer", -0.5, 0.5, 0.15, 0.5)]
    edges = np.linspace(-0.5, 0.5, choice)
    return [("drawer", -0.5, 0.5, float(low), float(high)) for low, high in pairwise(edges)]


def _handle(
    rng: np.random.Generator, kind: str, front: np.ndarray, half: np.ndarray, reach: float, rgb: RGB
) -> list[Solid]:
    """A bar (upright near a door's free edge, level on a drawer) or a knob there."""
    # Seen from in front, +y is on the right: "left" is a hinge at the lesser y.
    free = {"door-left": 1.0, "door-right": -1.0, "drawer": 0.0}[kind]
    position = front + np.array([reach / 2, free * (half[1] - 0.02), 0.0])
    if rng.uniform() < 0.3:
        return [Solid(BOX, (reach / 2, 0.008, 0.008), vector(position), rgb)]
    along = 2 if free else 1
    length = min(0.045, 0.6 * half[along])
    bar, posts = np.array([0.005, 0.005, 0.005]), []
    bar[along] = length
    for end in (-1.0, 1.0):
        post = position.copy()
        post[along] += end * (length - 0.005)
        posts.append(Solid(BOX, (reach / 2, 0.004, 0.004), vector(post), rgb))
    return [Solid(BOX, vector(bar), vector(position + np.array([reach / 2 - 0.005, 0.0, 0.0])), rgb), *posts]


def _darker(rgb: RGB, factor: float) -> RGB:
    return rgb[0] * factor, rgb[1] * factor, rgb[2] * factor


def vector(values: object) -> Vector3:
    x, y, z = np.asarray(values, float)
    return float(x), float(y), float(z)


def quaternion(values: FloatArray) -> Quaternion:
    w, x, y, z = map(float, values)
    return w, x, y, z


FAMILIES = (box, box, can, bottle, bowl, cabinet, cabinet)
"""What is drawn from; cabinets are large, so that arrangements with them are often not all in sight."""
