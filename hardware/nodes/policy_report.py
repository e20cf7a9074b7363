"""Subscribers that tell how a deployed policy acts: how its chunks are played, and what was chosen for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from policies.chunking import ChunkPolicy
from policies.steered import Choice, SteeredPolicy
from policies.subgoals import Subgoal, SubgoalPlanner
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition


class ChunkLog:
    """Notes how the chunks of each episode were played."""

    def __init__(self, policy: Any, path: Path) -> None:
        self._policy = policy if isinstance(policy, ChunkPolicy) else None
        self._path = path
        self._before: dict[str, Any] = {}

    def totals(self) -> dict[str, Any]:
        """Since the process began; empty for a policy without chunks."""
        return {} if self._policy is None else {k: v for k, v in asdict(self._policy.counters).items() if k != "joints"}

    def on_start(self, start: EpisodeStart) -> None:
        self._before = self.totals()

    def on_step(self, transition: Transition) -> None:
        """Nothing to note."""

    def on_end(self, end: EpisodeEnd) -> None:
        if self._policy is None:
            return
        counted = {name: value - self._before[name] for name, value in self.totals().items()}
        line = {"episode_id": end.episode_id, **counted, "joints": self._policy.counters.joints}
        with self._path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


class PolicyReport:
    """Publishes values, and what is wrong if anything is, whenever a chunk was chosen, was played or is missing."""

    def __init__(
        self,
        chunks: ChunkLog,
        steered: SteeredPolicy | None,
        planner: SubgoalPlanner | None,
        publish: Callable[[dict[str, object], str], None],
    ) -> None:
        self._chunks, self._steered, self._planner, self._publish = chunks, steered, planner, publish
        self._told: tuple[object, ...] = ()
        self._failed = 0

    def on_start(self, start: EpisodeStart) -> None:
        """Nothing has been chosen yet."""

    def on_step(self, transition: Transition) -> None:
        self._report()

    def on_end(self, end: EpisodeEnd) -> None:
        self._report()  # of an episode that a silent policy broke off

    def _report(self) -> None:
        totals, choice = self._chunks.totals(), None if self._steered is None else self._steered.choice
        subgoal = None if self._planner is None else self._planner.subgoal
        if self._told == (totals, choice, subgoal):
            return
        self._told = (totals, choice, subgoal)
        failing = totals.get("failed", 0) > self._failed
        self._failed = totals.get("failed", 0)
        values = steering_values(choice) | subgoal_values(subgoal)
        values |= {f"chunks.{name}": value for name, value in totals.items()}
        self._publish(values, "the policy's source does not answer" if failing else "")


def steering_values(choice: Choice | None) -> dict[str, object]:
    """For a person to see; empty before anything was chosen."""
    if choice is None:
        return {}
    values: dict[str, object] = {
        "steering.value": f"{choice.value:.4g}",
        "steering.spread": f"{choice.spread:.4g}",
        "steering.base_rank": choice.base_rank,
        "steering.samples": choice.samples,
    }
    if choice.risk is not None:
        values |= {
            "steering.vetoed": choice.vetoed,
            "steering.risk": f"{choice.risk:.4g}",
            "steering.unsafe": choice.unsafe,
        }
    return values


def subgoal_values(subgoal: Subgoal | None) -> dict[str, object]:
    """For a person to see; empty before anything was chosen."""
    if subgoal is None:
        return {}
    return {
        "subgoal.moves": ", ".join(subgoal.moves) or "nothing",
        "subgoal.value": f"{subgoal.value:.4g}",
        "subgoal.candidates": subgoal.candidates,
    }
