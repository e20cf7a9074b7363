"""One change at a time: what is to be changed next is chosen by value among what followed in play.

A goal that is several changes away (a pattern of buttons, a block in a drawer that is locked) lies too far ahead for a
policy that imitates play. So it is told a subgoal instead: the scene after one change, which it has often seen
(goals.next_change=1). Candidates are changes that play made where all that matters was as it is now; the one is told
from which the goal is the fewest changes away, by values learned over changes (`robot_rl.algorithms.change_values`).
Two levels as in HIQL (2307.11949), but the high level chooses, from the data, instead of imitating.

Shape letters: S state, E elements that goals speak of, N members, M changes seen in play, T observations, K chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.sources import ManySource
from policies.steered import lower_bound
from robot_rl.changes import ChangeConfig, Things
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY, FloatArray, Observation

CLOSE_PER_STD = 10.0
GOAL = "subgoals/"
"""Prefix, in what the source was told, of the goal itself."""


@dataclass(frozen=True)
class SubgoalConfig:
    """How the next change is chosen. Distances are in standard deviations of the data."""

    members: int = 4
    """Of the ensemble of V."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of each."""
    alike: float = 1.0
    """A change of play is a candidate where each thing that it left alone was no farther from where it is now than
    this,"""
    alike_moved: float = 2.0
    """the one that it moved, than this,"""
    alike_together: float = 0.5
    """and each of several that it moved together (a drawer and what lies in it), than this."""
    snap: float = 0.6
    """What it put no farther than this from the goal's place may be put just there."""
    pessimism: float = 1.0
    """Standard deviations of the ensemble below its mean at which a candidate is ranked."""
    patience: int = 15
    """Chunks after which another change is tried instead."""

    def __post_init__(self) -> None:
        sizes = (self.members, self.patience, *self.hidden, len(self.hidden))
        distances = np.array([self.alike, self.alike_moved, self.alike_together, self.snap])
        if min(sizes) < 1 or not (distances > 0.0).all() or not self.pessimism >= 0.0:
            raise ConfigError(f"sizes and distances must be positive, pessimism not negative; got {self}")


class ChangeValueNet(nn.Module):
    """V of places under goals, both in standard deviations."""

    def __init__(self, config: SubgoalConfig, elements: int) -> None:
        super().__init__()
        self._v = EnsembleMLP(config.members, 4 * elements, config.hidden, 1, "silu")

    def forward(self, place: Tensor, goal: Tensor) -> Tensor:
        """(B, E), (B, E) -> (N, B)."""
        apart = torch.asinh((goal - place) * CLOSE_PER_STD)
        return self._v(place, goal, apart, apart.abs()).squeeze(-1)


@dataclass(frozen=True)
class Memory:
    """Changes that play made, in standard deviations."""

    before: FloatArray  # (M, E)
    after: FloatArray  # (M, E)
    mean: FloatArray  # (E,) of the data
    std: FloatArray  # (E,)


@dataclass(frozen=True, slots=True, eq=False)
class Subgoal:
    """What was chosen, for a person to see."""

    told: FloatArray  # (E,) in standard deviations
    moves: tuple[str, ...]
    """Things that are to be moved now."""
    value: float
    """Changes (discounted) from there to the goal, negative: the ensemble's lower bound; 0 where it is the goal."""
    candidates: int


class SubgoalPlanner:
    """Chooses subgoals; keeps the latest one."""

    def __init__(
        self, config: SubgoalConfig, changes: ChangeConfig, things: Things, net: ChangeValueNet, memory: Memory
    ) -> None:
        """`changes` tells what counts as one."""
        self.config, self.changes, self.things, self.memory = config, changes, things, memory
        self._net = net.eval().requires_grad_(False)
        self._moved = things.apart(memory.before, memory.after) > changes.moved  # (M, things)
        of_moved = np.where(self._moved.sum(1) > 1, config.alike_together, config.alike_moved)
        self._limits = np.where(self._moved, of_moved[:, None], config.alike)
        self.begin()

    def begin(self) -> None:
        """Forget the last episode."""
        self.subgoal: Subgoal | None = None
        self._tried: list[tuple[FloatArray, FloatArray]] = []
        self._chosen_at = self._before = np.empty(0)
        self._chunks = 0

    def next(self, state: FloatArray, goal: FloatArray) -> FloatArray:
        """The subgoal's state (S,), asked for at each chunk; what goals do not speak of is the goal's (S,)."""
        place, wanted = self._scale(state), self._scale(goal)
        if self._is_due(place):
            self.subgoal = self._choose(place, wanted)
            self._chosen_at, self._chunks = place, 0
        self._before = place
        self._chunks += 1
        assert self.subgoal is not None
        told = np.array(goal)
        told[self.things.elements] = self.subgoal.told * self.memory.std + self.memory.mean
        return told

    def _scale(self, state: FloatArray) -> FloatArray:
        return ((state[self.things.elements] - self.memory.mean) / self.memory.std).astype(np.float32)

    def _is_due(self, place: FloatArray) -> bool:
        """At the beginning, when the subgoal is reached, when something else has changed and rests, out of patience."""
        if self.subgoal is None or self._is_there(place, self.subgoal.told) or self._chunks >= self.config.patience:
            return True
        rests = bool(self.things.apart(place, self._before).max() <= self.changes.still)
        return rests and not self._is_there(place, self._chosen_at)

    def _is_there(self, place: FloatArray, goal: FloatArray) -> Any:
        """Whether places (..., E) are the goal (E,)."""
        return self.things.apart(place, goal).max(-1) <= self.changes.moved

    def _choose(self, place: FloatArray, goal: FloatArray) -> Subgoal:
        """The candidate of the highest value, of those that were not told from here before; of all once all were."""
        if self._is_there(place, goal):
            return Subgoal(goal, (), 0.0, 0)
        found = self.candidates(place, goal)
        from_here = [self._is_there(origin, place) for origin, _ in self._tried]
        fresh = np.ones(len(found), bool)
        for (_, tried), is_here in zip(self._tried, from_here, strict=True):
            fresh &= ~(is_here & self._is_there(found, tried))
        if fresh.any():
            found = found[fresh]
        else:
            self._tried = [one for one, is_here in zip(self._tried, from_here, strict=True) if not is_here]
        values = self.values(found, goal)
        best = int(values.argmax())
        self._tried.append((place, found[best]))
        moves = self.things.apart(place, found[best]) > self.changes.moved
        named = tuple(name for name, moved in zip(self.things.names, moves, strict=True) if moved)
        return Subgoal(found[best], named, float(values[best]), len(found))

    def candidates(self, place: FloatArray, goal: FloatArray) -> FloatArray:
        """Places (C, E) one change from `place` (E,); the goal itself where play has nothing like it."""
        apart = self.things.apart(self.memory.before, place)
        alike = (apart <= self._limits).all(1)
        moved = self._moved[alike] @ self.things.members > 0.5  # (C, E)
        after = np.where(moved, self.memory.after[alike], place)
        near = (self.things.apart(after, goal) <= self.config.snap) @ self.things.members > 0.5
        found = np.unique(np.concatenate([after, np.where(moved & near, goal, after)]).astype(np.float32), axis=0)
        found = found[~self._is_there(found, place)]
        return found if len(found) else goal[None]

    @torch.inference_mode()
    def values(self, places: FloatArray, goal: FloatArray) -> FloatArray:
        """Lower bounds (C,) of places (C, E); 0 for those that are the goal (E,)."""
        found = self._net(torch.from_numpy(places), torch.from_numpy(goal).expand(len(places), -1)).numpy()
        return np.where(self._is_there(places, goal), 0.0, lower_bound(found, self.config.pessimism))


class SubgoalSource(ManySource):
    """Implements `policies.sources.ChunkSource`: chunks of another source, which is told one change at a time."""

    def __init__(self, base: ManySource, planner: SubgoalPlanner) -> None:
        self.base, self.planner = base, planner
        self.horizon, self.history = base.horizon, base.history

    def tell(self, goal: Observation, text: str, start: Observation) -> Observation | None:
        """The goal itself; `ConfigError` for one that shows no state."""
        if STATE_KEY not in goal:
            raise ConfigError("subgoals are chosen towards a goal that is shown, with its state; words do not tell it")
        self.planner.begin()
        return {GOAL + key: value for key, value in goal.items()}

    def sample_many(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """Chunks (K, H, A)."""
        shown = {key.removeprefix(GOAL): value for key, value in (goal or {}).items()}
        present = {key: value[-1] for key, value in observation.items()}
        subgoal = {**shown, STATE_KEY: self.planner.next(present[STATE_KEY], shown[STATE_KEY])}
        return self.base.sample_many(observation, self.base.tell(subgoal, "", present), noise, seed, prefix)

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take new parameters of the base; values and memory stay."""
        self.base.load(tensors)
