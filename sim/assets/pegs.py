"""Pegs and the sockets they go into, square or round."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import mujoco
import numpy as np

from sim.assets.asset import Affordance
from sim.assets.family import Family, Vector3, require, uniform
from sim.assets.materials import ALUMINIUM, PLASTIC
from sim.assets.shapes import new_asset

Section = Literal["square", "round"]


@dataclass(frozen=True)
class Peg(Family):
    """A shaft that stands on its tip, with a wider grip at the top."""

    section: Section = "square"
    """Of the shaft."""
    width_m: float = 0.024
    """Side or diameter of the shaft."""
    length_m: float = 0.06
    """Of the shaft."""
    grip_m: float = 0.03
    """Side of the grip's square."""
    grip_length_m: float = 0.03
    """Height of the grip; 0 for none."""

    category: ClassVar[str] = "peg"

    def __post_init__(self) -> None:
        require(0 < self.width_m <= self.grip_m and self.length_m > 0, f"need 0 < width <= grip; got {self}")
        require(self.grip_length_m >= 0, f"grip_length_m must not be negative; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        width = uniform(rng, 0.016, 0.034)
        length, grip = uniform(rng, 1.5, 2.5) * width, uniform(rng, 1.1, 1.4) * width
        section: Section = ("square", "round")[int(rng.integers(2))]
        return cls(section, width, length, grip, uniform(rng, 0.02, 0.035))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        x, y, z = half_extents_m
        side = 2 * (x * y) ** 0.5
        return cls("square", side, 2 * z, side, 0.0)

    @property
    def half_extents_m(self) -> Vector3:
        side = self.grip_m if self.grip_length_m > 0 else self.width_m
        return (side / 2, side / 2, (self.length_m + self.grip_length_m) / 2)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return (Affordance("grasp", "grasp"), Affordance("tip", "tip"))

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        (_, _, z), half = self.half_extents_m, self.length_m / 2
        if self.section == "square":
            root.box((0, 0, half - z), (self.width_m / 2, self.width_m / 2, half), PLASTIC)
        else:
            root.cylinder((0, 0, half - z), self.width_m / 2, half, PLASTIC)
        if self.grip_length_m > 0:
            grip = self.grip_length_m / 2
            root.box((0, 0, z - grip), (self.grip_m / 2, self.grip_m / 2, grip), PLASTIC)
        root.site("grasp", (0, 0, z - max(self.grip_length_m / 2, 0.2 * self.length_m)))
        root.site("tip", (0, 0, -z), "+x", "-z")
        return root.spec


@dataclass(frozen=True)
class Socket(Family):
    """A block with a blind hole from above."""

    section: Section = "square"
    """Of the hole."""
    hole_m: float = 0.026
    """Side or diameter of the hole."""
    depth_m: float = 0.035
    """Of the hole."""
    wall_m: float = 0.015
    """Least thickness around the hole."""
    floor_m: float = 0.008
    """Thickness below the hole."""

    category: ClassVar[str] = "socket"

    def __post_init__(self) -> None:
        sizes = (self.hole_m, self.depth_m, self.wall_m, self.floor_m)
        require(min(sizes) > 0, f"sizes must be positive; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        hole = uniform(rng, 0.018, 0.036)
        section: Section = ("square", "round")[int(rng.integers(2))]
        wall = uniform(rng, 0.01, 0.02)
        return cls(section, hole, uniform(rng, 0.8, 1.6) * hole, wall, uniform(rng, 0.005, 0.01))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        x, y, z = half_extents_m
        half = min(x, y)
        return cls("square", half, 1.6 * z, half / 2, 0.4 * z)

    @property
    def half_extents_m(self) -> Vector3:
        side = self.hole_m / 2 + self.wall_m
        return (side, side, (self.depth_m + self.floor_m) / 2)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return (Affordance("opening", "opening"), Affordance("grasp", "grasp"))

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        side, _, z = self.half_extents_m
        hole, wall, floor = self.hole_m / 2, self.wall_m / 2, self.floor_m
        middle, high = floor / 2, self.depth_m / 2
        if self.section == "square":
            root.box((0, 0, floor / 2 - z), (side, side, floor / 2), ALUMINIUM)
            for sign in (-1, 1):
                root.box((sign * (hole + wall), 0, middle), (wall, side, high), ALUMINIUM)
                root.box((0, sign * (hole + wall), middle), (hole, wall, high), ALUMINIUM)
        else:
            # The pieces' inner faces are flat: their middles, not their corners, are at the hole's radius.
            inner = hole / np.cos(np.pi / 16)
            root.cylinder((0, 0, floor / 2 - z), side, floor / 2, ALUMINIUM)
            root.ring((0, 0, middle), (inner, side, -high), (inner, side, high), ALUMINIUM)
        root.site("opening", (0, 0, z))
        root.site("grasp", (-hole - wall, 0, z - min(0.012, high)))
        return root.spec
