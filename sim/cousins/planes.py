"""Planes in a cloud by RANSAC (Fischler & Bolles 1981), and which of them things stand on.

Shape letters: N points, K candidate planes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from robot_rl import frames
from robot_rl.types import BoolArray, FloatArray
from sim.cousins.scan import as_pose
from sim.cousins.scene import OrientedBox, Support, SupportKind

SAMPLE = 6000
"""Points that candidates are scored on."""
CELL_M = 0.01
"""Grid by which a plane's area is counted."""
GAP_M = 0.04
"""Parts of a plane that are farther apart are of two surfaces at the same height."""
THICKNESS_M = 0.02
"""Of a support's box: its plane is the upper (inner) face."""


@dataclass(frozen=True)
class PlaneConfig:
    """What counts as a support."""

    candidates: int = 400
    """Triples of points that are tried for each plane."""
    threshold_m: float = 0.008
    """Points this near to a plane support it."""
    max_tilt_deg: float = 8.0
    """A table or floor is level, a wall upright, within this."""
    min_table_m2: float = 0.1
    """Smallest seen area of a table, floor or shelf: lids and tops of things are smaller."""
    min_wall_m2: float = 0.15
    """Smallest seen area of a wall."""
    floor_drop_m: float = 0.3
    """The lowest level plane is the floor if another is at least this much higher."""
    front_m: float = 0.6
    """An upright plane so near before a wall, parallel to it and no wider, is a thing's front and no wall."""
    max_planes: int = 5
    """Search ends after so many."""


@dataclass(frozen=True)
class Plane:
    """Points x with normal . x = offset; the normal points to the camera."""

    normal: tuple[float, float, float]
    """Unit."""
    offset_m: float
    """Distance from the frame's origin along the normal."""

    def height_m(self, points: FloatArray) -> FloatArray:
        """Signed distance (N,) of `points` (N, 3)."""
        return points @ np.asarray(self.normal) - self.offset_m


def largest_plane(
    points: FloatArray,
    config: PlaneConfig,
    rng: np.random.Generator,
    accept: Callable[[FloatArray], BoolArray] | None = None,
) -> Plane | None:
    """The plane with most of `points` (N, 3) near it, refined on them; `accept` takes unit normals (K, 3) to (K,)."""
    if len(points) < 3:
        return None
    sample = points[rng.choice(len(points), min(len(points), SAMPLE), replace=False)]
    triples = sample[rng.integers(len(sample), size=(config.candidates, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    good = lengths > 1e-9
    normals = normals[good] / lengths[good, None]
    triples = triples[good]
    if accept is not None:
        good = accept(normals)
        normals, triples = normals[good], triples[good]
    if not len(normals):
        return None
    offsets = (normals * triples[:, 0]).sum(1)
    counts = (np.abs(sample @ normals.T - offsets) < config.threshold_m).sum(0)
    best = int(np.argmax(counts))
    normal, offset = normals[best], offsets[best]
    for _ in range(3):
        near = points[np.abs(points @ normal - offset) < config.threshold_m]
        if len(near) < 3:
            return None
        centre = near.mean(0)
        normal = np.linalg.eigh(np.cov((near - centre).T))[1][:, 0]
        offset = float(normal @ centre)
    if accept is not None and not accept(normal[None])[0]:
        return None  # what it settled on is of another kind
    x, y, z = map(float, normal)
    return Plane((x, y, z), offset)


def facing(plane: Plane, point: FloatArray) -> Plane:
    """`plane` with its normal turned to the side of `point` (3,)."""
    if plane.height_m(point) >= 0.0:
        return plane
    x, y, z = plane.normal
    return Plane((-x, -y, -z), -plane.offset_m)


def find_supports(points: FloatArray, camera: FloatArray, config: PlaneConfig, seed: int = 0) -> tuple[Support, ...]:
    """Tables, floor and walls in a cloud (N, 3) of the base frame, seen from `camera` (3,)."""
    rng = np.random.default_rng(seed)
    level_cosine = np.cos(np.deg2rad(config.max_tilt_deg))
    upright_sine = np.sin(np.deg2rad(config.max_tilt_deg))
    level = _search(points, camera, config, rng, config.min_table_m2, lambda n: np.abs(n[:, 2]) > level_cosine)
    for plane, _ in level:
        points = points[np.abs(plane.height_m(points)) > 2 * config.threshold_m]
    walls = _search(points, camera, config, rng, config.min_wall_m2, lambda n: np.abs(n[:, 2]) < upright_sine)
    supports, counts = [], {"table": 0, "shelf": 0}
    for (plane, near), kind in zip(level, _level_kinds([near for _, near in level], config), strict=True):
        name = "floor" if kind == "floor" else f"{kind}_{counts[kind]}"
        counts[kind] = counts.get(kind, 0) + 1
        supports.append(Support(name, kind, _extent(plane, near, up=2)))
    found = [Support("", "wall", _extent(plane, near, up=0)) for plane, near in walls]
    found = [one for one in found if not any(_is_before(one, wall, config) for wall in found)]
    return (*supports, *(replace(one, name=f"wall_{i}") for i, one in enumerate(found)))


def _is_before(one: Support, wall: Support, config: PlaneConfig) -> bool:
    """Whether it lies before the `wall`, parallel to it and within its width."""
    facing_alike = np.dot(top_plane(one).normal, top_plane(wall).normal) > np.cos(np.deg2rad(config.max_tilt_deg))
    local = wall.box.to_local(one.box.corners())
    is_near = config.threshold_m < local[:, 0].mean() < config.front_m
    return bool(facing_alike and is_near and (np.abs(local[:, 1]) < wall.box.half_extents_m[1] + GAP_M).all())


def top_plane(support: Support) -> Plane:
    """The face of `support` that things stand on (or against)."""
    axis = 0 if support.kind == "wall" else 2
    rotation = frames.quat_to_matrix(np.asarray(support.box.pose_base[3:]))
    x, y, z = map(float, rotation[:, axis])
    centre = np.asarray(support.box.pose_base[:3]) + rotation[:, axis] * support.box.half_extents_m[axis]
    return Plane((x, y, z), float(rotation[:, axis] @ centre))


def _search(
    points: FloatArray,
    camera: FloatArray,
    config: PlaneConfig,
    rng: np.random.Generator,
    min_area_m2: float,
    accept: Callable[[FloatArray], BoolArray],
) -> list[tuple[Plane, FloatArray]]:
    """Planes and the points near them, largest first."""
    found = []
    while len(found) < config.max_planes:
        plane = largest_plane(points, config, rng, accept)
        if plane is None:
            break
        plane = facing(plane, camera)
        is_near = np.abs(plane.height_m(points)) < config.threshold_m
        near = points[is_near]
        if _area_m2(plane, near) < min_area_m2:
            break
        found.append((plane, near))
        points = points[~is_near]
    return found


def _area_m2(plane: Plane, near: FloatArray) -> float:
    cells = np.floor(near @ _basis(plane, 2)[:, :2] / CELL_M).astype(np.int64)
    return len(np.unique(cells, axis=0)) * CELL_M**2


def _level_kinds(nears: list[FloatArray], config: PlaneConfig) -> list[SupportKind]:
    """Floor if much lower than others; of the rest the largest (the first) is the table, what is higher shelves."""
    heights = [float(near[:, 2].mean()) for near in nears]
    is_floor = [max(heights) - one > config.floor_drop_m and one == min(heights) for one in heights]
    main = next((one for one, floor in zip(heights, is_floor, strict=True) if not floor), 0.0)
    return [
        "floor" if floor else "shelf" if one > main + config.threshold_m else "table"
        for one, floor in zip(heights, is_floor, strict=True)
    ]


def _extent(plane: Plane, near: FloatArray, up: int) -> OrientedBox:
    """A thin box behind the plane, around the points near it; axis `up` is the plane's normal."""
    rotation = _basis(plane, up)
    others = [axis for axis in range(3) if axis != up]
    near = near[_is_connected(near @ rotation[:, others])]
    (u, v), (width, height), angle = cv2.minAreaRect((near @ rotation[:, others]).astype(np.float32))
    if up == 2:
        turn = np.deg2rad(angle)
        cosine, sine = np.cos(turn), np.sin(turn)
        flat = rotation[:, others]
        rotation = np.stack([flat @ [cosine, sine], flat @ [-sine, cosine], rotation[:, 2]], -1)
    else:  # a wall's box keeps z up
        flat = near @ rotation[:, others]
        low, high = flat.min(0), flat.max(0)
        (u, v), (width, height) = (low + high) / 2, high - low
    centre = _basis(plane, up)[:, others] @ [u, v] + np.asarray(plane.normal) * (plane.offset_m - THICKNESS_M / 2)
    half = np.empty(3)
    half[others], half[up] = np.maximum([width / 2, height / 2], 1e-3), THICKNESS_M / 2
    pose = as_pose(np.concatenate([centre, frames.matrix_to_quat(rotation)]))
    return OrientedBox(pose, (float(half[0]), float(half[1]), float(half[2])))


def _is_connected(flat: FloatArray) -> BoolArray:
    """Which points (N, 2) of a plane belong to its largest piece; gaps below `GAP_M` do not part it."""
    cells = np.floor((flat - flat.min(0)) / GAP_M).astype(np.int64)
    image = np.zeros(cells.max(0) + 1, np.uint8)
    image[cells[:, 0], cells[:, 1]] = 1
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(image)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return pieces[cells[:, 0], cells[:, 1]] == largest


def _basis(plane: Plane, up: int) -> FloatArray:
    """A right-handed rotation (3, 3) whose column `up` is the normal; a wall's z points up."""
    normal = np.asarray(plane.normal)
    if up == 2:
        first = np.cross([0.0, 1.0, 0.0], normal)
        first /= np.linalg.norm(first)
        return np.stack([first, np.cross(normal, first), normal], -1)
    side = np.cross([0.0, 0.0, 1.0], normal)
    side /= np.linalg.norm(side)
    return np.stack([normal, side, np.cross(normal, side)], -1)
