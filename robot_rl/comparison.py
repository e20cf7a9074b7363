"""Tests of one policy against another from the same start states, and how many rollouts they need.

Shape letters: E episodes, P pairs of policies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p of McNemar's exact test (1947): outcomes (E,) of two policies from the same starts.

    Only starts from which one succeeds and the other fails tell anything: of equal policies each wins half of them.
    """
    a, b = (np.asarray(one, bool) for one in _paired(first, second))
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def p_over_factors(first: ArrayLike, second: ArrayLike, factors: Sequence[ArrayLike]) -> tuple[float, int]:
    """Two-sided p of outcomes (E,) of two policies, and the factor whose levels make it largest.

    `factors` (E,) say from which world, which scene an episode is; their levels are drawn from many over which the
    policies may be equal. Crossed as they are, that is Clark's min F' (J. Verbal Learning and Verbal Behavior 12,
    1973): the variances of the mean over each factor's levels add up, with Satterthwaite's degrees of freedom. It holds
    however alike the outcomes of one level are. Of one factor it is Student's t-test over its levels' mean differences.
    0 where no factor has two levels, which says nothing of others; 0 or 1 where the levels' differences are the same.
    """
    a, b = _paired(first, second)
    cells, place = np.unique(np.stack([np.asarray(one, str) for one in factors], 1), axis=0, return_inverse=True)
    differences = np.bincount(place.ravel(), a - b) / np.bincount(place.ravel())  # (cells,)
    varied = [_of_the_mean(differences, labels) for labels in cells.T]  # each (variance, degrees of freedom)
    widest = int(np.argmax([variance for variance, _ in varied]))
    if not any(freedom for _, freedom in varied):
        return 0.0, widest
    mean, total = float(differences.mean()), sum(variance for variance, _ in varied)
    if total < 1e-24:
        return float(abs(mean) < 1e-12), widest
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in varied if freedom)
    return float(2.0 * stats.t.sf(abs(mean) / math.sqrt(total), freedom)), widest


def _of_the_mean(differences: NDArray[np.float64], labels: NDArray[np.str_]) -> tuple[float, int]:
    """Variance of a mean of the levels' means, and its degrees of freedom; 0, 0 of one level."""
    means = np.array([differences[labels == one].mean() for one in np.unique(labels)])
    return (float(means.var(ddof=1)) / len(means), len(means) - 1) if len(means) > 1 else (0.0, 0)


def paired_rollouts_needed(first_alone: float, second_alone: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Starts that tell two policies apart by McNemar's test (Connor 1987, Biometrics 43).

    Given the shares of starts from which only the first, and only the second of them succeeds. Never fewer than the
    exact test needs at all: of too few starts that tell anything not even winning each of them is significant.
    """
    gap, discordant = abs(first_alone - second_alone), first_alone + second_alone
    if gap == 0.0 or min(first_alone, second_alone) < 0.0 or discordant > 1.0:
        raise ValueError(f"need two different shares that add up to 1 at most, got {first_alone}, {second_alone}")
    reach = _quantile(1 - alpha / 2) * math.sqrt(discordant) + _quantile(power) * math.sqrt(discordant - gap * gap)
    fewest = math.floor(math.log2(2.0 / alpha)) + 1  # all won: p = 2 / 2^n
    return max(math.ceil((reach / gap) ** 2), math.ceil(fewest / discordant))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted p (P,): below alpha where Holm (1979) rejects, erring in any of them with at most alpha."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(f"need one outcome of both policies from every start; got shapes {a.shape}, {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("an outcome is not a number")
    return a, b


def _quantile(share: float) -> float:
    return float(stats.norm.ppf(share))
