"""Electrical connectors: plugs and the receptacles that they go into, mating along x."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import mujoco
import numpy as np

from sim.assets.asset import Affordance
from sim.assets.family import Family, Vector3, require, uniform
from sim.assets.materials import PLASTIC, STEEL
from sim.assets.shapes import Part, new_asset


@dataclass(frozen=True)
class Connector(Family):
    """One side of a pair; the tongue, or the mouth, faces +x."""

    side: Literal["plug", "receptacle"] = "plug"
    """Which."""
    tongue_m: tuple[float, float, float] = (0.012, 0.012, 0.0045)
    """Length, width and height of the plug's tongue; USB-A's is 12 x 12 x 4.5 mm (USB 2.0, figure 6-7)."""
    clearance_m: float = 0.0003
    """Play around the tongue in the receptacle, each side."""
    body_m: float = 0.03
    """Length of the body behind the tongue or around the mouth."""
    wall_m: float = 0.003
    """The body's overhang beyond the tongue, each side."""

    category: ClassVar[str] = "connector"

    def __post_init__(self) -> None:
        sizes = (*self.tongue_m, self.clearance_m, self.wall_m)
        require(min(sizes) > 0 and self.body_m > self.wall_m, f"sizes must be positive; got {self}")
        receptacle = self.side == "receptacle"
        require(not receptacle or self.body_m > self.tongue_m[0], f"the body is too short for its mouth; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        tongue = (uniform(rng, 0.01, 0.02), uniform(rng, 0.008, 0.03), uniform(rng, 0.0045, 0.012))
        side: Literal["plug", "receptacle"] = ("plug", "receptacle")[int(rng.integers(2))]
        body = tongue[0] + uniform(rng, 0.008, 0.025)
        return cls(side, tongue, uniform(rng, 0.0002, 0.0008), body, uniform(rng, 0.002, 0.006))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        """A plug: of a receptacle the mouth would have to be known."""
        x, y, z = half_extents_m
        wall = 0.2 * min(y, z)
        return cls("plug", (0.6 * x, 2 * (y - wall), 2 * (z - wall)), body_m=1.4 * x, wall_m=wall)

    @property
    def half_extents_m(self) -> Vector3:
        length, width, height = self.tongue_m
        plug = self.side == "plug"
        extra = self.wall_m + (0.0 if plug else self.clearance_m)
        return ((self.body_m + (length if plug else 0.0)) / 2, width / 2 + extra, height / 2 + extra)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        end = Affordance("tip", "tip") if self.side == "plug" else Affordance("opening", "opening")
        return (end, Affordance("grasp", "grasp"))

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        {"plug": self._add_plug, "receptacle": self._add_receptacle}[self.side](root)
        return root.spec

    def _add_plug(self, root: Part) -> None:
        (x, y, z), (length, width, height) = self.half_extents_m, self.tongue_m
        body = self.body_m / 2
        root.box((body - x, 0, 0), (body, y, z), PLASTIC)
        root.box((x - length / 2, 0, 0), (length / 2, width / 2, height / 2), STEEL)
        root.site("tip", (x, 0, 0), "+y", "+x")
        root.site("grasp", (body - x, 0, 0), "+y")

    def _add_receptacle(self, root: Part) -> None:
        (x, y, z), wall = self.half_extents_m, self.wall_m / 2
        depth = self.tongue_m[0] / 2
        solid = x - depth
        root.box((-depth, 0, 0), (solid, y, z), PLASTIC)
        for sign in (-1, 1):
            root.box((x - depth, sign * (y - wall), 0), (depth, wall, z), PLASTIC)
            root.box((x - depth, 0, sign * (z - wall)), (depth, y - 2 * wall, wall), PLASTIC)
        root.site("opening", (x, 0, 0), "+y", "+x")
        root.site("grasp", (-depth, 0, 0), "+y")
