"""What counts as a violation of safety in recorded episodes: h of FISOR (2401.10700), above 0 where unsafe.

Every source says how far an observation is beyond its limit, from -1 (well within) to 1; the largest counts.

Shape letters: S state elements, ... any leading dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import FloatArray

LARGEST = 1.0
"""Of a violation, either way; what is told by an event is worth as much."""


@dataclass(frozen=True)
class Bound:
    """A limit of one element of the state."""

    name: str
    """As the specification of the state has it, such as tcp.z; `robot-rl data info` lists them."""
    above: float | None = None
    """Larger values are violations; in the units of the state (see `robot_rl.env`), not metres."""
    below: float | None = None
    """And smaller ones; one of the two at least."""
    margin: float = 1.0
    """Distance from the limit at which h is 1 (beyond it) or -1, in the same units."""

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise ConfigError(f"the bound of {self.name!r} has neither above nor below")
        if not self.margin > 0.0:
            raise ConfigError(f"margin of the bound of {self.name!r} must be positive, got {self.margin}")

    def excess(self, value: FloatArray) -> FloatArray:
        """How far values (...) are beyond the limit, in margins within [-1, 1]."""
        beyond = [] if self.above is None else [value - self.above]
        beyond += [] if self.below is None else [self.below - value]
        return np.clip(np.max(beyond, 0) / self.margin, -LARGEST, LARGEST)


@dataclass(frozen=True)
class CostConfig:
    """Where violations come from."""

    bounds: tuple[Bound, ...] = ()
    """Limits of elements of the state."""
    takeovers: bool = True
    """Whether what was seen when the person took over counts as a violation."""
    failures: bool = True
    """Whether what was seen last counts, of an episode that ended without success (not of one that ran out of time)."""

    def __post_init__(self) -> None:
        if not (self.bounds or self.takeovers or self.failures):
            raise ConfigError("nothing is a violation: give cost.bounds, cost.takeovers or cost.failures")

    def excess(self, states: FloatArray, names: Sequence[str]) -> FloatArray:
        """h (...) of states (..., S) by the bounds alone; `UnknownNameError` for an element that is not there."""
        if unknown := [one.name for one in self.bounds if one.name not in names]:
            raise UnknownNameError("element of the state (cost.bounds)", unknown[0], names)
        each = [one.excess(states[..., names.index(one.name)]) for one in self.bounds]
        return np.max(each, 0) if each else np.full(states.shape[:-1], -LARGEST)
