"""Violations in recorded episodes, by observation; what they are says `robot_rl.costs`.

Shape letters: N steps of all episodes, E episodes, S state elements. A step i of episode e has its observation in row
i + e (see `data.store`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.episode import OBSERVATION
from robot_rl.costs import LARGEST, CostConfig
from robot_rl.errors import ConfigError, DataError
from robot_rl.types import STATE_KEY


def violations(
    arrays: Mapping[str, NDArray[Any]],
    ends: NDArray[np.int64],
    success: NDArray[np.bool_],
    names: Sequence[str],
    cost: CostConfig,
) -> NDArray[np.float32]:
    """h (N + E,) of every observation; `arrays` and `ends` as in `data.cache.Cache`, `success` (E,), state `names`.

    `DataError` where nothing violates, or everything: there would be nothing to learn.
    """
    rows = int(ends[-1]) + len(ends)
    if OBSERVATION + STATE_KEY in arrays:
        found = cost.excess(np.asarray(arrays[OBSERVATION + STATE_KEY], np.float64), names)
    elif not cost.bounds:
        found = np.full(rows, -LARGEST)
    else:
        raise ConfigError("cost.bounds are of elements of the state, and these observations have none")
    if cost.takeovers:
        found[_takeovers(arrays["is_intervention"], ends)] = LARGEST
    if cost.failures:
        failed = arrays["terminated"][ends - 1] & ~success
        found[(ends + np.arange(len(ends)))[failed]] = LARGEST
    if not (found > 0.0).any() or (found > 0.0).all():
        share = float((found > 0.0).mean())
        raise DataError(f"{share:.0%} of the recorded observations are violations by {cost}: nothing to tell apart")
    return found.astype(np.float32)


def _takeovers(is_intervention: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the observations at which the person took over from the policy within an episode."""
    begins = np.concatenate([[0], ends[:-1]])
    steps = np.flatnonzero(is_intervention[1:] & ~is_intervention[:-1]) + 1
    steps = steps[~np.isin(steps, begins)]
    return steps + np.searchsorted(ends, steps, side="right")
