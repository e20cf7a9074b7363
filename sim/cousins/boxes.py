"""Separated points to objects: what each stands on, its solid, box, colour and category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.categories import CategoryConfig, categorize
from sim.cousins.fusion import Cloud, fit_normals
from sim.cousins.planes import top_plane
from sim.cousins.relations import RelationConfig, is_seen_under, wall_of, with_touches
from sim.cousins.scene import CONTAINERS, SceneObject, Support
from sim.cousins.separation import SeparationConfig
from sim.cousins.shapes import Shape, fit_shape, top_height
from sim.cousins.surfaces import Surface


@dataclass(frozen=True)
class BoxConfig:
    """How objects are made of points."""

    min_points: int = 90
    """Fewer points are no object."""
    rests_m: float = 0.016
    """An object whose lowest points are this near above another one's top stands on it."""
    min_height_m: float = 0.008
    """Lower things are not told from the support."""
    categories: CategoryConfig = field(default_factory=CategoryConfig)
    """Names by shape."""
    relations: RelationConfig = field(default_factory=RelationConfig)
    """What hangs, and what stands against something."""


@dataclass(frozen=True)
class Solid:
    """One object on its way: its points and what was fitted to them."""

    surface: Surface
    """Body, without handles."""
    support: str
    """What it stands or hangs on."""
    shape: Shape
    """The solid that explains it."""


def ground_of(points: FloatArray, supports: tuple[Support, ...]) -> tuple[float, str]:
    """Height and name of the highest level support under the points (N, 3)."""
    centre = points.mean(0)
    level = [(_height_at(one, centre), one.name) for one in supports if one.kind != "wall" and _is_over(one, centre)]
    below = [one for one in level if one[0] < np.percentile(points[:, 2], 5) + 0.005]
    return max(below, default=max(level, default=(float(points[:, 2].min()), "")))


def fit_objects(
    cloud: Cloud,
    labels: IntArray,
    protruding: BoolArray,
    supports: tuple[Support, ...],
    config: BoxConfig,
    separation: SeparationConfig,
) -> tuple[SceneObject, ...]:
    """Objects of a cloud with things' numbers (N,), in the order of the numbers; too small ones are left out."""
    normals = np.zeros_like(cloud.points)
    known = labels >= 0
    if known.any():
        normals[known] = fit_normals(cloud.points[known], cloud.origins[known], separation.normal_radius_m)
    solids: dict[int, Solid] = {}
    for number in np.unique(labels[known]):
        body = (labels == number) & ~protruding
        if body.sum() >= config.min_points:
            solids[int(number)] = _fit(Surface(cloud.points[body], normals[body], 0.0), supports)
    solids = {number: one for number, one in solids.items() if _is_high(one, config)}
    solids = {number: _on_others(number, solids, config) for number in solids}
    solids = {number: _on_wall(one, cloud, supports, config.relations) for number, one in solids.items()}
    objects, is_round = [], set()
    for number, solid in solids.items():
        if not _is_high(solid, config):
            continue
        if solid.shape.kind == "round":
            is_round.add(f"object_{number}")
        category, sure = categorize(solid.shape, solid.surface, config.categories)
        color = tuple(float(one) for one in np.median(cloud.colors[(labels == number) & ~protruding], axis=0))
        objects.append(
            SceneObject(
                f"object_{number}", solid.shape.box, (color[0], color[1], color[2]), category, sure, (), solid.support
            )
        )
    objects = [_in_container(one, objects) for one in objects]
    return with_touches(objects, is_round, supports, config.relations)


def _is_high(solid: Solid, config: BoxConfig) -> bool:
    return 2 * solid.shape.box.half_extents_m[2] >= config.min_height_m


def _in_container(one: SceneObject, objects: Sequence[SceneObject]) -> SceneObject:
    """With the bowl or mug as its support that all of its outline is over, where there is one."""
    for other in objects:
        box = other.box
        over = np.abs(box.to_local(one.box.corners())[:, :2]) < np.asarray(box.half_extents_m[:2])
        if other is not one and other.category in CONTAINERS and over.all():
            return replace(one, support=other.name)
    return one


def _fit(surface: Surface, supports: tuple[Support, ...]) -> Solid:
    ground, support = ground_of(surface.points, supports)
    surface = Surface(surface.points, surface.normals, ground)
    return Solid(surface, support, fit_shape(surface))


def _on_others(number: int, solids: dict[int, Solid], config: BoxConfig) -> Solid:
    """The solid anew, from the top of the object that it stands on or in, where there is one."""
    one = solids[number]
    lowest, centre = float(np.percentile(one.surface.points[:, 2], 1)), one.surface.points.mean(0)
    for other_number, other in solids.items():
        box = other.shape.box
        inside = (np.abs(box.to_local(centre[None]))[0, :2] < box.half_extents_m[:2]).all()
        top = top_height(other.surface)
        if other_number == number or not inside or lowest < one.surface.ground_m + config.rests_m:
            continue
        if abs(lowest - top) < config.rests_m:
            surface = Surface(one.surface.points, one.surface.normals, top)
            return Solid(surface, f"object_{other_number}", fit_shape(surface))
    return one


def _on_wall(one: Solid, cloud: Cloud, supports: tuple[Support, ...], config: RelationConfig) -> Solid:
    """The solid anew, down to the lowest that is seen of it, where it touches a wall and nothing carries it."""
    lowest = float(np.percentile(one.surface.points[:, 2], 1))
    surface = Surface(one.surface.points, one.surface.normals, lowest)
    if lowest - one.surface.ground_m < config.hangs_m:
        return one
    shape = fit_shape(surface)
    walls = wall_of(shape.box, shape.kind == "round", supports, config)
    if not walls or not is_seen_under(shape.box, one.surface.ground_m, cloud, config):
        return one
    return Solid(surface, walls[0].name, shape)


def _height_at(support: Support, point: FloatArray) -> float:
    plane = top_plane(support)
    normal = np.asarray(plane.normal)
    return float((plane.offset_m - normal[:2] @ point[:2]) / normal[2])


def _is_over(support: Support, point: FloatArray) -> bool:
    local = support.box.to_local(point[None])[0]
    return bool((np.abs(local[:2]) < np.asarray(support.box.half_extents_m[:2]) + 0.05).all())
