"""Tests of two policies against published numbers, scipy and sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from robot_rl.comparison import holm, mcnemar, p_over_factors, paired_rollouts_needed


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


def test_over_one_factor_it_is_the_t_test_of_its_levels_means() -> None:
    first, second = np.array([1, 1, 1, 0, 1, 1]), np.array([0, 1, 0, 0, 0, 0])
    groups = ["a", "a", "b", "b", "c", "c"]  # mean differences 0.5, 0.5, 1.0
    t = (2 / 3) / (np.std([0.5, 0.5, 1.0], ddof=1) / np.sqrt(3))
    assert p_over_factors(first, second, [groups])[0] == pytest.approx(2 * stats.t.sf(t, 2))
    assert p_over_factors(first, second, [["a"] * 6])[0] == 0.0
    assert p_over_factors(first, first, [groups])[0] == 1.0
    assert p_over_factors([1, 1], [0, 0], [["a", "b"]])[0] == 0.0


def test_over_worlds_and_scenes_it_is_min_f_by_hand() -> None:
    """Of ten starts each the first alone succeeds from 9 and 7 in one scene's two worlds, from 5 and 3 in the other's.

    The mean is 0.6. Scenes' means 0.8 and 0.4: its variance over scenes is 0.08 / 2; worlds' 0.7 and 0.5: 0.02 / 2.
    t = 0.6 / sqrt(0.05), with 0.05^2 / (0.04^2 + 0.01^2) degrees of freedom.
    """
    first = np.concatenate([np.arange(10) < wins for wins in (9, 7, 5, 3)])
    worlds, scenes = np.tile(np.repeat(["m0", "m1"], 10), 2), np.repeat(["a", "b"], 20)
    p, widest = p_over_factors(first, np.zeros(40), [worlds, scenes])
    assert p == pytest.approx(2 * stats.t.sf(0.6 / np.sqrt(0.05), 0.0025 / 0.0017)) == pytest.approx(0.15796, abs=1e-5)
    assert widest == 1
    alone = p_over_factors(first, np.zeros(40), [["m0"] * 40, scenes])
    assert alone == (pytest.approx(2 * stats.t.sf(3.0, 1)), 1)  # one world in each scene: 0.6 / sqrt(0.04)


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
