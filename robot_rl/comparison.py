"""Tests of one policy against another, paired by their start states or not, and how many rollouts they need.

Shape letters: E episodes, P pairs of policies, R runs, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from robot_rl.statistics import Estimate

EXACT_EPISODES = 14
"""Up to so many all sign flips are gone through."""


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p of McNemar's exact test (1947): outcomes (E,) of two policies from the same starts.

    Only starts from which one succeeds and the other fails tell anything: of equal policies each wins half of them.
    """
    a, b = (np.asarray(one, bool) for one in _paired(first, second))
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def barnard(successes: tuple[int, int], trials: tuple[int, int]) -> float:
    """Two-sided p of Barnard's exact test (1945), of two policies from starts that are not the same."""
    table = [list(successes), [total - one for total, one in zip(trials, successes, strict=True)]]
    return float(stats.barnard_exact(table).pvalue)


def permutation_test(first: ArrayLike, second: ArrayLike, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of paired scores (E,), as returns: how often flipped signs give so large a mean difference."""
    difference = np.subtract(*_paired(first, second))
    count = len(difference)
    if count <= EXACT_EPISODES:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, count))
        signs[0] = 1.0  # what was seen is one of the possible
    tolerance = 1e-12 * np.abs(difference).sum()
    return float((np.abs(signs @ difference) >= abs(difference.sum()) - tolerance).mean())


def paired_difference(first: ArrayLike, second: ArrayLike, draws: int = 4000, seed: int = 0) -> Estimate:
    """Mean of first - second (E,) with its 95 % percentile interval by bootstrap over the starts."""
    difference = np.subtract(*_paired(first, second))
    rows = np.random.default_rng(seed).integers(len(difference), size=(draws, len(difference)))
    low, high = np.percentile(difference[rows].mean(1), [2.5, 97.5])
    return Estimate(float(difference.mean()), float(low), float(high))


def probability_of_improvement(first: ArrayLike, second: ArrayLike, draws: int = 2000, seed: int = 0) -> Estimate:
    """P(first > second) + P(equal) / 2, mean over tasks (2108.13264, section 4.3), stratified bootstrap interval.

    Scores (R, T) or (R,) of runs by tasks; the two may differ in R.
    """
    a, b = (np.asarray(one, np.float64) for one in (first, second))
    a, b = (one[:, None] if one.ndim == 1 else one for one in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 1:
        raise ValueError(f"need scores of runs by the same tasks; got shapes {a.shape}, {b.shape}")
    rng = np.random.default_rng(seed)
    values = [_improvement(*(_resampled(one, rng) for one in (a, b))) for _ in range(draws)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(_improvement(a, b), float(low), float(high))


def rollouts_needed(rate: float, other: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Rollouts of each of two policies that tell their success rates apart, starts not paired (Fleiss 1981, 3.2)."""
    _check_rates(rate, other)
    pooled, gap = (rate + other) / 2, abs(rate - other)
    spread = math.sqrt(rate * (1 - rate) + other * (1 - other))
    reach = _quantile(1 - alpha / 2) * math.sqrt(2 * pooled * (1 - pooled)) + _quantile(power) * spread
    return math.ceil((reach / gap) ** 2)


def paired_rollouts_needed(first_alone: float, second_alone: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Starts that tell two policies apart by McNemar's test (Connor 1987, Biometrics 43).

    Given the shares of starts from which only the first, and only the second of them succeeds.
    """
    gap, discordant = abs(first_alone - second_alone), first_alone + second_alone
    if gap == 0.0 or min(first_alone, second_alone) < 0.0 or discordant > 1.0:
        raise ValueError(f"need two different shares that add up to 1 at most, got {first_alone}, {second_alone}")
    reach = _quantile(1 - alpha / 2) * math.sqrt(discordant) + _quantile(power) * math.sqrt(discordant - gap * gap)
    return math.ceil((reach / gap) ** 2)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted p (P,): below alpha where Holm (1979) rejects, erring in any of them with at most alpha."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _improvement(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    difference = a[:, None] - b
    return float(((difference > 0).mean() + (difference >= 0).mean()) / 2)


def _resampled(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Every task's runs drawn anew."""
    return np.take_along_axis(scores, rng.integers(len(scores), size=scores.shape), 0)


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(f"need one outcome of both policies from every start; got shapes {a.shape}, {b.shape}")
    return a, b


def _check_rates(*rates: float) -> None:
    if not all(0.0 <= one <= 1.0 for one in rates) or len(set(rates)) < len(rates):
        raise ValueError(f"need two different success rates, got {rates}")


def _quantile(share: float) -> float:
    return float(stats.norm.ppf(share))
