"""Closed things that stand on tables: cans, bottles, boxes; taken as solid, with the density of the packed product."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import mujoco
import numpy as np

from sim.assets.asset import Affordance
from sim.assets.family import Family, Vector3, require, uniform
from sim.assets.materials import CARTON, FOOD_CAN, FULL_BOTTLE
from sim.assets.shapes import new_asset

GRASP = (Affordance("grasp", "grasp"),)
PALM_M = 0.028
"""The Panda's pads reach some 35 mm beyond its palm: a thing is held so far below its top, and no deeper."""


def grasp_height(half_m: float) -> float:
    """Above the centre of a thing that is 2 `half_m` high: its middle, or as far below its top as a hand reaches."""
    return max(0.0, half_m - PALM_M)


@dataclass(frozen=True)
class Can(Family):
    """A cylinder that stands."""

    radius_m: float = 0.033
    """Outer radius."""
    height_m: float = 0.101
    """Of the whole."""

    category: ClassVar[str] = "can"

    def __post_init__(self) -> None:
        require(min(self.radius_m, self.height_m) > 0, f"sizes must be positive; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        return cls(uniform(rng, 0.025, 0.04), uniform(rng, 0.06, 0.14))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        x, y, z = half_extents_m
        return cls((x * y) ** 0.5, 2 * z)

    @property
    def half_extents_m(self) -> Vector3:
        return (self.radius_m, self.radius_m, self.height_m / 2)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return GRASP

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        root.cylinder((0, 0, 0), self.radius_m, self.height_m / 2, FOOD_CAN)
        root.site("grasp", (0, 0, grasp_height(self.height_m / 2)))
        return root.spec


@dataclass(frozen=True)
class Bottle(Family):
    """Body, shoulder and neck."""

    radius_m: float = 0.033
    """Of the body."""
    height_m: float = 0.2
    """Of the whole."""
    neck_radius_m: float = 0.014
    """Of the neck with its cap."""
    neck_m: float = 0.04
    """Height of the neck with its cap."""
    shoulder_m: float = 0.04
    """Height over which the body becomes the neck."""

    category: ClassVar[str] = "bottle"

    def __post_init__(self) -> None:
        require(0 < self.neck_radius_m <= self.radius_m, f"the neck must not be wider than the body; got {self}")
        require(self.neck_m > 0 and self.shoulder_m > 0, f"neck and shoulder need a height; got {self}")
        require(self.neck_m + self.shoulder_m < self.height_m, f"neck and shoulder leave no body; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        radius, height = uniform(rng, 0.026, 0.042), uniform(rng, 0.15, 0.26)
        neck = uniform(rng, 0.35, 0.55) * radius
        return cls(radius, height, neck, uniform(rng, 0.12, 0.25) * height, uniform(rng, 0.1, 0.3) * height)

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        x, y, z = half_extents_m
        radius = (x * y) ** 0.5
        return cls(radius, 2 * z, 0.42 * radius, 0.4 * z, 0.4 * z)

    @property
    def half_extents_m(self) -> Vector3:
        return (self.radius_m, self.radius_m, self.height_m / 2)

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return GRASP

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        half = self.height_m / 2
        shoulder_z, neck_z = half - self.neck_m - self.shoulder_m, half - self.neck_m
        body = (shoulder_z + half) / 2
        root.cylinder((0, 0, body - half), self.radius_m, body, FULL_BOTTLE)
        root.frustum((0, 0, 0), (self.radius_m, shoulder_z), (self.neck_radius_m, neck_z), FULL_BOTTLE)
        root.cylinder((0, 0, half - self.neck_m / 2), self.neck_radius_m, self.neck_m / 2, FULL_BOTTLE)
        root.site("grasp", (0, 0, body - half))
        return root.spec


@dataclass(frozen=True)
class Box(Family):
    """A cuboid."""

    half_m: Vector3 = (0.08, 0.03, 0.1)
    """Half sizes."""

    category: ClassVar[str] = "box"

    def __post_init__(self) -> None:
        require(min(self.half_m) > 0, f"sizes must be positive; got {self}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        y = uniform(rng, 0.015, 0.04)
        return cls((y * uniform(rng, 1.0, 2.5), y, uniform(rng, 0.015, 0.11)))

    @classmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        return cls(half_extents_m)

    @property
    def half_extents_m(self) -> Vector3:
        return self.half_m

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return GRASP

    def build(self) -> mujoco.MjSpec:
        root = new_asset()
        root.box((0, 0, 0), self.half_m, CARTON)
        root.site("grasp", (0, 0, grasp_height(self.half_m[2])), "+x" if self.half_m[0] <= self.half_m[1] else "+y")
        return root.spec
