"""Which segments are one thing: caps on bottles, labels and panels on boxes, handles on fronts, the inside of bowls.

Segments of one surface and colour are finer than things. Two that touch are joined where one solid explains both:
- faces: they meet at a convex edge, show different faces, and one box has both (a carcass and its panels);
- inside: one lies within the other's solid (labels, the lower panels, the inside of a bowl);
- round: they have one colour, and one solid of revolution or lying cylinder has both (walls of a bowl, a shiny can);
- coaxial: a narrower one continues a round one upwards, without a flat shoulder to stand on (neck and cap);
- protrusion: a small one hangs on a side face without reaching the support (a handle). It is kept apart from the body,
  whose box it would tilt.

Shape letters: N points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from robot_rl import frames
from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.fusion import Cloud
from sim.cousins.scene import OrientedBox
from sim.cousins.separation import absorb_small, chromaticity
from sim.cousins.shapes import Shape, agreement, fit_box, fit_lying, fit_round, fit_shape, top_height
from sim.cousins.surfaces import MIN_FACE, Surface

UP_FACE = np.cos(np.deg2rad(15.0))


@dataclass(frozen=True)
class JoiningConfig:
    """When segments are one thing."""

    touch_m: float = 0.009
    """Points this near to each other touch."""
    reach_m: float = 0.02
    """Segments farther apart are not joined: a thing may be seen in parts."""
    min_points: int = 60
    """Smaller segments are given to the neighbour that they touch most."""
    slack_m: float = 0.007
    """How far a joined segment may stick out of the solid that explains it."""
    fits: float = 0.9
    """Share of the points that must obey."""
    own_face: float = 0.12
    """A segment shows a face if this share of its points has that direction."""
    convex_deg: float = 25.0
    """Faces meet at a convex edge of at least this angle."""
    round_explained: float = 0.85
    """Share of the normals, and of those of the sides of each segment, that one round solid must explain."""
    coaxial_m: float = 0.008
    """How far the axes of a bottle and its cap may be apart."""
    narrower: float = 0.75
    """A neck or cap has at most this share of the radius below it."""
    protrusion_m: float = 0.075
    """Handles reach at most this far out of a face: bars and bows are bought with up to 60 mm, and stand askew."""
    front_m: float = 0.03
    """Fronts stand at most this far proud of the carcass."""
    floats_m: float = 0.015
    """A protrusion ends at least this far above the support."""
    hue: float = 0.045
    """Chromaticities nearer than this are the same colour."""
    gloss: float = 0.4
    """The same towards white, for parts of round things."""


@dataclass
class Segment:
    """A growing thing."""

    body: IntArray
    """(N,) numbers of its points."""
    protrusions: IntArray
    """Numbers of the points of handles."""


class Joiner:
    """Joins the segments of things that stand on a support at the height `ground_m`."""

    def __init__(self, things: Cloud, normals: FloatArray, ground_m: float, config: JoiningConfig) -> None:
        self._points, self._colors = things.points, things.colors
        self._normals, self._ground, self._config = normals, ground_m, config
        self._shapes: dict[tuple[int, int], Shape] = {}
        self._segments: dict[int, Segment] = {}

    def join(self, labels: IntArray) -> tuple[IntArray, BoolArray]:
        """Things' numbers (N,) and which points (N,) are protrusions, from segments' numbers (N,)."""
        pairs = KDTree(self._points).query_pairs(self._config.touch_m, output_type="ndarray")
        labels = absorb_small(labels, pairs, self._config.min_points)
        none = np.zeros(0, np.int64)
        self._segments = {int(i): Segment(np.flatnonzero(labels == i), none) for i in np.unique(labels)}
        for rule in (
            self._is_inside,
            self._is_round,
            self._shares_faces,
            self._is_inside,
            self._is_coaxial,
            self._is_inside,
        ):
            self._apply(rule)
        self._apply(self._protrudes, as_protrusion=True)
        result, protruding = np.full(len(labels), -1), np.zeros(len(labels), bool)
        for number, one in enumerate(self._segments.values()):
            result[one.body] = number
            result[one.protrusions] = number
            protruding[one.protrusions] = True
        return result, protruding

    def _apply(self, rule: Callable[[int, int], bool], as_protrusion: bool = False) -> None:
        """Join by one rule until it finds nothing more; the largest takes first."""
        again = True
        while again:
            again = False
            for large in sorted(self._segments, key=lambda one: -len(self._segments[one].body)):
                if large not in self._segments:
                    continue
                for small in self._smaller_nearby(large):
                    if rule(large, small):
                        self._merge(large, small, as_protrusion)
                        again = True

    def _merge(self, large: int, small: int, as_protrusion: bool) -> None:
        kept, gone = self._segments[large], self._segments.pop(small)
        if as_protrusion:
            beyond = self._is_beyond(large, gone.body)
            kept.protrusions = np.concatenate([kept.protrusions, gone.body[beyond], gone.protrusions])
            kept.body = np.concatenate([kept.body, gone.body[~beyond]])
        else:
            kept.body = np.concatenate([kept.body, gone.body])
            kept.protrusions = np.concatenate([kept.protrusions, gone.protrusions])

    def _smaller_nearby(self, large: int) -> list[int]:
        """Segments with fewer points whose ranges along x, y, z are within reach of `large`'s, largest first."""
        mine, reach = self._points[self._segments[large].body], self._config.reach_m
        low, high = mine.min(0) - reach, mine.max(0) + reach
        found = []
        for number, one in self._segments.items():
            theirs = self._points[one.body]
            near = (theirs.min(0) < high).all() and (theirs.max(0) > low).all()
            if number != large and near and len(one.body) <= len(mine):
                found.append(number)
        return sorted(found, key=lambda number: -len(self._segments[number].body))

    def _surface(self, index: IntArray) -> Surface:
        return Surface(self._points[index], self._normals[index], self._ground)

    def _shape(self, number: int) -> Shape:
        key = (number, len(self._segments[number].body))
        if key not in self._shapes:
            self._shapes[key] = fit_shape(self._surface(self._segments[number].body))
        return self._shapes[key]

    def _same_color(self, one: int, other: int) -> bool:
        """Whether colours differ by shade and gloss alone: gloss adds the lamp's white (Shafer 1985)."""
        first, second = (
            np.median(chromaticity(self._colors[self._segments[number].body]), axis=0) - 1 / 3
            for number in (one, other)
        )
        strong, weak = (first, second) if first @ first > second @ second else (second, first)
        share = np.clip(strong @ weak / max(strong @ strong, 1e-12), 0.0, 1.0)
        beside, along = np.linalg.norm(weak - share * strong), np.linalg.norm((1 - share) * strong)
        return bool(beside < self._config.hue and along < self._config.gloss)

    def _is_inside(self, large: int, small: int) -> bool:
        """Whether `small` lies in the solid of `large`; in a hollow one only what has its colour."""
        shape, config = self._shape(large), self._config
        local = np.abs(shape.box.to_local(self._points[self._segments[small].body]))
        if (local < np.asarray(shape.box.half_extents_m) + config.slack_m).all(1).mean() < config.fits:
            return False
        return shape.kind == "box" or self._same_color(large, small)

    def _is_round(self, large: int, small: int) -> bool:
        """Whether one round solid explains both, and no box does."""
        config, bodies = self._config, [self._segments[number].body for number in (large, small)]
        if not self._same_color(large, small):
            return False
        union = self._surface(np.concatenate(bodies))
        shape = max((fit_round(union), fit_lying(union)), key=lambda one: one.explained)
        if shape.explained < config.round_explained or shape.explained - fit_box(union).explained < 0.1:
            return False
        sides = [self._surface(body[np.abs(self._normals[body, 2]) < UP_FACE]) for body in bodies]
        if min(len(side.points) for side in sides) < MIN_FACE:
            return False
        return all(agreement(shape, side).mean() > config.round_explained - 0.1 for side in sides)

    def _shares_faces(self, large: int, small: int) -> bool:
        """Whether the two show different faces of one upright box and meet at a convex edge of it."""
        config = self._config
        one, other = (self._segments[number].body for number in (large, small))
        if not self._meet_convexly(one, other):
            return False
        union = self._surface(np.concatenate([one, other]))
        box = fit_box(union).box
        local = box.to_local(union.points)
        half = np.asarray(box.half_extents_m)
        to_surface = np.abs(np.abs(local) - half).min(1)
        if ((to_surface < config.slack_m) & (np.abs(local) < half + config.slack_m).all(1)).mean() < config.fits:
            return False
        faces = [self._faces(index, box) for index in (one, other)]
        return not (faces[0] & faces[1]).any()

    def _faces(self, index: IntArray, box: OrientedBox) -> BoolArray:
        """Which of the six faces (6,) of a box many of the points' normals have."""
        local = self._normals[index] @ frames.quat_to_matrix(np.asarray(box.pose_base[3:]))
        axis = np.argmax(np.abs(local), axis=1)
        face = 2 * axis + (np.take_along_axis(local, axis[:, None], 1)[:, 0] > 0)
        clear = np.abs(local).max(1) > 0.85
        return np.bincount(face[clear], minlength=6) / len(index) > self._config.own_face

    def _meet_convexly(self, one: IntArray, other: IntArray) -> bool:
        config = self._config
        distance, nearest = map(np.asarray, KDTree(self._points[one]).query(self._points[other]))
        touching = distance < config.touch_m
        if touching.sum() < 5:
            return False
        # The normals at the edge are rounded: those of the whole neighbourhood tell the angle.
        ends = [one[nearest[touching]], other[touching]]
        places, directions = [], []
        for index, edge in zip((one, other), ends, strict=True):
            near = KDTree(self._points[edge]).query(self._points[index])[0] < 3 * config.touch_m
            places.append(self._points[index[near]].mean(0))
            directions.append(np.median(self._normals[index[near]], axis=0))
        bend = (directions[0] - directions[1]) @ (places[0] - places[1])
        cosine = directions[0] @ directions[1] / np.linalg.norm(directions[0]) / np.linalg.norm(directions[1])
        return bool(bend > 0 and cosine < np.cos(np.deg2rad(config.convex_deg)))

    def _is_coaxial(self, large: int, small: int) -> bool:
        """Whether `small` is the neck or cap of the round `large`."""
        below, config = self._shape(large), self._config
        if below.kind != "round":
            return False
        body, points = self._surface(self._segments[large].body), self._points[self._segments[small].body]
        axis, radius = np.asarray(below.box.pose_base[:2]), below.box.half_extents_m[0]
        distance = np.linalg.norm(points[:, :2] - axis, axis=1)
        reach = float(np.percentile(distance, 95))
        on_top = points[:, 2].min() > top_height(body) - 0.6 * radius and points[:, 2].mean() > body.points[:, 2].mean()
        if not on_top or reach > config.narrower * radius + config.coaxial_m:
            return False
        ring = np.linalg.norm(body.points[:, :2] - axis, axis=1) > max(1.1 * reach, reach + 0.003)
        return bool((body.normals[ring, 2] > UP_FACE).mean() < 0.06)

    def _protrudes(self, large: int, small: int) -> bool:
        """Whether what of `small` is not in the box `large` hangs on a side face of it, above the support."""
        shape, config = self._shape(large), self._config
        body = self._segments[small].body
        beyond = self._is_beyond(large, body)
        if shape.kind != "box":
            return False
        points, half = self._points[body[beyond]], np.asarray(shape.box.half_extents_m)
        if len(points) < MIN_FACE // 2 or np.percentile(points[:, 2], 2) < self._ground + config.floats_m:
            return False
        if self._is_carried(large, small):
            return False
        local = np.abs(shape.box.to_local(points))
        outside = (local > half + config.slack_m).mean(0)
        sides = [axis for axis in (0, 1) if outside[axis] > 1 - config.fits]
        if outside[2] > 1 - config.fits or len(sides) != 1:
            return False
        axis = sides[0]
        return bool((local[:, axis] < half[axis] + config.protrusion_m).mean() > config.fits)

    def _is_carried(self, large: int, small: int) -> bool:
        """Whether `small` rests on something else than `large`, and than what may belong to it as `small` may."""
        points, config = self._points[self._segments[small].body], self._config
        under = points[points[:, 2] < np.percentile(points[:, 2], 20)]
        candidates = [one.body for number, one in self._segments.items() if number not in (large, small)]
        others = [body for body in candidates if not self._is_on(large, body)]
        if not others:
            return False
        distance, nearest = KDTree(self._points[np.concatenate(others)]).query(under)
        below = self._points[np.concatenate(others)][nearest][:, 2] < under[:, 2]
        return bool(((distance < config.touch_m) & below).mean() > 0.2)

    def _is_on(self, large: int, index: IntArray) -> bool:
        """Whether points lie in the box of `large` or hardly beyond, as the fronts of a cabinet do."""
        box = self._shape(large).box
        near = np.abs(box.to_local(self._points[index])) < np.asarray(box.half_extents_m) + self._config.front_m
        return bool(near.all(1).mean() > self._config.fits)

    def _is_beyond(self, large: int, index: IntArray) -> BoolArray:
        """Which points are not in the box of `large`."""
        box = self._shape(large).box
        return (np.abs(box.to_local(self._points[index])) > np.asarray(box.half_extents_m) + self._config.slack_m).any(
            1
        )
