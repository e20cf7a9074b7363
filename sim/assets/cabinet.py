"""Cabinets: a case whose front (+x) holds doors and drawers."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal, Self

import mujoco
import numpy as np

from sim.assets.asset import Affordance, AssetJoint
from sim.assets.family import Family, Vector3, require, uniform
from sim.assets.materials import BOARD, DOOR_HINGE, DRAWER_SLIDE, STEEL
from sim.assets.shapes import Handle, Part, add_handle, new_asset

HingeEdge = Literal["left", "right", "top", "bottom"]
EDGES: dict[HingeEdge, str] = {"left": "-y", "right": "+y", "top": "+z", "bottom": "-z"}
"""Sides as seen by someone who stands before the cabinet."""
GAP_M = 0.0015
"""Between panels, and between a drawer and the case."""


@dataclass(frozen=True)
class Panel:
    """A door or a drawer's front."""

    kind: Literal["door", "drawer"]
    """What it is."""
    center_m: tuple[float, float]
    """y and z in the cabinet's frame."""
    half_m: tuple[float, float]
    """Half sizes along y and z."""
    hinge: HingeEdge = "left"
    """Edge that a door turns about; of no meaning for a drawer."""
    handle: Handle | None = None
    """What it is pulled by."""
    open_at: float = 1.57
    """Fully open: rad of a door, metres of a drawer."""


@dataclass(frozen=True)
class Cabinet(Family):
    """A case of boards with panels laid on its front."""

    half_m: Vector3 = (0.15, 0.2, 0.2)
    """Half sizes with handles."""
    front_m: float = 0.115
    """x of the panels' outer faces."""
    panels: tuple[Panel, ...] = (Panel("door", (0.0, 0.0), (0.2, 0.2), handle=Handle(offset_m=(0.16, 0.0))),)
    """What opens; whatever they leave free of the front is closed by fixed boards."""
    board_m: float = 0.012
    """Thickness of boards and panels."""

    category: ClassVar[str] = "cabinet"

    def __post_init__(self) -> None:
        x, y, z = self.half_m
        require(-x + 4 * self.board_m < self.front_m <= x, f"front_m must be within the box's depth; got {self}")
        require(min(y, z) > 2 * self.board_m > 0, f"boards of {self.board_m} m leave no room; got {self}")
        for panel in self.panels:
            inside = all(abs(c) + h <= s + 1e-6 for c, h, s in zip(panel.center_m, panel.half_m, (y, z), strict=True))
            require(inside and panel.open_at > 0, f"panels must be on the front and open; got {panel}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        """Table-top cabinets: 1 or 2 columns of 1 to 3 panels."""
        half = (uniform(rng, 0.1, 0.18), uniform(rng, 0.12, 0.25), uniform(rng, 0.1, 0.25))
        standoff = uniform(rng, 0.025, 0.045)
        columns = int(rng.integers(1, 3)) if half[1] > 0.15 else 1
        panels: list[Panel] = []
        for column in range(columns):
            wide = half[1] / columns
            center_y = -half[1] + (2 * column + 1) * wide
            hinge: HingeEdge = ("left", "right")[column if columns == 2 else int(rng.integers(2))]
            panels += _column(rng, center_y, wide, half, hinge, standoff)
        return cls(half, half[0] - standoff, tuple(panels), uniform(rng, 0.009, 0.016))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        """With one door, hinged left."""
        x, y, z = half_extents_m
        standoff = min(0.035, 0.3 * x)
        handle = Handle(offset_m=(0.8 * y, 0.0), length_m=min(0.1, z), standoff_m=standoff)
        return cls(half_extents_m, x - standoff, (Panel("door", (0.0, 0.0), (y, z), handle=handle),), _board(x, y, z))

    @property
    def half_extents_m(self) -> Vector3:
        return self.half_m

    @property
    def joints(self) -> tuple[AssetJoint, ...]:
        return tuple(AssetJoint(self._name(i), panel.kind, panel.open_at) for i, panel in enumerate(self.panels))

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        found = []
        for index, panel in enumerate(self.panels):
            name = self._name(index)
            if panel.handle is not None:
                found.append(Affordance("handle", f"{name}_handle", name))
            if panel.kind == "drawer":
                found.append(Affordance("opening", f"{name}_opening", name))
        return tuple(found)

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        self._add_case(root)
        for index, panel in enumerate(self.panels):
            add = self._add_drawer if panel.kind == "drawer" else self._add_door
            part = add(root, self._name(index), panel)
            if panel.handle is not None:
                site = f"{self._name(index)}_handle"
                add_handle(part, panel.handle, (self.front_m, *panel.center_m), "+x", site, STEEL)
        return root.spec

    def _name(self, index: int) -> str:
        return f"{self.panels[index].kind}_{index}"

    def _add_case(self, root: Part) -> None:
        (x, y, z), t = self.half_m, self.board_m / 2
        back, face = -x, self.front_m - 2 * t
        center, depth = (back + face) / 2, (face - back) / 2
        root.box((back + t, 0, 0), (t, y, z), BOARD)
        for side in (-1, 1):
            root.box((center + t, side * (y - t), 0), (depth - t, t, z), BOARD)
            root.box((center + t, 0, side * (z - t)), (depth - t, y - 2 * t, t), BOARD)
        for center_m, half_m in self._free_front():
            root.box((self.front_m - t, *center_m), (t, *half_m), BOARD)

    def _free_front(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Rectangles (centre, half sizes) of the front that no panel covers, by the grid of the panels' edges."""
        cuts = []
        for axis in (0, 1):
            size = self.half_m[1 + axis]
            edges = [p.center_m[axis] + sign * p.half_m[axis] for p in self.panels for sign in (-1, 1)]
            cuts.append(sorted({-size, size, *edges}))
        free = []
        for y0, y1 in pairwise(cuts[0]):
            for z0, z1 in pairwise(cuts[1]):
                center, half = ((y0 + y1) / 2, (z0 + z1) / 2), ((y1 - y0) / 2, (z1 - z0) / 2)
                covered = any(
                    all(abs(c - pc) < ph for c, pc, ph in zip(center, p.center_m, p.half_m, strict=True))
                    for p in self.panels
                )
                if not covered and min(half) > GAP_M:
                    free.append((center, half))
        return free

    def _add_door(self, root: Part, name: str, panel: Panel) -> Part:
        t = self.board_m / 2
        center, half = (
            (self.front_m - t, *panel.center_m),
            (t, panel.half_m[0] - GAP_M / 2, panel.half_m[1] - GAP_M / 2),
        )
        door = root.leaf(name, center, half, "+x", EDGES[panel.hinge], panel.open_at, DOOR_HINGE)
        door.box(center, half, BOARD)
        return door

    def _add_drawer(self, root: Part, name: str, panel: Panel) -> Part:
        (x, y, z), t = self.half_m, self.board_m / 2
        (cy, cz), (hy, hz) = panel.center_m, panel.half_m
        drawer = root.slider(name, (self.front_m, cy, cz), "+x", panel.open_at, DRAWER_SLIDE)
        drawer.box((self.front_m - t, cy, cz), (t, hy - GAP_M / 2, hz - GAP_M / 2), BOARD)
        inside = 2 * self.board_m / 2 + GAP_M  # the case's boards stand inside of what the panel covers
        low_y, high_y = max(cy - hy, -y + inside) + GAP_M, min(cy + hy, y - inside) - GAP_M
        low_z, high_z = max(cz - hz, -z + inside) + GAP_M, min(cz + hz, z - inside) - GAP_M
        front, back = self.front_m - 2 * t, -x + inside + GAP_M
        (my, wy), (mx, wx) = _span(low_y, high_y), _span(back, front)
        top = low_z + 0.8 * (high_z - low_z)
        wall = min(t, 0.006)
        drawer.box((mx, my, low_z + wall), (wx, wy, wall), BOARD)
        mz, wz = _span(low_z + 2 * wall, top)
        drawer.box((back + wall, my, mz), (wall, wy, wz), BOARD)
        for side in (-1, 1):
            drawer.box((mx + wall, my + side * (wy - wall), mz), (wx - wall, wall, wz), BOARD)
        drawer.site(f"{name}_opening", (mx + wall, my, top))
        return drawer


def _span(low: float, high: float) -> tuple[float, float]:
    """Middle and half width."""
    return (low + high) / 2, (high - low) / 2


def _board(*half_m: float) -> float:
    return min(0.012, 0.15 * min(half_m))


def _column(
    rng: np.random.Generator, center_y: float, wide: float, half_m: Vector3, hinge: HingeEdge, standoff_m: float
) -> list[Panel]:
    """A column of drawers, a door, or drawers over a door."""
    rows = int(rng.integers(1, 4))
    with_door = bool(rng.integers(2)) or rows == 1
    high = half_m[2] / rows
    knob = bool(rng.integers(3) == 0)
    panels = []
    for row in range(rows):
        center = (center_y, half_m[2] - (2 * row + 1) * high)
        is_door = with_door and row == rows - 1
        handle = Handle("knob" if knob else "bar", thickness_m=uniform(rng, 0.008, 0.014), standoff_m=standoff_m)
        if is_door:
            far = wide - uniform(rng, 0.015, 0.03)
            place = (far if hinge == "left" else -far, uniform(rng, -0.4, 0.4) * high)
            size = 0.03 if knob else uniform(rng, 0.4, 0.9) * high
            handle = replace(handle, offset_m=place, length_m=size, along="z")
            panels.append(Panel("door", center, (wide, high), hinge, handle))
        else:
            size = 0.03 if knob else uniform(rng, 0.5, 1.2) * wide
            handle = replace(handle, offset_m=(0.0, 0.3 * uniform(rng, -1, 1) * high), length_m=size, along="y")
            panels.append(Panel("drawer", center, (wide, high), hinge, handle, open_at=1.2 * half_m[0]))
    return panels
