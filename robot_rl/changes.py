"""Changes in a recorded episode: from one moment at which all things rest to the next at which one rests elsewhere.

Play presses a button, opens a drawer, puts a block somewhere: each is one change, whatever the arm did for it. Over
changes instead of control steps a long task is a short one (options: Sutton, Precup and Singh, 1999).

Shape letters: R observations of an episode, M of all of them, S state, E elements that goals speak of, N things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray

NONE = -1
"""Where there is no further change."""
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ChangeConfig:
    """What counts as a change. Distances are in standard deviations of the data."""

    moved: float = 0.2
    """A thing has moved that rests farther than this from where it rested before."""
    still: float = 0.05
    """A thing rests that goes no farther than this"""
    rest: int = 5
    """in so many steps."""

    def __post_init__(self) -> None:
        if not 0.0 < self.still <= self.moved < math.inf or self.rest < 1:
            raise ConfigError(f"need 0 < still <= moved and rest of at least one step; got {self}")


@dataclass(frozen=True)
class Things:
    """Elements of the state by the thing that they belong to: `drawer.pos` to `drawer`."""

    names: tuple[str, ...]
    elements: Rows  # (E,) of the state, told by goals
    members: FloatArray  # (N, E) 1 where an element is the thing's

    @classmethod
    def of(cls, names: tuple[str, ...], told: NDArray[np.bool_]) -> Things:
        """The things of a state with these `names` (S) whose elements are `told` (S,) by goals."""
        if not names or not told.any():
            raise ConfigError("changes are seen in named elements of the state that goals speak of; here are none")
        elements = np.flatnonzero(told)
        owners = [names[index].split(".")[0] for index in elements]
        things = tuple(dict.fromkeys(owners))
        members = np.array([[owner == thing for owner in owners] for thing in things], np.float32)
        return cls(things, elements, members)

    def apart(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """How far each thing (..., N) of `one` is from where `other` (both (..., E)) has it."""
        return np.sqrt(np.square(one - other) @ self.members.T)


def rests(states: FloatArray, things: Things, config: ChangeConfig) -> Rows:
    """The first row and each at which a change is complete, of an episode's states (R, E) in standard deviations."""
    still = np.zeros(len(states), bool)
    still[: -config.rest] = True  # of the last ones nobody knows
    for ahead in range(1, config.rest + 1):
        gone = things.apart(states[ahead:], states[:-ahead]).max(1, initial=0.0)
        still[:-ahead] &= gone <= config.still
    found = [0]
    for row in np.flatnonzero(still):
        if things.apart(states[row], states[found[-1]]).max() > config.moved:
            found.append(int(row))
    return np.array(found)


def next_changes(
    states: FloatArray, ends: Rows, things: Things, std: FloatArray, config: ChangeConfig
) -> tuple[Rows, list[Rows]]:
    """For each observation's row (M,) the one at which the next change is complete, or `NONE`; and `rests` by episode.

    `states` (M, S) and their `std` (S,); of episode e, which ends before step `ends[e]`, are one more than its steps.
    """
    last = ends + np.arange(len(ends))
    begin = np.concatenate([[0], last + 1])[:-1]
    following, episodes = np.full(len(states), NONE, np.int64), []
    for first, end in zip(begin, last, strict=True):
        told = states[first : end + 1, things.elements] / std[things.elements]
        rows = first + rests(told, things, config)
        for row, after in pairwise(rows):
            following[row:after] = after
        episodes.append(rows)
    return following, episodes
