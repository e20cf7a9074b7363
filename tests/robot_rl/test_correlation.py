"""Correlations and rank violations against scipy, published tables and cases counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from robot_rl.correlation import drop_one, kendall, mmrv, pearson, spearman

REAL = [0.1, 0.3, 0.35, 0.6, 0.8, 0.9]
SIMULATED = [0.2, 0.25, 0.5, 0.45, 0.7, 0.95]


def test_pearson_and_its_interval_are_scipys() -> None:
    expected = stats.pearsonr(REAL, SIMULATED)
    interval = expected.confidence_interval(0.95)
    assert pearson(REAL, SIMULATED) == pytest.approx((expected.statistic, interval.low, interval.high))


def test_fishers_interval_by_hand() -> None:
    # n = 28, r = 0.6: z = 0.693147, reach 1.959964 / 5 = 0.391993, tanh of 0.301154 and 1.085140
    rng = np.random.default_rng(0)
    x, e = rng.standard_normal((2, 28))
    x = (x - x.mean()) / x.std()
    e = e - e.mean() - x * (x @ e) / (x @ x)
    y = 0.6 * x + 0.8 * e / e.std()
    assert pearson(x, y) == pytest.approx((0.6, 0.29237, 0.79510), abs=1e-5)


def test_what_does_not_vary_has_no_correlation() -> None:
    found = pearson(REAL, [0.5] * 6)
    assert math.isnan(found.value) and (found.low, found.high) == (-1.0, 1.0)
    assert pearson([0.1, 0.2, 0.4], [0.1, 0.3, 0.2])[1:] == (-1.0, 1.0)  # three policies bound nothing
    assert pearson(REAL, REAL) == pytest.approx((1.0, 1.0, 1.0))


def test_rank_correlations_by_hand() -> None:
    # ranks 1 2 3 4 5 6 and 1 2 4 3 5 6: sum d^2 = 2, 1 - 6 * 2 / (6 * 35); one of 15 pairs is the wrong way round
    assert spearman(REAL, SIMULATED) == pytest.approx(1 - 12 / 210)
    assert kendall(REAL, SIMULATED) == pytest.approx(13 / 15)


def test_mmrv_by_hand() -> None:
    # only 3 and 4 (0.35, 0.6) are swapped: each is violated by 0.25, the mean over six is 0.5 / 6
    assert mmrv(REAL, SIMULATED) == pytest.approx(0.5 / 6)
    assert mmrv(REAL, REAL) == 0.0
    # all the wrong way round: the farthest of 0.1 0.3 0.35 0.6 0.8 0.9 is 0.8 0.6 0.55 0.5 0.7 0.8 away
    assert mmrv(REAL, SIMULATED[::-1]) == pytest.approx((0.8 + 0.6 + 0.55 + 0.5 + 0.7 + 0.8) / 6)
    # it is reality's gap that counts, not the simulation's
    assert mmrv([0.4, 0.5], [1.0, 0.0]) == pytest.approx(0.1)


def test_mmrv_of_ties_counts_the_worse_one() -> None:
    assert mmrv([0.2, 0.8], [0.5, 0.5]) == pytest.approx(0.6 / 2)
    assert mmrv([0.5, 0.5], [0.5, 0.5]) == 0.0


def test_one_policy_that_decides_all_is_seen() -> None:
    real, simulated = [0.5, 0.52, 0.48, 0.51, 0.0], [0.6, 0.55, 0.62, 0.58, 0.1]
    low, high = drop_one(lambda a, b: pearson(a, b).value, real, simulated)
    assert pearson(real, simulated).value > 0.98 and low < 0.0 and high > 0.98


def test_scores_that_do_not_fit_are_refused() -> None:
    for real, simulated in (([0.1], [0.1]), ([0.1, 0.2], [0.1]), ([0.1, math.nan], [0.1, 0.2])):
        with pytest.raises(ValueError, match="at least two policies"):
            pearson(real, simulated)
