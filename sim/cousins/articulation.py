"""Doors, drawers and lids: as the user counts them, or from seams and handles on a front, with a confidence.

A box whose front shows a seam or a handle is a cabinet. What a handle says about its panel: a level bar or a knob in
the middle belongs to a drawer; an upright bar or a knob at one side to a door whose hinge is at the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import BoolArray, FloatArray
from sim.cousins.counts import PartCounts
from sim.cousins.fronts import CELL_M, Panel, SeamConfig, find_panels, front_picture
from sim.cousins.projection import project
from sim.cousins.scan import ScanView, as_pose
from sim.cousins.scene import OrientedBox, Part, PartKind, PartSource, Vector3
from sim.cousins.separation import clusters

PANEL_HALF_M = 0.006
"""Half thickness that a panel is given: its back is not seen."""
EDGE_M, BIN_M = 0.01, 0.004
"""What is left out at a face's edges, and the bins that its points are counted in."""


@dataclass(frozen=True)
class ArticulationConfig:
    """What is looked for."""

    counts: dict[str, PartCounts] = field(default_factory=dict)
    """By object, where the user knows better."""
    seams: SeamConfig = field(default_factory=SeamConfig)
    """Edges of panels."""
    min_front_m: float = 0.09
    """Fronts that are narrower or lower are not searched."""
    min_reach_m: float = 0.009
    """Points this far in front of the front are a handle."""
    max_reach_m: float = 0.075
    """Points farther in front are something else."""
    min_points: int = 10
    """Fewer points are no handle."""
    knob: float = 1.7
    """A handle that is less than so many times as long as wide is a knob."""
    off_centre: float = 0.22
    """A knob farther from its panel's middle than this share of its width is a door's."""


@dataclass(frozen=True)
class Handle:
    """A handle on a front, in the front's frame (y to the right, z up, x out of it), metres."""

    low: Vector3
    """Lower corner."""
    high: Vector3
    """Upper corner."""

    @property
    def centre(self) -> FloatArray:
        return (np.asarray(self.low) + np.asarray(self.high)) / 2


def find_parts(
    name: str, box: OrientedBox, points: FloatArray, views: Sequence[ScanView], config: ArticulationConfig
) -> tuple[OrientedBox, tuple[Part, ...]]:
    """The box with its front as +x and its handles inside, and what opens; the same box and nothing if nothing does.

    `box` is that of the body alone, `points` (N, 3) are body and handles.
    """
    counts = config.counts.get(name)
    wanted = None if counts is None else counts.doors + counts.drawers
    fronts = [on_face(turned(box, quarter), points, config) for quarter in range(4)]
    fronts = [one for one in fronts if _is_seen(one, views[0])]
    best: tuple[float, OrientedBox, list[Panel], list[Handle]] | None = None
    for front in fronts:
        if wanted is None and min(front.half_extents_m[1:]) * 2 < config.min_front_m:
            continue
        handles = find_handles(front, points, config)
        ignored = in_front(views[0], front, config)
        panels = find_panels(front_picture(views[0], front), ignored, config.seams, wanted or None)
        panels = [part for panel in panels for part in _between_handles(panel, handles)] if wanted is None else panels
        evidence = 2.0 * len(handles) + sum(panel.confidence for panel in panels if len(panels) > 1)
        if best is None or evidence > best[0]:
            best = (evidence, front, panels, handles)
    if counts is not None and (best is None or len(best[2]) < (wanted or 0)):
        raise DataError(f"{name}: no front in sight is large enough for {counts}; correct articulation.counts")
    if best is None or (counts is None and best[0] == 0.0):
        return box, ()
    _, front, panels, handles = best
    parts = _make_parts(front, panels, handles, counts, config)
    return _around(front, handles), parts


def turned(box: OrientedBox, quarters: int) -> OrientedBox:
    """The same box with its axes turned about z by quarter turns."""
    half = box.half_extents_m
    turn = frames.rotvec_to_quat(np.array([0.0, 0.0, quarters * np.pi / 2]))
    quat = frames.quat_multiply(np.asarray(box.pose_base[3:]), turn)
    sizes = half if quarters % 2 == 0 else (half[1], half[0], half[2])
    return OrientedBox(as_pose([*box.pose_base[:3], *quat]), sizes)


def on_face(front: OrientedBox, points: FloatArray, config: ArticulationConfig) -> OrientedBox:
    """The box with its +x face where most of that face's points (of N, 3) are: handles may have been taken for it."""
    half_x, half_y, half_z = front.half_extents_m
    local = front.to_local(points)
    inner = (np.abs(local[:, 1]) < half_y - EDGE_M) & (np.abs(local[:, 2]) < half_z - EDGE_M)
    depth = half_x - local[inner, 0]
    near = depth[(depth > -EDGE_M) & (depth < min(config.max_reach_m, half_x))]
    if len(near) < 3 * config.min_points:
        return front
    count, edges = np.histogram(near, np.arange(-EDGE_M, config.max_reach_m + BIN_M, BIN_M))
    best = int(np.argmax(count))
    back = float(near[(near >= edges[best]) & (near <= edges[best + 1])].mean())
    if back < config.min_reach_m:
        return front
    return _inner(front, (-back / 2, 0.0, 0.0), (half_x - back / 2, half_y, half_z))


def find_handles(front: OrientedBox, points: FloatArray, config: ArticulationConfig) -> list[Handle]:
    """Clusters of points that stand out of the +x face."""
    local = front.to_local(points)
    half = np.asarray(front.half_extents_m)
    out = local[:, 0] - half[0]
    within = (np.abs(local[:, 1:]) < half[1:]).all(1)
    near = local[within & (out > config.min_reach_m) & (out < config.max_reach_m)]
    if len(near) < config.min_points:
        return []
    labels = clusters(near, 0.016, config.min_points)
    found = []
    for number in range(labels.max() + 1):
        low, high = np.percentile(near[labels == number], (2, 98), axis=0)
        found.append(
            Handle((float(half[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2])))
        )
    return found


def in_front(view: ScanView, front: OrientedBox, config: ArticulationConfig) -> BoolArray:
    """Cells (R, C) of the front's picture that show something nearer to the camera (handles, other things)."""
    _, half_y, half_z = front.half_extents_m
    rows, columns = (max(round(2 * half / CELL_M), 1) for half in (half_z, half_y))
    fx, fy, cx, cy = view.view.intrinsics
    v, u = np.mgrid[: view.depth_m.shape[0], : view.depth_m.shape[1]]
    low, high = _pixel_range(view, front)
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    z = view.depth_m[window].astype(np.float64)
    camera = np.stack([(u[window] - cx) * z / fx, (v[window] - cy) * z / fy, z], -1).reshape(-1, 3)
    pose = np.asarray(view.view.pose_base_camera)
    local = front.to_local(camera @ frames.quat_to_matrix(pose[3:]).T + pose[:3])
    nearer = ((local[:, 0] - front.half_extents_m[0] > config.min_reach_m) & (camera[:, 2] > 0)).reshape(z.shape)
    nearer = cv2.dilate(nearer.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float64)
    depthless = np.zeros((*view.depth_m.shape, 3), np.uint8)
    depthless[window] = (255 * nearer[..., None]).astype(np.uint8)
    seen = front_picture(ScanView(depthless, view.depth_m, view.view), front)[..., 0]
    return (np.nan_to_num(seen, nan=255.0) > 100).reshape(rows, columns)


def _pixel_range(view: ScanView, front: OrientedBox) -> tuple[FloatArray, FloatArray]:
    pixels = project(view.view, front.corners())
    height, width = view.depth_m.shape
    low = np.clip(np.floor(np.nanmin(pixels, 0)) - 20, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(np.nanmax(pixels, 0)) + 20, 0, (width, height)).astype(int)
    return low, high


def _is_seen(front: OrientedBox, view: ScanView) -> bool:
    """Whether the camera looks at the +x face by more than 15 degrees."""
    local = front.to_local(np.asarray(view.view.pose_base_camera[:3])[None])[0]
    offset = local - [front.half_extents_m[0], 0.0, 0.0]
    return bool(offset[0] > np.sin(np.deg2rad(15)) * np.linalg.norm(offset))


def _between_handles(panel: Panel, handles: Sequence[Handle]) -> list[Panel]:
    """A panel with several handles has seams that were not seen: they lie half way between handles."""
    inside = [one.centre for one in handles if _holds(panel, one)]
    if len(inside) < 2:
        return [panel]
    spread = np.ptp(np.array(inside), axis=0)
    axis = 1 if spread[1] > spread[2] else 2
    places = sorted(float(one[axis]) for one in inside)
    cuts = [(a + b) / 2 for a, b in pairwise(places)]
    low, high = (panel.y0, panel.y1) if axis == 1 else (panel.z0, panel.z1)
    edges = [low, *cuts, high]
    sure = 0.5 * panel.confidence
    return [
        Panel(a, b, panel.z0, panel.z1, sure) if axis == 1 else Panel(panel.y0, panel.y1, a, b, sure)
        for a, b in pairwise(edges)
    ]


def _holds(panel: Panel, handle: Handle) -> bool:
    _, y, z = handle.centre
    return panel.y0 <= y <= panel.y1 and panel.z0 <= z <= panel.z1


def _make_parts(
    front: OrientedBox,
    panels: Sequence[Panel],
    handles: Sequence[Handle],
    counts: PartCounts | None,
    config: ArticulationConfig,
) -> tuple[Part, ...]:
    """A part per panel; with counts, the panels that look most like doors are the doors."""
    paired = [(panel, next((one for one in handles if _holds(panel, one)), None)) for panel in panels]
    likelihood = [_door_likelihood(panel, handle, config) for panel, handle in paired]
    doors = {number for number, value in enumerate(likelihood) if value > 0.5}
    source: PartSource = "panel edges"
    if counts is not None:
        source = "user"
        order = np.argsort(-np.asarray(likelihood))
        paired = paired[: counts.doors + counts.drawers]
        doors = {int(number) for number in order if number < len(paired)}
        doors = set(sorted(doors, key=lambda number: -likelihood[number])[: counts.doors])
    parts = []
    for number, (panel, handle) in enumerate(paired):
        kind: PartKind = "door" if number in doors else "drawer"
        certainty = abs(likelihood[number] - 0.5) * 2
        sure = 1.0 if counts is not None else panel.confidence * certainty * (1.0 if handle else 0.5)
        parts.append(_part(front, panel, handle, kind, source, float(np.clip(sure, 0.0, 1.0))))
    if counts is not None and counts.lids:
        parts.append(_lid(front))
    return tuple(parts)


def _door_likelihood(panel: Panel, handle: Handle | None, config: ArticulationConfig) -> float:
    """1 for a door, 0 for a drawer, by the handle; by the panel's shape, hesitantly, without one."""
    width, height = panel.y1 - panel.y0, panel.z1 - panel.z0
    if handle is None:
        return 0.6 if height > width else 0.3
    _, long_y, long_z = np.asarray(handle.high) - np.asarray(handle.low)
    if max(long_y, long_z) > config.knob * min(long_y, long_z):
        return 0.95 if long_z > long_y else 0.05
    share = abs(handle.centre[1] - (panel.y0 + panel.y1) / 2) / width
    return 0.85 if share > config.off_centre else 0.15


def _part(
    front: OrientedBox, panel: Panel, handle: Handle | None, kind: PartKind, source: PartSource, sure: float
) -> Part:
    half_x = front.half_extents_m[0]
    middle_y, middle_z = (panel.y0 + panel.y1) / 2, (panel.z0 + panel.z1) / 2
    half = (PANEL_HALF_M, (panel.y1 - panel.y0) / 2, (panel.z1 - panel.z0) / 2)
    face = _inner(front, (half_x - PANEL_HALF_M, middle_y, middle_z), half)
    grip = None
    if handle is not None:
        low, high = np.asarray(handle.low), np.asarray(handle.high)
        size = np.maximum((high - low) / 2, 0.002)
        grip = _inner(front, tuple(map(float, (low + high) / 2)), tuple(map(float, size)))
    rotation = frames.quat_to_matrix(np.asarray(front.pose_base[3:]))
    if kind == "drawer":
        return Part(kind, face, face.pose_base[:3], _vector(rotation[:, 0]), grip, source, sure)
    hinge_left = handle is None or handle.centre[1] >= middle_y
    point = _inner(front, (half_x, panel.y0 if hinge_left else panel.y1, middle_z), half).pose_base[:3]
    # About its own up a door with the hinge at the left (lesser y) turns inwards.
    return Part(kind, face, point, _vector(rotation[:, 2] * (-1.0 if hinge_left else 1.0)), grip, source, sure)


def _lid(front: OrientedBox) -> Part:
    """The top, hinged at the back."""
    half_x, half_y, half_z = front.half_extents_m
    flat = _inner(front, (0.0, 0.0, half_z - PANEL_HALF_M), (half_x, half_y, PANEL_HALF_M))
    rotation = frames.quat_to_matrix(np.asarray(front.pose_base[3:]))
    # A panel's x points out of it: up.
    out = np.stack([rotation[:, 2], rotation[:, 1], -rotation[:, 0]], -1)
    panel = OrientedBox(as_pose([*flat.pose_base[:3], *frames.matrix_to_quat(out)]), (PANEL_HALF_M, half_y, half_x))
    hinge = _inner(front, (-half_x, 0.0, half_z), (1e-3, 1e-3, 1e-3)).pose_base[:3]
    return Part("lid", panel, hinge, _vector(-rotation[:, 1]), None, "user", 1.0)


def _inner(front: OrientedBox, centre: Sequence[float], half: Sequence[float]) -> OrientedBox:
    """A box in the front's frame."""
    pose = frames.compose(np.asarray(front.pose_base), np.array([*centre, 1.0, 0.0, 0.0, 0.0]))
    return OrientedBox(as_pose(pose), _vector(half))


def _around(front: OrientedBox, handles: Sequence[Handle]) -> OrientedBox:
    """The front's box, drawn out over its handles."""
    half_x, half_y, half_z = front.half_extents_m
    reach = max((handle.high[0] for handle in handles), default=half_x) - half_x
    return _inner(front, (reach / 2, 0.0, 0.0), (half_x + reach / 2, half_y, half_z))


def _vector(values: Sequence[float] | FloatArray) -> Vector3:
    x, y, z = map(float, values)
    return x, y, z
