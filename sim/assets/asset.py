"""What an asset is: a named model with its size, moving parts and affordances.

The model is an `MjSpec` with one body under the world, `root`, without a free joint. Its origin is the centre of the
asset's bounding box with every joint at 0, its axes are the box's: +x is the front of an asset that has one (doors,
drawers, handles face +x), +z is up. Geoms that collide are in group 0, those that are only drawn in group 1.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import mujoco

from robot_rl.errors import ConfigError

ROOT = "root"
CATEGORIES = (
    "cabinet",
    "hinged_box",
    "shelf",
    "mug",
    "bowl",
    "bottle",
    "can",
    "box",
    "tool",
    "peg",
    "socket",
    "connector",
)
PartKind = Literal["door", "drawer", "lid"]
AffordanceKind = Literal["handle", "rim", "opening", "grasp", "tip"]


@dataclass(frozen=True)
class AssetJoint:
    """A joint that opens something; at 0 it is shut."""

    name: str
    """The joint's name in the model; a hinge is in rad, a slide in metres."""
    kind: PartKind
    """What it moves."""
    open_at: float
    """Its value when fully open (positive)."""


@dataclass(frozen=True)
class Affordance:
    """A site where something can be done.

    `handle`: x points away from the panel (the way to pull), z along the bar. `rim` and `opening`: the centre of the
    mouth, z out of it. `grasp`: where the tool centre point closes, z up, fingers closing along x. `tip`: the end
    that is inserted, z out of it.
    """

    kind: AffordanceKind
    """What the site is for."""
    site: str
    """The site's name in the model."""
    joint: str = ""
    """The joint that it moves, for a handle."""


@dataclass(frozen=True)
class Asset:
    """One entry of the library."""

    name: str
    """Unique, `source/what`."""
    category: str
    """One of `CATEGORIES`."""
    source: str
    """`generated`, the package that it is from, or `user`."""
    half_extents_m: tuple[float, float, float]
    """Half sizes of its bounding box, all joints at 0."""
    build: Callable[[], mujoco.MjSpec]
    """Makes the model afresh; masses follow from volume and density."""
    joints: tuple[AssetJoint, ...] = ()
    """What opens."""
    affordances: tuple[Affordance, ...] = ()
    """What can be done with it, and where."""

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES:
            raise ConfigError(f"asset {self.name}: category {self.category!r} is none of {', '.join(CATEGORIES)}")
