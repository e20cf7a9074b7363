"""What changes in recorded episodes, as the policy that learns from them sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import Cache
from data.store import EpisodeStore
from policies.inputs import element_mask
from policies.normalizer import Normalizer
from robot_rl.changes import Rows, Things, next_changes
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY


@dataclass(frozen=True)
class Changes:
    """Of one store."""

    things: Things
    normalizer: Normalizer
    """Of the state (S,)."""
    following: Rows  # (N + E,) row at which the next change is complete
    rests: list[Rows]  # by episode, rows at which all things rest


def find_changes(experiment: Any, store: EpisodeStore, cache: Cache) -> Changes:
    """By `experiment.changes`; `ConfigError` where the state has no named elements that goals speak of."""
    spec, inputs = store.observation_spec.arrays.get(STATE_KEY), experiment.policy.inputs
    if spec is None or not inputs.goal:
        raise ConfigError("changes are seen in the state, by policies that are told goals (policy.inputs.goal=true)")
    things = Things.of(spec.names, element_mask(inputs, spec).numpy() > 0.5)
    key = f"observation/{STATE_KEY}"
    statistics, normalizer = cache.statistics_to_learn_from()[key], Normalizer(spec.shape[0])
    normalizer.fit(statistics.mean, statistics.std)
    states: NDArray[Any] = np.asarray(cache.arrays[key])
    found = next_changes(states, cache.ends, things, normalizer.std.numpy(), experiment.changes)
    return Changes(things, normalizer, *found)


def changes_for_goals(experiment: Any, store: EpisodeStore, cache: Cache) -> Rows | None:
    """The row at which the next change is complete, by observation, where goals are taken from there."""
    if not any(one and one.next_change for one in (experiment.goals, experiment.value_goals)):
        return None
    return find_changes(experiment, store, cache).following
