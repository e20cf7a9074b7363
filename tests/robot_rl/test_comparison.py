"""Tests of two policies against published numbers, scipy, rliable and enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from robot_rl.comparison import (
    barnard,
    holm,
    mcnemar,
    paired_difference,
    paired_rollouts_needed,
    permutation_test,
    probability_of_improvement,
    rollouts_needed,
)


def test_mcnemar_by_hand() -> None:
    # 8 starts for the first alone, 2 for the second: 2 (C(10,0) + C(10,1) + C(10,2)) / 1024
    first = [1] * 8 + [0] * 2 + [1] * 30 + [0] * 5
    second = [0] * 8 + [1] * 2 + [1] * 30 + [0] * 5
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar(first, first) == 1.0
    with pytest.raises(ValueError, match="every start"):
        mcnemar([1, 0], [1])


def test_barnard_published() -> None:
    # Barnard (1945), the table of scipy's reference: 7 of 15 against 8 of 8 is no table of margins fixed
    assert barnard((7, 12), (15, 15)) == pytest.approx(stats.barnard_exact([[7, 12], [8, 3]]).pvalue)
    assert barnard((5, 5), (10, 10)) == 1.0


def test_permutations_of_few_episodes_are_gone_through() -> None:
    first, second = np.array([3.0, 2.0, 4.0, 1.0, 5.0]), np.array([1.0, 2.5, 1.0, 0.0, 2.0])
    difference = first - second
    sums = [abs(np.dot(signs, difference)) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean(np.array(sums) >= abs(difference.sum()) - 1e-9)
    assert permutation_test(first, second) == pytest.approx(expected)


def test_many_permutations_are_drawn_and_agree_with_mcnemar() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random(120) < 0.7, rng.random(120) < 0.55
    assert permutation_test(first, second) == pytest.approx(mcnemar(first, second), abs=0.02)


def test_paired_difference_covers() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        ease = rng.random(60)
        first, second = (rng.random(60) < np.clip(ease + shift, 0, 1) for shift in (0.1, 0.0))
        truth = 0.1 - 0.1**2 / 2  # what clipping at 1 leaves of the shift
        found = paired_difference(first, second, draws=400, seed=trial)
        covered += found.low <= truth <= found.high
    assert 0.9 <= covered / 200 <= 0.99


def test_probability_of_improvement_is_rliables() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (7, 3)) / 5, rng.integers(0, 5, (5, 3)) / 5  # with ties
    found = probability_of_improvement(a, b, draws=200)
    assert found.value == pytest.approx(metrics.probability_of_improvement(a, b))
    assert found.low < found.value < found.high
    assert probability_of_improvement([1, 2], [1, 2], draws=10).value == 0.5


def test_rollouts_needed_are_the_textbooks() -> None:
    assert rollouts_needed(0.5, 0.7) == 93
    assert rollouts_needed(0.8, 0.9) == 199
    with pytest.raises(ValueError, match="different"):
        rollouts_needed(0.5, 0.5)


def test_paired_rollouts_reach_their_power() -> None:
    # Connor: (1.95996 sqrt(0.3) + 0.84162 sqrt(0.3 - 0.01))^2 / 0.01 = 233.1
    assert paired_rollouts_needed(0.2, 0.1) == 234
    rng, n, won = np.random.default_rng(0), 234, 0
    for _ in range(400):
        kind = rng.choice(3, n, p=[0.2, 0.1, 0.7])  # the first alone, the second alone, both or none
        won += mcnemar(kind == 0, kind == 1) < 0.05
    assert won / 400 == pytest.approx(0.8, abs=0.07)  # the exact test is a little below
    with pytest.raises(ValueError, match="different shares"):
        paired_rollouts_needed(0.2, 0.2)


def test_holm_by_hand() -> None:
    # 0.01 x 4, 0.015 x 3, 0.03 x 2, 0.04 x 1, never below the one before
    assert holm([0.03, 0.01, 0.04, 0.015]) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
