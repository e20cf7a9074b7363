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


RESAMPLES = 1000


class ImportanceEstimate(NamedTuple):
    """The value of the other policy."""

    value: float
    effective: float
    """Episodes that the estimate rests on: (sum w)^2 / sum w^2 (Kish 1965); near 1 it rests on one."""
    low: float
    """95 % percentile interval, episodes resampled: far too narrow where few episodes have all the weight."""
    high: float
    """See `low`."""


def importance_estimate(
    log_ratios: Sequence[ArrayLike],
    rewards: Sequence[ArrayLike],
    discount: float = 1.0,
    *,
    per_decision: bool = True,
    weighted: bool = True,
    seed: int = 0,
) -> ImportanceEstimate:
    """Expected discounted return of the evaluated policy.

    `log_ratios` and `rewards` hold N episodes (Ti,): log pi(a|s) - log mu(a|s) of the evaluated and the acting policy.
    Where no episode has any weight the estimate is 0, and rests on 0 episodes: it says nothing.
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
    if not per_decision:
        logs = np.repeat(logs[:, -1:], steps, 1)
    if weighted:  # only shares count: the largest becomes 1, and none overflows
        highest = logs.max(0)
        logs = logs - np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(over="ignore"):
        weights = np.exp(logs)
    if not np.isfinite(weights).all():
        raise ValueError("an episode's weight is infinite: weighted=True counts shares of weights alone")
    last = weights[:, -1]
    effective = float(last.sum() ** 2 / np.square(last).sum()) if last.any() else 0.0
    count = len(weights)
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), RESAMPLES)
    low, high = np.quantile(_means(counts.astype(np.float64), weights, earned, weighted), (0.025, 0.975))
    value = _means(np.ones((1, count)), weights, earned, weighted)[0]
    return ImportanceEstimate(float(value), effective, float(low), float(high))


def _means(counts: Floats, weights: Floats, earned: Floats, weighted: bool) -> Floats:
    """Estimates (D,) from samples that hold the episodes so often (D, N); weights and rewards are (N, T)."""
    sums = counts @ (weights * earned)
    total = counts @ weights if weighted else np.full(sums.shape, counts.shape[1], np.float64)
    return np.divide(sums, total, out=np.zeros_like(sums), where=total > 0.0).sum(1)


def _padded(values: ArrayLike, length: int) -> Floats:
    array = np.asarray(values, np.float64)
    return np.concatenate([array, np.zeros(length - len(array))])
