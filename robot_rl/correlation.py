"""How well scores of a simulation follow those of reality, over the same policies.

Shape letters: K policies. `real` and `simulated` are scores (K,), as success rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from robot_rl.statistics import Z_95, Estimate

Floats = NDArray[np.float64]
Agreement = Callable[[ArrayLike, ArrayLike], float]
"""A statistic of (real, simulated)."""


def pearson(real: ArrayLike, simulated: ArrayLike, z: float = Z_95) -> Estimate:
    """Pearson's r with Fisher's interval tanh(atanh r -+ z / sqrt(K - 3)) (Fisher 1921).

    NaN where either does not vary; (-1, 1) bounds nothing where K < 4.
    """
    a, b = _pair(real, simulated)
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return Estimate(math.nan, -1.0, 1.0)
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
    return fisher(r, len(a), z)


def fisher(r: float, policies: int, z: float = Z_95) -> Estimate:
    """A correlation over so many policies with its interval (see `pearson`)."""
    if policies < 4:
        return Estimate(r, -1.0, 1.0)
    if abs(r) == 1.0:
        return Estimate(r, r, r)
    reach = z / math.sqrt(policies - 3)
    return Estimate(r, math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach))


def spearman(real: ArrayLike, simulated: ArrayLike) -> float:
    """Correlation of the ranks; ties share their mean rank. NaN where either does not vary."""
    a, b = _pair(real, simulated)
    return pearson(stats.rankdata(a), stats.rankdata(b)).value


def kendall(real: ArrayLike, simulated: ArrayLike) -> float:
    """Kendall's tau-b: pairs in the same order less those in the opposite one, corrected for ties."""
    a, b = _pair(real, simulated)
    tau, _ = stats.kendalltau(a, b)
    return float(tau)  # pyright: ignore[reportArgumentType]  # scipy's result is typed as objects


def mmrv(real: ArrayLike, simulated: ArrayLike) -> float:
    """Mean maximum rank violation (SIMPLER, 2405.05941, section III-C), in units of the real scores.

    (1/K) sum_i max_j |R_i - R_j| 1[(S_i < S_j) != (R_i < R_j)]: what a wrong order costs in reality. Both comparisons
    are strict: of two policies that only the simulation takes for equal, the worse one counts with the real gap.
    """
    a, b = _pair(real, simulated)
    gap = np.abs(a[:, None] - a)
    wrong = (b[:, None] < b) != (a[:, None] < a)
    return float((gap * wrong).max(1).mean())


def drop_one(agreement: Agreement, real: ArrayLike, simulated: ArrayLike) -> tuple[float, float]:
    """Range of a statistic when any one policy is left out: whether one of them decides it. NaN of none that is."""
    a, b = _pair(real, simulated)
    if len(a) < 3:
        return math.nan, math.nan
    values = [agreement(np.delete(a, one), np.delete(b, one)) for one in range(len(a))]
    finite = [value for value in values if not math.isnan(value)]
    return (min(finite), max(finite)) if finite else (math.nan, math.nan)


def _pair(real: ArrayLike, simulated: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(real, np.float64), np.asarray(simulated, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"need the finite scores of at least two policies in both; got shapes {a.shape}, {b.shape}")
    return a, b
