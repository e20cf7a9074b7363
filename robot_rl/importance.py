"""Off-policy estimates by importance sampling: what another policy would have earned, from episodes of this one.

Four estimators (Precup, Sutton, Singh 2000; Thomas 2015, chapter 3): of whole returns or of each reward by itself
(per decision), weighed by the sum of the weights (biased, of far less variance) or by the number of episodes.

Shape letters: N episodes, T steps (the longest), Ti steps of episode i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class ImportanceEstimate(NamedTuple):
    """The value of the other policy."""

    value: float
    effective: float
    """Episodes that the estimate rests on: (sum w)^2 / sum w^2 (Kish 1965); near 1 it rests on one."""


def importance_estimate(
    log_ratios: Sequence[ArrayLike],
    rewards: Sequence[ArrayLike],
    discount: float = 1.0,
    *,
    per_decision: bool = True,
    weighted: bool = True,
) -> ImportanceEstimate:
    """Expected discounted return of the evaluated policy.

    `log_ratios` and `rewards` hold N episodes (Ti,): log pi(a|s) - log mu(a|s) of the evaluated and the acting policy.
    """
    if len(log_ratios) != len(rewards) or not len(rewards):
        raise ValueError(f"need log ratios and rewards of the same episodes; got {len(log_ratios)}, {len(rewards)}")
    if any(len(np.asarray(one)) != len(np.asarray(other)) for one, other in zip(log_ratios, rewards, strict=True)):
        raise ValueError("log ratios and rewards must be as long in every episode")
    steps = max(len(np.asarray(one)) for one in rewards)
    earned = np.stack([_padded(one, steps) for one in rewards]) * discount ** np.arange(steps)  # (N, T)
    # after its end an episode's ratio stays as it was: it goes on counting, with no reward
    logs = np.cumsum([_padded(one, steps) for one in log_ratios], 1)
    if not np.isfinite(earned).all() or np.isnan(logs).any():
        raise ValueError("log ratios and rewards must be numbers")
    weights = np.exp(logs if per_decision else logs[:, -1:])
    total = weights.sum(0) if weighted else np.full(weights.shape[1], len(weights), np.float64)
    means = np.divide((weights * earned).sum(0), total, out=np.zeros(steps), where=total > 0.0)
    last = weights[:, -1]
    effective = float(last.sum() ** 2 / np.square(last).sum()) if last.any() else 0.0
    return ImportanceEstimate(float(means.sum()), effective)


def _padded(values: ArrayLike, length: int) -> Floats:
    array = np.asarray(values, np.float64)
    return np.concatenate([array, np.zeros(length - len(array))])
