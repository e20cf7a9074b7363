"""What extraction says of a scene: surfaces, objects and their moving parts; read and written as JSON.

Everything is in the arm's base frame (z up, against gravity), in metres and radians. The front of an object that
has one (doors, drawers) is the +x of its box; otherwise x is the longer horizontal axis. z is the axis nearest to up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.files import write_file
from robot_rl.typed import to_dataclass, to_plain
from robot_rl.types import FloatArray
from sim.assets.asset import CATEGORIES

SCHEMA = 1
Vector3 = tuple[float, float, float]
Pose = tuple[float, float, float, float, float, float, float]
PartKind = Literal["door", "drawer", "lid"]
SupportKind = Literal["table", "floor", "wall", "shelf"]
PartSource = Literal["user", "panel edges"]
RelationKind = Literal["on", "inside", "against", "hanging"]
HALF_M = (0.0005, 2.5)
"""Smallest and largest half side of an object: below, MuJoCo takes a mesh for flat; beyond, the unit is another one."""
CONTAINERS = ("bowl", "mug")
"""Open from above, so that what is over them is in them."""


@dataclass(frozen=True)
class OrientedBox:
    """A box by its centre's pose and its half sizes."""

    pose_base: Pose
    """Centre and orientation (x, y, z, qw, qx, qy, qz)."""
    half_extents_m: Vector3
    """Half sizes along the box's own axes."""

    def __post_init__(self) -> None:
        quat_norm = float(np.linalg.norm(self.pose_base[3:]))
        if not np.isfinite(self.pose_base).all() or abs(quat_norm - 1.0) > 1e-3:
            raise ConfigError(f"pose_base must be finite with a unit quaternion; got {self.pose_base}")
        if not all(0.0 < half < np.inf for half in self.half_extents_m):
            raise ConfigError(f"half_extents_m must be positive and finite; got {self.half_extents_m}")

    def corners(self) -> FloatArray:
        """The eight corners (8, 3) in the base frame."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
        rotation = frames.quat_to_matrix(np.asarray(self.pose_base[3:]))
        return signs * self.half_extents_m @ rotation.T + np.asarray(self.pose_base[:3])

    def to_local(self, points_base: FloatArray) -> FloatArray:
        """Points (N, 3) of the base frame in the box's own."""
        rotation = frames.quat_to_matrix(np.asarray(self.pose_base[3:]))
        return (points_base - np.asarray(self.pose_base[:3])) @ rotation


@dataclass(frozen=True)
class Part:
    """A door, drawer or lid: never guessed in silence, so it says where it is known from and how surely."""

    kind: PartKind
    """What moves: a door or lid about `axis`, a drawer along it."""
    panel: OrientedBox
    """The moving front (x points out of it)."""
    axis_point_base: Vector3
    """A point of the hinge's axis; the panel's centre for a drawer."""
    axis_base: Vector3
    """Unit direction: right-handed about it the door opens, or along it the drawer comes out."""
    handle: OrientedBox | None = None
    """What a hand takes hold of, where one was seen."""
    source: PartSource = "panel edges"
    """Who says so."""
    confidence: float = 1.0
    """0 ... 1; 1 for what a user said."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.axis_point_base).all() or not abs(np.linalg.norm(self.axis_base) - 1.0) < 1e-3:
            raise ConfigError(
                f"axis_point_base must be finite and axis_base a unit direction; got {self.axis_point_base},"
                f" {self.axis_base}"
            )
        _check_share(self.confidence, "confidence of a part")


@dataclass(frozen=True)
class SceneObject:
    """One thing on a support."""

    name: str
    """`object_0`, ...: also the stem of its files."""
    box: OrientedBox
    """Tight oriented box of what was seen, carried down to the support."""
    color_rgb: Vector3
    """Median colour, 0 ... 1."""
    category: str = "unknown"
    """One of `sim.assets.CATEGORIES`, or `unknown`."""
    category_confidence: float = 0.0
    """0 ... 1."""
    parts: tuple[Part, ...] = ()
    """What opens."""
    support: str = ""
    """What carries it: the surface or object that it stands on or in, or the wall that it hangs on."""
    against: tuple[str, ...] = ()
    """Walls, and larger objects, whose side it touches with a side of its own."""
    points_file: str = ""
    """Points (N, 3) float32 in the base frame, `.npy`, relative to the scene's file."""
    mask_file: str = ""
    """Its pixels in the first view, `.png`, relative to the scene's file."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(f"the name {self.name!r} of an object needs letters, digits, '_', '-' and '.' alone")
        if self.category not in (*CATEGORIES, "unknown"):
            raise UnknownNameError(f"category of {self.name}", self.category, (*CATEGORIES, "unknown"))
        _check_share(self.category_confidence, f"category_confidence of {self.name}")
        low, high = HALF_M
        if not all(low <= half <= high for half in self.box.half_extents_m):
            raise ConfigError(
                f"half_extents_m of {self.name} must be within {low} ... {high} m (are they millimetres, or is a side"
                f" 0?); got {self.box.half_extents_m}"
            )
        if not all(0.0 <= one <= 1.0 for one in self.color_rgb):
            raise ConfigError(f"color_rgb of {self.name} must be within 0 ... 1, got {self.color_rgb}")


def _check_share(value: float, what: str) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{what} must be within 0 ... 1, got {value}")


def check_names(things: Sequence[SceneObject | Support]) -> None:
    """`ConfigError` when two are called alike."""
    names = [one.name for one in things]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two things are called {name!r}; give one of them another name")


@dataclass(frozen=True)
class Support:
    """A plane that things stand on or against; its box is thin along z (table, floor) or x (wall)."""

    name: str
    """`table_0`, `floor`, `wall_0`, ..."""
    kind: SupportKind
    """What it is taken for."""
    box: OrientedBox
    """Extent of what was seen of it; the upper (inner) face is the plane."""


@dataclass(frozen=True)
class View:
    """A calibrated look: pixels to rays by (fx, fy, cx, cy); the camera's z points forward, y down."""

    pose_base_camera: Pose
    """Camera in the base frame."""
    intrinsics: tuple[float, float, float, float]
    """fx, fy, cx, cy in pixels."""
    image_hw: tuple[int, int]
    """Height and width in pixels."""


@dataclass(frozen=True)
class Scene:
    """A scene as extracted: edit the file by hand, and what follows is made from the correction."""

    supports: tuple[Support, ...]
    """Tables, floor, walls."""
    objects: tuple[SceneObject, ...]
    """Everything that stands on them."""
    views: tuple[View, ...] = ()
    """Where it was seen from."""
    assumptions: tuple[str, ...] = ()
    """What was not measured but assumed, in words."""
    schema: int = SCHEMA
    """Version of this description."""

    def __post_init__(self) -> None:
        check_names((*self.supports, *self.objects))
        for number, one in enumerate(self.views):
            _check_view(one, f"views[{number}]")
        names = {one.name for one in (*self.supports, *self.objects)}
        sides = {one.name for one in self.supports if one.kind == "wall"} | {one.name for one in self.objects}
        for one in self.objects:
            for field, others, valid in (("support", (one.support,), names | {""}), ("against", one.against, sides)):
                for other in others:
                    if other not in valid - {one.name}:
                        raise UnknownNameError(f"{field} of {one.name}", other, valid - {one.name})

    def relations(self, name: str) -> tuple[tuple[RelationKind, str], ...]:
        """What the object called `name` is on, inside, hanging on and against, and the other's name."""
        kinds = {one.name: one.kind for one in self.supports}
        objects = {one.name: one for one in self.objects}
        one, found = objects[name], []
        if one.support:
            is_in = one.support in objects and objects[one.support].category in CONTAINERS
            kind = "hanging" if kinds.get(one.support) == "wall" else "inside" if is_in else "on"
            found.append((kind, one.support))
        return (*found, *(("against", other) for other in one.against))

    def depth(self, name: str, above: tuple[str, ...] = ()) -> int:
        """0 for what touches surfaces alone, else one more than what it is on, in or against (circles are cut)."""
        objects = {one.name: one for one in self.objects}
        below = [other for _, other in self.relations(name) if other in objects and other not in (*above, name)]
        return max((1 + self.depth(other, (*above, name)) for other in below), default=0)


def _check_view(view: View, name: str) -> None:
    pose, (fx, fy, *_) = view.pose_base_camera, view.intrinsics
    if not np.isfinite(pose).all() or abs(np.linalg.norm(pose[3:]) - 1.0) > 1e-3:
        raise ConfigError(f"{name}: pose_base_camera must be finite with a unit quaternion; got {pose}")
    if not np.isfinite(view.intrinsics).all() or min(fx, fy, *view.image_hw) <= 0:
        raise ConfigError(
            f"{name}: intrinsics must be finite, fx, fy and image_hw positive; got {view.intrinsics}, {view.image_hw}"
        )


def write_scene(path: Path, scene: Scene) -> None:
    """Write `scene` as JSON, whole or not at all."""
    write_file(path, json.dumps(to_plain(scene), indent=1) + "\n")


def read_scene(path: Path) -> Scene:
    """The scene in a JSON file; `DataError` says what is wrong with it, by key."""
    try:
        scene = to_dataclass(Scene, json.loads(path.read_text()))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} is no scene: {error}") from error
    if scene.schema != SCHEMA:
        raise DataError(f"{path} has schema {scene.schema}; this version reads {SCHEMA}")
    return scene
