"""Shelves: boards between two sides, open to the front (+x)."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import mujoco
import numpy as np

from sim.assets.asset import Affordance
from sim.assets.family import Family, Vector3, require, uniform
from sim.assets.materials import BOARD
from sim.assets.shapes import new_asset


@dataclass(frozen=True)
class Shelf(Family):
    """Compartments one above another."""

    half_m: Vector3 = (0.1, 0.2, 0.2)
    """Half sizes."""
    compartments: int = 2
    """Places to put things, between a bottom and a top board."""
    board_m: float = 0.012
    """Thickness."""

    category: ClassVar[str] = "shelf"

    def __post_init__(self) -> None:
        x, y, z = self.half_m
        require(self.compartments >= 1, f"a shelf has at least 1 compartment; got {self}")
        require(0 < self.board_m < min(x, y), f"boards of {self.board_m} m leave no room; got {self}")
        require((self.compartments + 1) * self.board_m < z, f"so many boards leave no room; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        count = int(rng.integers(1, 4))
        high = count * uniform(rng, 0.06, 0.1)
        return cls((uniform(rng, 0.07, 0.13), uniform(rng, 0.12, 0.25), high), count, uniform(rng, 0.008, 0.016))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        """Compartments of about 0.2 m."""
        return cls(half_extents_m, max(round(half_extents_m[2] / 0.1), 1), min(0.012, 0.15 * min(half_extents_m)))

    @property
    def half_extents_m(self) -> Vector3:
        return self.half_m

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return tuple(Affordance("opening", f"opening_{index}") for index in range(self.compartments))

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        (x, y, z), t = self.half_m, self.board_m / 2
        root.box((t - x, 0, 0), (t, y, z), BOARD)
        for side in (-1, 1):
            root.box((t, side * (y - t), 0), (x - t, t, z), BOARD)
        levels = np.linspace(t - z, z - t, self.compartments + 1)
        for level in levels:
            root.box((t, 0, level), (x - t, y - 2 * t, t), BOARD)
        for index, (low, high) in enumerate(pairwise(levels)):
            root.site(f"opening_{index}", (x, 0, (low + high) / 2), "+y", "+x")
        return root.spec
