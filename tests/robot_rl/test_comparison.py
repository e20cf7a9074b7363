"""Tests of two policies against published numbers, scipy and sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from robot_rl.comparison import holm, mcnemar, p_over_groups, paired_rollouts_needed


def test_mcnemar_by_hand() -> None:
    # 8 starts for the first alone, 2 for the second: 2 (C(10,0) + C(10,1) + C(10,2)) / 1024
    first = [1] * 8 + [0] * 2 + [1] * 30 + [0] * 5
    second = [0] * 8 + [1] * 2 + [1] * 30 + [0] * 5
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar(first, first) == 1.0
    with pytest.raises(ValueError, match="every start"):
        mcnemar([1, 0], [1])
    with pytest.raises(ValueError, match="not a number"):
        mcnemar([1, np.nan], [0, 1])


def test_p_over_groups_is_the_t_test_of_their_means() -> None:
    first, second = np.array([1, 1, 1, 0, 1, 1]), np.array([0, 1, 0, 0, 0, 0])
    groups = ["a", "a", "b", "b", "c", "c"]  # mean differences 0.5, 0.5, 1.0
    t = (2 / 3) / (np.std([0.5, 0.5, 1.0], ddof=1) / np.sqrt(3))
    assert p_over_groups(first, second, groups) == pytest.approx(2 * stats.t.sf(t, 2))
    assert p_over_groups(first, second, ["a"] * 6) == 0.0
    assert p_over_groups(first, first, groups) == 1.0
    assert p_over_groups([1, 1], [0, 0], ["a", "b"]) == 0.0


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


def test_too_few_rollouts_cannot_suffice_however_clear_they_are() -> None:
    # five won of five: 2 / 2^5 = 0.0625; Connor's formula says 4
    assert mcnemar([1] * 5, [0] * 5) > 0.05 > mcnemar([1] * 6, [0] * 6)
    assert paired_rollouts_needed(1.0, 0.0) == 6
    assert paired_rollouts_needed(1.0, 0.0, alpha=0.05 / 66) == 12  # 2 / 2^11 is above it


def test_holm_by_hand() -> None:
    # 0.01 x 4, 0.015 x 3, 0.03 x 2, 0.04 x 1, never below the one before
    assert holm([0.03, 0.01, 0.04, 0.015]) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
