"""Boxes with a lid."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import mujoco
import numpy as np

from sim.assets.asset import Affordance, AssetJoint
from sim.assets.family import Family, Vector3, require, uniform
from sim.assets.materials import LID_HINGE, STEEL, WOOD
from sim.assets.shapes import AXES, Handle, Part, add_handle, new_asset

LidEdge = Literal["back", "front", "left", "right"]
LID_EDGES: dict[LidEdge, str] = {"back": "-x", "front": "+x", "left": "-y", "right": "+y"}
OPEN_RAD = 1.75
"""Lids lean back a little when open (100 degrees)."""


def add_tray(part: Part, center_m: Vector3, half_m: Vector3, wall_m: float) -> None:
    """A floor and four walls, open at the top."""
    (x, y, z), (cx, cy, cz), t = half_m, center_m, wall_m / 2
    part.box((cx, cy, cz - z + t), (x, y, t), WOOD)
    for side in (-1, 1):
        part.box((cx + side * (x - t), cy, cz + t), (t, y, z - t), WOOD)
        part.box((cx, cy + side * (y - t), cz + t), (x - 2 * t, t, z - t), WOOD)


LID_GAP_M = 0.001
"""Half of it above and below the lid is free."""


@dataclass(frozen=True)
class HingedBox(Family):
    """A box whose whole top is a lid."""

    half_m: Vector3 = (0.1, 0.14, 0.07)
    """Half sizes with the handle."""
    lid_top_m: float = 0.05
    """z of the lid's outer face."""
    lid_m: float = 0.01
    """Thickness of the lid."""
    wall_m: float = 0.008
    """Thickness of walls and floor."""
    hinge: LidEdge = "back"
    """Edge that the lid turns about."""
    handle: Handle | None = Handle("knob", (0.07, 0.0), 0.03, 0.01, 0.02)  # noqa: RUF009 (frozen)
    """On the lid."""
    open_rad: float = OPEN_RAD
    """Fully open."""

    category: ClassVar[str] = "hinged_box"

    def __post_init__(self) -> None:
        x, y, z = self.half_m
        require(min(x, y) > 2 * self.wall_m > 0, f"walls of {self.wall_m} m leave no room; got {self}")
        require(self.lid_m > LID_GAP_M and self.open_rad > 0, f"lid_m > {LID_GAP_M}, open_rad > 0 needed; got {self}")
        require(-z + self.wall_m < self.lid_top_m - self.lid_m < self.lid_top_m <= z, f"the lid is no lid; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        x, y, z = uniform(rng, 0.06, 0.15), uniform(rng, 0.08, 0.2), uniform(rng, 0.04, 0.1)
        standoff = uniform(rng, 0.015, 0.025)
        offset = (x - uniform(rng, 0.02, 0.03), uniform(rng, -0.3, 0.3) * y)
        bar = bool(rng.integers(2))
        length = uniform(rng, 0.06, 0.1) if bar else uniform(rng, 0.025, 0.035)
        handle = Handle("bar" if bar else "knob", offset, length, uniform(rng, 0.006, 0.01), standoff, "y")
        return cls((x, y, z), z - standoff, uniform(rng, 0.006, 0.012), uniform(rng, 0.006, 0.01), "back", handle)

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        wall = min(0.008, 0.15 * min(half_extents_m))
        return cls(half_extents_m, half_extents_m[2], max(wall, 2 * LID_GAP_M), wall, handle=None)

    @property
    def half_extents_m(self) -> Vector3:
        return self.half_m

    @property
    def joints(self) -> tuple[AssetJoint, ...]:
        return (AssetJoint("lid", "lid", self.open_rad),)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        handle = (Affordance("handle", "lid_handle", "lid"),) if self.handle is not None else ()
        return (*handle, Affordance("opening", "opening"), Affordance("rim", "rim"))

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        x, y, z = self.half_m
        mouth = self.lid_top_m - self.lid_m
        add_tray(root, (0.0, 0.0, (mouth - z) / 2), (x, y, (mouth + z) / 2), self.wall_m)
        root.site("opening", (0, 0, mouth))
        root.site("rim", (0, 0, mouth))
        center, half = (0, 0, self.lid_top_m - self.lid_m / 2), (x, y, (self.lid_m - LID_GAP_M) / 2)
        edge = LID_EDGES[self.hinge]
        lid = root.leaf("lid", center, half, "+z", edge, self.open_rad, LID_HINGE)
        lid.box(center, half, WOOD)
        if self.handle is not None:
            add_handle(lid, self.handle, (0, 0, self.lid_top_m), "+z", "lid_handle", STEEL)
        return root.spec


def edge_of(direction: np.ndarray) -> LidEdge:
    """The edge that lies furthest along `direction` (3,)."""
    return max(LID_EDGES, key=lambda edge: float(np.dot(AXES[LID_EDGES[edge]], direction)))
