"""Where the assets of a generated scene come from: the twin, the twin with errors, cousins, anything that would do.

Places are drawn for each object alone; `sim.cousins.placing` then puts them where they touch what they should.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.fit import fit_asset
from sim.assets.variants import scaled_to
from sim.cousins.matching import Candidate
from sim.cousins.placing import Choice
from sim.cousins.scene import OrientedBox, Part, Pose, Scene, SceneObject

DRAWS = 20
"""Tries at an error that still can be built."""

Suits = Callable[[str, Asset], bool]
"""Whether an asset could take the part that the task has for the object of that name."""


class Geometry(Protocol):
    """Chooses what stands for each object."""

    def choose(
        self,
        scene: Scene,
        candidates: Mapping[str, Sequence[Candidate]],
        suits: Suits,
        index: int,
        rng: np.random.Generator,
    ) -> list[Choice]:
        """Of scene number `index`. `candidates`: each object's assets, nearest first (`sim.cousins.matching`)."""
        ...


@dataclass(frozen=True)
class GeometryNoise:
    """Standard deviations of what a look at a scene gets wrong, and of what changes after it."""

    position_m: float = 0.02
    """Of a box's place on its support, per axis."""
    yaw_rad: float = 0.1
    """Of its direction."""
    size: float = 0.06
    """Of its half extents, as a share, per axis."""
    handle_m: float = 0.008
    """Of a handle's place on its panel, per axis."""
    handle_size: float = 0.25
    """Of a handle's length, thickness and distance from the panel, as a share (log-normal)."""


@dataclass(frozen=True)
class Twin:
    """The fitted asset of every object, where it was seen."""

    def choose(
        self,
        scene: Scene,
        candidates: Mapping[str, Sequence[Candidate]],
        suits: Suits,
        index: int,
        rng: np.random.Generator,
    ) -> list[Choice]:
        return [_fitted(one) for one in scene.objects]


@dataclass(frozen=True)
class RandomisedTwin:
    """Twins of what might be there as well: places, sizes and handles with errors."""

    noise: GeometryNoise = field(default_factory=GeometryNoise)
    """How large they are."""

    def choose(
        self,
        scene: Scene,
        candidates: Mapping[str, Sequence[Candidate]],
        suits: Suits,
        index: int,
        rng: np.random.Generator,
    ) -> list[Choice]:
        return [_noisy(one, self.noise, rng) for one in scene.objects]


@dataclass(frozen=True)
class Cousins:
    """One of the `count` nearest assets for every object, scaled towards its box; places with errors."""

    count: int = 8
    """How many of the nearest; 0: the twin, with the same errors."""
    noise: GeometryNoise = field(default_factory=GeometryNoise)
    """Of places and sizes."""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"count must not be negative (0 is the twin), got {self.count}")

    def choose(
        self,
        scene: Scene,
        candidates: Mapping[str, Sequence[Candidate]],
        suits: Suits,
        index: int,
        rng: np.random.Generator,
    ) -> list[Choice]:
        if self.count == 0:
            return RandomisedTwin(self.noise).choose(scene, candidates, suits, index, rng)
        choices = []
        for number, one in enumerate(scene.objects):
            near = [candidate for candidate in candidates[one.name] if suits(one.name, candidate.asset)][: self.count]
            if not near:
                raise ConfigError(f"no asset of the library could stand for {one.name} ({one.category}) in this task")
            # every scene another combination, every asset as often as the others
            candidate = near[(index + number * (index // len(near))) % len(near)]
            choices.append(_cousin(one, candidate, self.noise, rng))
        return choices


@dataclass(frozen=True)
class Mixture:
    """Parts in turn: scene i is made by part i modulo their number. With (Twin, Cousins(1), ...) a curriculum."""

    parts: tuple[Geometry, ...]
    """At least one."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError("a mixture needs at least one part")

    def choose(
        self,
        scene: Scene,
        candidates: Mapping[str, Sequence[Candidate]],
        suits: Suits,
        index: int,
        rng: np.random.Generator,
    ) -> list[Choice]:
        part = self.parts[index % len(self.parts)]
        return part.choose(scene, candidates, suits, index // len(self.parts), rng)


def _fitted(seen: SceneObject) -> Choice:
    return Choice(seen, fit_asset(seen), seen.box.pose_base, color_rgb=seen.color_rgb)


def _noisy(seen: SceneObject, noise: GeometryNoise, rng: np.random.Generator) -> Choice:
    for _ in range(DRAWS):
        try:
            return _fitted(perturbed(seen, noise, rng))
        except ConfigError:  # a handle beyond its panel's edge, say
            continue
    return _fitted(seen)


def _cousin(seen: SceneObject, candidate: Candidate, noise: GeometryNoise, rng: np.random.Generator) -> Choice:
    other = perturbed(seen, noise, rng)
    scale = np.asarray(candidate.scale_to_box) * np.exp(noise.size * rng.standard_normal(3))
    half = np.asarray(candidate.asset.half_extents_m) * scale
    try:
        asset = scaled_to(candidate.asset, (float(half[0]), float(half[1]), float(half[2])))
    except ConfigError:  # farther than scaling allows: in its own size
        asset = candidate.asset
    moved = frames.compose(
        np.asarray(other.box.pose_base),
        frames.relative(np.asarray(seen.box.pose_base), np.asarray(candidate.pose_base)),
    )
    # it stands with its own height on what the object stood on
    bottom = _lowest(seen.box)
    up = np.abs(frames.quat_to_matrix(moved[3:])[2]) @ np.asarray(asset.half_extents_m)
    moved[2] = bottom + up
    return Choice(seen, asset, _pose(moved), candidate.distance, seen.color_rgb)


def perturbed(seen: SceneObject, noise: GeometryNoise, rng: np.random.Generator) -> SceneObject:
    """The object with errors of a look: moved, turned and resized on its support, its parts with it."""
    box = seen.box
    scale = np.exp(noise.size * rng.standard_normal(3))
    half = np.asarray(box.half_extents_m) * scale
    turn = frames.rotvec_to_quat(np.array([0.0, 0.0, noise.yaw_rad * rng.standard_normal()]))
    pose = np.asarray(box.pose_base, np.float64).copy()
    old_up = np.abs(frames.quat_to_matrix(pose[3:])[2]) @ np.asarray(box.half_extents_m)
    pose[:2] += noise.position_m * rng.standard_normal(2)
    pose[3:] = frames.quat_multiply(turn, pose[3:])
    new_up = np.abs(frames.quat_to_matrix(pose[3:])[2]) @ half
    pose[2] += new_up - old_up
    new = OrientedBox(_pose(pose), (float(half[0]), float(half[1]), float(half[2])))
    parts = tuple(_moved_part(part, box, new, scale, noise, rng) for part in seen.parts)
    return replace(seen, box=new, parts=parts)


def _moved_part(
    part: Part, old: OrientedBox, new: OrientedBox, scale: FloatArray, noise: GeometryNoise, rng: np.random.Generator
) -> Part:
    """The part as it moves with its object's box, its handle a little elsewhere and of another size."""

    def carried(box: OrientedBox, own: FloatArray, shift: FloatArray) -> OrientedBox:
        local = frames.relative(np.asarray(old.pose_base), np.asarray(box.pose_base))
        local[:3] = local[:3] * scale + shift
        half = np.asarray(box.half_extents_m) * own
        pose = frames.compose(np.asarray(new.pose_base), local)
        return OrientedBox(_pose(pose), (float(half[0]), float(half[1]), float(half[2])))

    relative_turn = frames.relative(np.asarray(old.pose_base), np.asarray(part.panel.pose_base))[3:]
    panel_scale = np.abs(frames.quat_to_matrix(relative_turn).T) @ scale
    panel = carried(part.panel, panel_scale, np.zeros(3))
    to_new = frames.quat_to_matrix(np.asarray(new.pose_base[3:]))
    to_old = frames.quat_to_matrix(np.asarray(old.pose_base[3:]))
    point = (np.asarray(part.axis_point_base) - np.asarray(old.pose_base[:3])) @ to_old * scale
    point = to_new @ point + np.asarray(new.pose_base[:3])
    axis = to_new @ to_old.T @ np.asarray(part.axis_base)
    handle = part.handle
    if handle is not None:
        across = np.array([0.0, *(noise.handle_m * rng.standard_normal(2))])
        resized = np.exp(noise.handle_size * rng.standard_normal(3))
        handle = carried(handle, resized, across)
    return replace(part, panel=panel, axis_point_base=_vector(point), axis_base=_vector(axis), handle=handle)


def _lowest(box: OrientedBox) -> float:
    return float(box.corners()[:, 2].min())


def _vector(values: FloatArray) -> tuple[float, float, float]:
    x, y, z = (float(one) for one in values)
    return (x, y, z)


def _pose(values: FloatArray) -> Pose:
    x, y, z, qw, qx, qy, qz = (float(one) for one in values)
    return (x, y, z, qw, qx, qy, qz)
