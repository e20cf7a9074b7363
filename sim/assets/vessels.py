"""Open vessels: mugs and bowls, hollow, from convex pieces of wall."""

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
from sim.assets.materials import CERAMIC
from sim.assets.shapes import Part, new_asset

GRASP_DEPTH_M = 0.012
"""How far below the rim fingers close on a wall."""
MOUTH = (Affordance("rim", "rim"), Affordance("opening", "opening"), Affordance("grasp", "grasp"))


def _add_mouth(root: Part, center_x_m: float, radius_m: float, wall_m: float, top_m: float) -> None:
    """Sites of a round mouth; the wall is taken on the side away from a handle."""
    root.site("rim", (center_x_m, 0, top_m))
    root.site("opening", (center_x_m, 0, top_m))
    root.site("grasp", (center_x_m - radius_m + wall_m / 2, 0, top_m - GRASP_DEPTH_M))


@dataclass(frozen=True)
class Mug(Family):
    """A cylinder with a handle towards +x."""

    radius_m: float = 0.04
    """Outer radius."""
    height_m: float = 0.09
    """Of the whole."""
    wall_m: float = 0.005
    """Thickness of wall and floor."""
    reach_m: float = 0.035
    """How far the handle stands out; 0 for none."""
    handle_height_m: float = 0.06
    """Of the handle's loop."""
    handle_m: float = 0.008
    """Thickness of the handle."""

    category: ClassVar[str] = "mug"

    def __post_init__(self) -> None:
        require(0 < 2 * self.wall_m < min(self.radius_m, self.height_m), f"walls leave no room; got {self}")
        require(self.reach_m == 0 or self.reach_m > self.handle_m, f"the handle leaves no hole; got {self}")
        require(0 < 2 * self.handle_m < self.handle_height_m <= self.height_m, f"the handle does not fit; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        height, thick = uniform(rng, 0.07, 0.12), uniform(rng, 0.006, 0.01)
        loop = uniform(rng, 0.5, 0.8) * height
        return cls(
            uniform(rng, 0.032, 0.048), height, uniform(rng, 0.003, 0.006), uniform(rng, 0.025, 0.04), loop, thick
        )

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        """The longer of the box's horizontal sides has the handle, where it is long enough to have one."""
        x, y, z = half_extents_m
        reach, thick = 2 * (x - y), min(0.008, 0.2 * z)
        has_handle = reach > 1.25 * thick
        radius = y if has_handle else (x * y) ** 0.5
        return cls(radius, 2 * z, min(0.005, 0.2 * radius), reach if has_handle else 0.0, 1.4 * z, thick)

    @property
    def half_extents_m(self) -> Vector3:
        return (self.radius_m + self.reach_m / 2, self.radius_m, self.height_m / 2)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return MOUTH if self.reach_m == 0 else (Affordance("handle", "handle"), *MOUTH)

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        x, half, r, inner = -self.reach_m / 2, self.height_m / 2, self.radius_m, self.radius_m - self.wall_m
        floor = self.wall_m / 2
        root.cylinder((x, 0, floor - half), inner, floor, CERAMIC)
        root.ring((x, 0, 0), (inner, r, -half), (inner, r, half), CERAMIC)
        _add_mouth(root, x, r, self.wall_m, half)
        if self.reach_m > 0:
            self._add_handle(root, x + r)
        return root.spec

    def _add_handle(self, root: Part, foot_x_m: float) -> None:
        t, end = self.handle_m / 2, foot_x_m + self.reach_m
        foot = foot_x_m - self.wall_m / 2  # into the round wall
        root.box((end - t, 0, 0), (t, t, self.handle_height_m / 2), CERAMIC)
        for side in (-1, 1):
            z = side * (self.handle_height_m / 2 - t)
            root.box(((foot + end - 2 * t) / 2, 0, z), ((end - 2 * t - foot) / 2, t, t), CERAMIC)
        root.site("handle", (end - t, 0, 0), "+x", "+z")


@dataclass(frozen=True)
class Bowl(Family):
    """A shell of revolution that opens upwards."""

    radius_m: float = 0.08
    """Outer radius at the rim."""
    height_m: float = 0.06
    """Of the whole."""
    foot_m: float = 0.04
    """Outer radius at the floor."""
    wall_m: float = 0.005
    """Thickness."""
    power: float = 2.0
    """Of the profile: height goes with that power of the radius; 1 is a cone, more is rounder."""

    category: ClassVar[str] = "bowl"
    levels: ClassVar[int] = 4

    def __post_init__(self) -> None:
        require(2 * self.wall_m < self.foot_m <= self.radius_m, f"need 2 wall < foot <= radius; got {self}")
        require(0 < 2 * self.wall_m < self.height_m and self.power >= 1, f"need 2 wall < height; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        radius = uniform(rng, 0.06, 0.11)
        height, foot = uniform(rng, 0.5, 0.9) * radius, uniform(rng, 0.45, 0.7) * radius
        return cls(radius, height, foot, uniform(rng, 0.004, 0.007), uniform(rng, 1.2, 2.5))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        x, y, z = half_extents_m
        radius = (x * y) ** 0.5
        return cls(radius, 2 * z, 0.55 * radius, min(0.005, 0.2 * radius, 0.4 * z))

    @property
    def half_extents_m(self) -> Vector3:
        return (self.radius_m, self.radius_m, self.height_m / 2)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return MOUTH

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        half, floor = self.height_m / 2, self.wall_m / 2
        root.cylinder((0, 0, floor - half), self.foot_m - self.wall_m / 2, floor, CERAMIC)
        profile = [(r - self.wall_m, r, z) for r, z in self._outline()]
        for lower, upper in pairwise(profile):
            root.ring((0, 0, 0), lower, upper, CERAMIC)
        _add_mouth(root, 0.0, self.radius_m, self.wall_m, half)
        return root.spec

    def _outline(self) -> list[tuple[float, float]]:
        """Outer radius and z, from the floor to the rim."""
        shares = np.linspace(0.0, 1.0, self.levels)
        radii = self.foot_m + (self.radius_m - self.foot_m) * shares ** (1 / self.power)
        return [(float(r), float(z)) for r, z in zip(radii, self.height_m * (shares - 0.5), strict=True)]
