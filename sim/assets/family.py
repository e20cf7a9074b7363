"""What every generator is: a frozen dataclass of parameters that can be drawn, fitted to a box, and built."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import mujoco
import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.typed import to_plain
from sim.assets.asset import Affordance, Asset, AssetJoint

Vector3 = tuple[float, float, float]


class Family(ABC):
    """Parameters of one family; see `sim.assets.asset` for the frame that `build` works in."""

    category: ClassVar[str]

    @classmethod
    @abstractmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        """Parameters of a household member of the family."""

    @classmethod
    @abstractmethod
    def fitted(cls, half_extents_m: Vector3) -> Self:
        """A typical member as near to that size as the family's shape allows."""

    @property
    @abstractmethod
    def half_extents_m(self) -> Vector3:
        """Half sizes of the bounding box, joints at 0."""

    @abstractmethod
    def build(self) -> mujoco.MjSpec:
        """The model."""

    @property
    def joints(self) -> tuple[AssetJoint, ...]:
        return ()

    @property
    def affordances(self) -> tuple[Affordance, ...]:
        return ()

    def asset(self, name: str) -> Asset:
        """The library's entry; `ConfigError` for parameters that are no numbers."""
        require(all(map(math.isfinite, _numbers(to_plain(self)))), f"parameters must be finite numbers; got {self}")
        return Asset(name, self.category, "generated", self.half_extents_m, self.build, self.joints, self.affordances)


def require(condition: bool, what: str) -> None:
    """Refuse parameters that are no object."""
    if not condition:
        raise ConfigError(what)


def _numbers(plain: Any) -> Iterator[float]:
    """All numbers in plain data."""
    if isinstance(plain, float | int):
        yield plain
    elif isinstance(plain, list | dict):
        for one in plain.values() if isinstance(plain, dict) else plain:
            yield from _numbers(one)


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))
