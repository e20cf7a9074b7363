"""A generated asset that fits what extraction says of an object: its twin."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.cabinet import Cabinet, HingeEdge, Panel
from sim.assets.generators import FAMILIES
from sim.assets.hinged_box import HingedBox, edge_of
from sim.assets.shapes import Handle
from sim.assets.variants import scaled_to, turned
from sim.cousins.scene import OrientedBox, Part, SceneObject

STRETCH = 4.0
"""A round thing whose box is not square is stretched to it, at most so much."""
ROUND_LOG_RATIO = 0.3
"""Cross-sections of upright cans and bottles have sides of a ratio below e^0.3 = 1.35."""
LIES = ("bottle", "can", "peg")
"""Stand along z where nothing else is said, and may lie along x."""
Z_TO_X = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
BAR_RATIO = 1.6
"""Handles longer than so many times their width are bars, others knobs."""
PANEL_COS = 0.9
"""How nearly a panel must face where its object's box says."""
DRAWER_TRAVEL = 0.6
"""Share of the depth that a drawer comes out, which its outside does not say."""


def fit_asset(seen: SceneObject) -> Asset:
    """The twin: outer size, panels, hinges and handles at the seen places; an unknown thing becomes a box."""
    kinds = {part.kind for part in seen.parts}
    if kinds == {"lid"} and len(seen.parts) == 1:
        asset = _hinged_box(seen).asset(seen.name)
    elif kinds and "lid" not in kinds:
        asset = _cabinet(seen).asset(seen.name)
    elif kinds:
        raise ConfigError(f"{seen.name}: one lid, or doors and drawers, can be built; got {', '.join(sorted(kinds))}")
    else:
        asset = _rigid(seen)
    return replace(asset, name=f"twin/{seen.name}")


@dataclass(frozen=True)
class _Local:
    """A box within another one's frame."""

    center_m: FloatArray
    half_m: FloatArray
    outward: FloatArray

    @classmethod
    def of(cls, inner: OrientedBox, outer: OrientedBox) -> _Local:
        pose = frames.relative(np.asarray(outer.pose_base), np.asarray(inner.pose_base))
        rotation = frames.quat_to_matrix(pose[3:])
        return cls(pose[:3], np.abs(rotation) @ inner.half_extents_m, rotation[:, 0])


def _rigid(seen: SceneObject) -> Asset:
    category = "box" if seen.category == "unknown" else seen.category
    x, y, z = half = seen.box.half_extents_m
    family = FAMILIES[category]
    lies = category in LIES and abs(np.log(x / y)) > ROUND_LOG_RATIO > abs(np.log(y / z))
    asset = family.fitted((y, z, x) if lies else half).asset(seen.name)
    return scaled_to(turned(asset, Z_TO_X) if lies else asset, half, STRETCH)


def _cabinet(seen: SceneObject) -> Cabinet:
    x, y, z = half = seen.box.half_extents_m
    board = min(0.012, 0.15 * min(half))
    panels = [_Local.of(part.panel, seen.box) for part in seen.parts]
    if min(panel.outward[0] for panel in panels) < PANEL_COS:
        raise ConfigError(f"{seen.name}: doors and drawers must face the +x of its box; turn the box or the panel")
    handles = [part.handle and _Local.of(part.handle, seen.box) for part in seen.parts]
    # the box reaches to the outermost handle; without one to the panels
    front = float(np.median([panel.center_m[0] + panel.half_m[0] for panel in panels])) if any(handles) else x
    front = float(np.clip(front, -0.2 * x, x))
    reach = max((h.center_m[0] + h.half_m[0] for h in handles if h), default=x)
    made = []
    for part, panel, handle in zip(seen.parts, panels, handles, strict=True):
        center, extent = _within(panel.center_m[1:], panel.half_m[1:], np.array([y, z]))
        pull = handle and _handle(handle, np.array([front, *center]), 0, x - reach)
        travel = DRAWER_TRAVEL * (front + x) if part.kind == "drawer" else np.pi / 2
        kind = "drawer" if part.kind == "drawer" else "door"
        made.append(Panel(kind, center, extent, _hinge_edge(part, panel, seen.box), pull, float(travel)))
    return Cabinet(half, front, tuple(made), board)


def _hinged_box(seen: SceneObject) -> HingedBox:
    _, _, z = half = seen.box.half_extents_m
    (part,) = seen.parts
    panel, handle = _Local.of(part.panel, seen.box), part.handle and _Local.of(part.handle, seen.box)
    if panel.outward[2] < PANEL_COS:
        raise ConfigError(f"{seen.name}: a lid must face up; turn its panel")
    wall = min(0.008, 0.15 * min(half))
    lid = float(np.clip(2 * panel.half_m[2], 0.5 * wall, z))
    top = float(np.clip(panel.center_m[2] + panel.half_m[2], lid + wall - z, z)) if handle else z
    pull = handle and _handle(handle, np.array([*panel.center_m[:2], top]), 2, z - (handle.center_m + handle.half_m)[2])
    return HingedBox(half, top, lid, wall, edge_of(_from_panel(part, panel, seen.box)), pull)


def _handle(seen: _Local, panel_m: FloatArray, normal: int, missing_m: float) -> Handle:
    """`panel_m` is the middle of the panel's outer face, `normal` its axis; `missing_m` is added to the stand-off."""
    first, second = (axis for axis in range(3) if axis != normal)
    size = 2 * seen.half_m
    long, short = (first, second) if size[first] >= size[second] else (second, first)
    standoff = max(float((seen.center_m + seen.half_m - panel_m)[normal]) + missing_m, 2e-3)
    offset = (float((seen.center_m - panel_m)[first]), float((seen.center_m - panel_m)[second]))
    if size[long] > BAR_RATIO * size[short]:
        thick = min(float(size[short]), 0.9 * standoff)
        return Handle("bar", offset, float(size[long]), thick, standoff, ("x", "y", "z")[long])
    return Handle(
        "knob", offset, float(size[[first, second]].mean()), 0.5 * standoff, standoff, ("x", "y", "z")[second]
    )


def _within(
    center_m: FloatArray, half_m: FloatArray, limit_m: FloatArray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """A rectangle cut to what lies within +-limit."""
    low, high = np.maximum(center_m - half_m, -limit_m), np.minimum(center_m + half_m, limit_m)
    (cy, cz), (hy, hz) = (low + high) / 2, (high - low) / 2
    return (float(cy), float(cz)), (float(hy), float(hz))


def _from_panel(part: Part, panel: _Local, box: OrientedBox) -> FloatArray:
    """From the panel's centre to its hinge (3,), in the object's frame."""
    return box.to_local(np.asarray(part.axis_point_base)) - panel.center_m


def _hinge_edge(part: Part, panel: _Local, box: OrientedBox) -> HingeEdge:
    axis = frames.quat_to_matrix(np.asarray(box.pose_base[3:])).T @ np.asarray(part.axis_base)
    _, y, z = _from_panel(part, panel, box)
    if abs(axis[2]) >= abs(axis[1]):
        return "left" if y < 0 else "right"
    return "bottom" if z < 0 else "top"
