"""Which assets an object could be: a distance to each, term by term, and how each would stand in its place.

After ACDC (2410.07408), whose cousins are the nearest assets by appearance; here geometry and articulation come
first, so that nothing has to be downloaded, and appearance is a term for those who have an encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.fit import fit_asset
from sim.assets.geometry import Mesh, seen_from
from sim.cousins import terms
from sim.cousins.orientation import Orientation, box_fits, pose_base, refine
from sim.cousins.profiles import AssetProfile, Profile, asset_profile, object_profile
from sim.cousins.projection import framed
from sim.cousins.scene import Pose, Scene, SceneObject, View

MIN_POINTS = 16
COMPARED_POINTS = 1024


@dataclass(frozen=True)
class MatchWeights:
    """What counts how much. Terms that the scan gives no evidence for are left out, and the rest counts for them."""

    category: float = 1.0
    """Another category."""
    articulation: float = 1.0
    """Other joints, or hinges on other sides."""
    ratios: float = 0.5
    """Other proportions of the box."""
    size: float = 0.25
    """Another size: assets can be scaled."""
    shape: float = 0.5
    """Another D2 histogram of the surface."""
    handle: float = 0.5
    """Handles at other places."""
    silhouette: float = 0.5
    """Another outline, in the view that the mask is of."""
    appearance: float = 0.0
    """Another look, by an encoder such as DINOv2: needs one (0.5 makes it count as much as shape)."""

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0 or max(asdict(self).values()) <= 0:
            raise ConfigError(f"weights must not be negative, and one must be positive; got {self}")


class Appearance(Protocol):
    """Compares pictures: `sim.cousins.looks.Looks` by an encoder, which is not part of the default installation."""

    def __call__(self, seen: Seen, asset: Asset, pose_base: FloatArray) -> float:
        """0 (the same) ... 1: of an object that has a crop and the asset at that pose (7,)."""
        ...


@dataclass(frozen=True, eq=False)
class Seen:
    """An object with what the scan holds of it."""

    object: SceneObject
    """As extracted."""
    points_base: FloatArray
    """(N, 3) of its surface."""
    view: View | None = None
    """Where it was seen from."""
    mask: NDArray[np.bool_] | None = None
    """(H, W) of its pixels there."""
    crop: NDArray[np.uint8] | None = None
    """(h, w, 3) picture of it, for `Appearance`."""

    def __post_init__(self) -> None:
        if self.points_base.ndim != 2 or self.points_base.shape[1] != 3 or len(self.points_base) < MIN_POINTS:
            raise DataError(
                f"{self.object.name}: needs {MIN_POINTS} or more points (N, 3), got {self.points_base.shape}"
            )
        if not np.isfinite(self.points_base).all():
            raise DataError(f"{self.object.name}: its points must be finite")
        if self.mask is not None and (self.view is None or self.mask.shape != self.view.image_hw):
            raise DataError(f"{self.object.name}: a mask needs its view, of the same height and width")


@dataclass(frozen=True, eq=False)
class Candidate:
    """An asset in an object's place."""

    asset: Asset
    """What."""
    distance: float
    """Weighted mean of the terms."""
    terms: dict[str, float]
    """By the names of `MatchWeights`, each 0 ... 1."""
    pose_base: Pose
    """Where its frame is, standing with the object's lower face."""
    scale_to_box: tuple[float, float, float]
    """Along the asset's own axes, to fill the object's box."""


def load_seen(folder: Path, scene: Scene, name: str, color: NDArray[np.uint8] | None = None) -> Seen:
    """An object of a scene whose files lie in `folder`; with the first view's `color` (H, W, 3) also its crop."""
    objects = {one.name: one for one in scene.objects}
    if name not in objects:
        raise UnknownNameError("object", name, objects)
    seen = objects[name]
    if not seen.points_file:
        raise DataError(f"{name} has no points_file: extract the scene again")
    try:
        points = np.load(folder / seen.points_file, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder / seen.points_file} holds no points: {error}") from error
    view, mask = (scene.views[0] if scene.views else None), None
    if seen.mask_file and view is not None:
        picture = cv2.imread(str(folder / seen.mask_file), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise DataError(f"{folder / seen.mask_file} is no picture")
        mask = picture > 0
    found = Seen(seen, points, view, mask)
    return found if color is None or mask is None else replace(found, crop=framed(color, mask))


def match(
    seen: Seen, assets: Iterable[Asset], weights: MatchWeights | None = None, appearance: Appearance | None = None
) -> list[Candidate]:
    """All assets, nearest first."""
    weights = weights or MatchWeights()
    if weights.appearance > 0 and appearance is None:
        raise ConfigError(f"weights.appearance = {weights.appearance:g} needs an encoder; set it to 0 or give one")
    if weights.appearance == 0:
        appearance = None
    clues = _Clues.of(seen)
    found = [_candidate(clues, asset, weights, appearance) for asset in assets]
    return sorted(found, key=lambda candidate: (candidate.distance, candidate.asset.name))


def cousins(
    seen: Seen,
    assets: Iterable[Asset],
    k: int,
    weights: MatchWeights | None = None,
    appearance: Appearance | None = None,
) -> list[Candidate]:
    """The k nearest assets; for k = 0 the twin alone, built to fit."""
    if k < 0:
        raise ConfigError(f"k must not be negative, got {k}")
    if k == 0:
        return match(seen, [fit_asset(seen.object)], weights, appearance)
    return match(seen, assets, weights, appearance)[:k]


@dataclass(frozen=True, eq=False)
class _Clues:
    """What of an object every candidate is compared with."""

    seen: Seen
    profile: Profile
    local_m: FloatArray
    d2: FloatArray

    @classmethod
    def of(cls, seen: Seen) -> _Clues:
        local = _thin(seen.object.box.to_local(seen.points_base))
        return cls(seen, object_profile(seen.object), local, terms.d2_histogram(local))


def _candidate(clues: _Clues, asset: Asset, weights: MatchWeights, appearance: Appearance | None) -> Candidate:
    seen, profile, known = clues.seen, clues.profile, asset_profile(asset)
    tried = [refine(turn, known, seen.object.box, clues.local_m) for turn in box_fits(asset, known, seen.object)]
    costs = [_orientation_cost(one, profile, known) for one in tried]
    best = tried[int(np.argmin(costs))]
    pose = pose_base(best, known, seen.object.box)
    values = _terms(clues, known, best)
    values["category"] = terms.category_term(seen.object.category, seen.object.category_confidence, asset.category)
    if appearance is not None and seen.crop is not None:
        values["appearance"] = appearance(seen, asset, pose)
    share = {name: weight for name, weight in asdict(weights).items() if name in values}
    distance = sum(weight * values[name] for name, weight in share.items()) / max(sum(share.values()), 1e-12)
    scale = np.abs(best.rotation.T) @ profile.half_m / known.half_m
    x, y, z, qw, qx, qy, qz = map(float, pose)
    return Candidate(
        asset, distance, values, (x, y, z, qw, qx, qy, qz), (float(scale[0]), float(scale[1]), float(scale[2]))
    )


def _orientation_cost(tried: Orientation, seen: Profile, asset: AssetProfile) -> float:
    ratios, _ = terms.size_terms(seen.half_m, tried.half_m(asset))
    return tried.residual + ratios + terms.articulation_term(seen.openings, asset.openings, tried.rotation)


def _terms(clues: _Clues, asset: AssetProfile, stands: Orientation) -> dict[str, float]:
    seen, profile, half = clues.seen, clues.profile, stands.half_m(asset)
    ratios, size = terms.size_terms(profile.half_m, half)
    posed = pose_base(stands, asset, seen.object.box)
    rotation = frames.quat_to_matrix(posed[3:])
    points = asset.points_m @ rotation.T + posed[:3]
    values = {
        "articulation": terms.articulation_term(profile.openings, asset.openings, stands.rotation),
        "ratios": ratios,
        "size": size,
        "shape": terms.shape_term(clues.d2, terms.d2_histogram(points[_seen_by(seen.view, points)])),
        "handle": terms.handle_term(profile.handles_m / profile.half_m, asset.handles_m @ stands.rotation.T / half),
    }
    if seen.mask is not None and seen.view is not None:
        # filling the box: the outline is of shape, the size has its own term
        center = frames.quat_to_matrix(np.asarray(seen.object.box.pose_base[3:]))
        stretch = center @ np.diag(profile.half_m / half) @ center.T @ rotation
        filled: Mesh = asset.mesh.moved(stretch, np.asarray(seen.object.box.pose_base[:3]))
        values["silhouette"] = terms.silhouette_term(seen.mask, filled, seen.view)
    return values


def _seen_by(view: View | None, points_base: FloatArray) -> NDArray[np.bool_]:
    """Which points (N, 3) the camera can see; without one, all."""
    if view is None:
        return np.ones(len(points_base), bool)
    return seen_from(points_base, (np.asarray(view.pose_base_camera[:3]) - points_base.mean(0))[None], cells=24)


def _thin(points_m: FloatArray) -> FloatArray:
    """At most `COMPARED_POINTS` of them."""
    if len(points_m) <= COMPARED_POINTS:
        return points_m
    return points_m[np.random.default_rng(0).choice(len(points_m), COMPARED_POINTS, replace=False)]
