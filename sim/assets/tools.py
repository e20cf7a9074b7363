"""Hand tools that lie along x: a handle to grasp and a tip to work with."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import mujoco
import numpy as np

from sim.assets.asset import Affordance
from sim.assets.family import Family, Vector3, require, uniform
from sim.assets.materials import PLASTIC, STEEL, WOOD
from sim.assets.shapes import Part, new_asset

ToolKind = Literal["hammer", "screwdriver", "spatula"]


@dataclass(frozen=True)
class Tool(Family):
    """A handle from the back (-x) and what it is for at the front (+x)."""

    kind: ToolKind = "hammer"
    """What stands at the front: a head across, a round shaft, or a flat blade."""
    length_m: float = 0.28
    """Of the whole."""
    handle_share: float = 0.85
    """Part of the length that is the handle."""
    handle_m: float = 0.026
    """Thickness of the handle."""
    head_m: float = 0.1
    """Extent of the head across (y); of a screwdriver the shaft's diameter."""

    category: ClassVar[str] = "tool"

    def __post_init__(self) -> None:
        require(0.2 <= self.handle_share <= 0.95, f"handle_share must be in [0.2, 0.95]; got {self}")
        require(0 < min(self.handle_m, self.head_m) < self.length_m, f"sizes must be positive; got {self}")
        slender = self.kind != "screwdriver" or self.head_m <= self.handle_m
        require(slender, f"a screwdriver's shaft must not be thicker than its handle; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        kind: ToolKind = ("hammer", "screwdriver", "spatula")[int(rng.integers(3))]
        length = uniform(rng, 0.18, 0.32)
        share, thick, head = {
            "hammer": ((0.82, 0.9), (0.022, 0.032), (0.07, 0.12)),
            "screwdriver": ((0.4, 0.55), (0.022, 0.034), (0.005, 0.009)),
            "spatula": ((0.6, 0.75), (0.014, 0.022), (0.05, 0.09)),
        }[kind]
        return cls(kind, length, uniform(rng, *share), uniform(rng, *thick), uniform(rng, *head))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        """Wide ones are hammers, slender ones screwdrivers."""
        x, y, z = half_extents_m
        if y > 1.3 * z:
            return cls("hammer", 2 * x, 0.85, 2 * z, 2 * y)
        return cls("screwdriver", 2 * x, 0.45, 2 * (y * z) ** 0.5, 0.5 * min(y, z))

    @property
    def half_extents_m(self) -> Vector3:
        across = max(0.8 * self.handle_m, self.head_m)
        return (self.length_m / 2, across / 2, self.handle_m / 2)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return (Affordance("grasp", "grasp"), Affordance("tip", "tip"))

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        half, back = self.length_m / 2, self.handle_share * self.length_m / 2
        thick = self.handle_m / 2
        material = WOOD if self.kind == "hammer" else PLASTIC
        # Flat on two sides, as tools are that do not roll off a bench.
        root.box((back - half, 0, 0), (back, 0.8 * thick, thick), material)
        root.site("grasp", (back - half, 0, 0), "+y")
        {"hammer": self._add_head, "screwdriver": self._add_shaft, "spatula": self._add_blade}[self.kind](root)
        return root.spec

    @property
    def _front(self) -> tuple[float, float]:
        """Middle and half length of what is before the handle, along x."""
        front = (1 - self.handle_share) * self.length_m / 2
        return self.length_m / 2 - front, front

    def _add_head(self, root: Part) -> None:
        (center, half), thick = self._front, self.handle_m / 2
        root.box((center, 0, 0), (half, self.head_m / 2, thick), STEEL)
        root.site("tip", (center, self.head_m / 2, 0), "+x", "+y")

    def _add_shaft(self, root: Part) -> None:
        center, half = self._front
        root.cylinder((center, 0, 0), self.head_m / 2, half, STEEL, "x")
        root.site("tip", (center + half, 0, 0), "+y", "+x")

    def _add_blade(self, root: Part) -> None:
        (center, half), thin = self._front, min(0.0015, self.handle_m / 4)
        root.box((center, 0, thin - self.handle_m / 2), (half, self.head_m / 2, thin), STEEL)
        root.site("tip", (center + half, 0, thin - self.handle_m / 2), "+y", "+x")
