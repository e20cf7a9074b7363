"""The interval that holds for any number of trials: capital by hand and in expectation, coverage, width."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from robot_rl.betting import CAP, betting_interval, place_bets

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
SIMULATIONS = {"good": (0.95, 0.5), "biased": (0.9, 1.0), "useless": (0.0, 0.5), "opposite": (-1.0, 0.5)}
"""Share of outcomes that are the real ones (of the others if negative), and success in the rest."""

Worlds = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated(rng: np.random.Generator, real: np.ndarray, kind: str) -> np.ndarray:
    agreement, rate = SIMULATIONS[kind]
    if agreement < 0.0:
        return 1.0 - real
    return np.where(rng.random(len(real)) < agreement, real, rng.random(len(real)) < rate).astype(float)


def worlds(rng: np.random.Generator, n: int, many: int, rate: float, kind: str) -> Worlds:
    real, unseen = ((rng.random(count) < rate).astype(float) for count in (n, many))
    return real, simulated(rng, real, kind), simulated(rng, unseen, kind)


def test_capital_of_real_trials_by_hand() -> None:
    # alpha 0.05, n 3: stakes sqrt(2 log(40) / (3 variance)) = sqrt(2.459253 / variance); the variances known are 1/4,
    # then (1/4 + (1 - 3/4)^2) / 2 = 5/32, then (1/4 + 1/16 + (0 - 1/2)^2) / 3 = 3/16
    bets = place_bets(np.array([1.0, 0.0, 1.0]), np.zeros(3), np.array([1.0]), 0.0, 0.05)
    assert bets.stakes == pytest.approx([3.136401, 3.967268, 3.621604], abs=1e-5)
    assert bets.sizes.tolist() == [1, 1, 1] and not len(bets.lone)
    # against 0.2: below 0.99 / 0.2 = 4.95, so as they are; against 0.4: 2.475 all
    by_hand = [1 + 0.8 * 3.136401, 1 - 0.2 * 3.967268, 1 + 0.8 * 3.621604]
    assert np.exp(bets.log_capital(0.2)) == pytest.approx(np.cumprod(by_hand), abs=1e-5)
    assert np.exp(bets.log_capital(0.4)) == pytest.approx(np.cumprod([1 + 0.6 * 2.475, 1 - 0.4 * 2.475, 2.485]))


def test_capital_with_simulation_by_hand() -> None:
    # two rounds of a pair and two lone ones: outcomes f + 3 (y - f) and g, means (3 + 1 + 0) / 3 and (-2 + 1 + 1) / 3
    bets = place_bets(np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 0.0, 1.0, 1.0]), 1.0, 0.05)
    assert bets.pairs.tolist() == [3.0, -2.0] and bets.rounds.tolist() == [0, 0, 1, 1]
    # variance known after the first round: (1/4 + (4/3 - 11/12)^2) / 2 = 0.211806
    assert bets.stakes == pytest.approx(np.sqrt(np.log(40.0) / np.array([0.25, 0.211806])), abs=1e-5)
    # a pair can pay -2, so that a bet against 0.5 is 0.99 / 2.5 at most
    assert min(bets.stakes) / 3 > CAP / 2.5
    first = (1 + 0.396 * 2.5) * (1 + 0.396 * 0.5) * (1 - 0.396 * 0.5)
    second = (1 - 0.396 * 2.5) * (1 + 0.396 * 0.5) ** 2
    assert np.exp(bets.log_capital(0.5)) == pytest.approx([first, first * second])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("joint", [(0.6, 0.1, 0.0, 0.3), (0.0, 0.7, 0.0, 0.3), (0.1, 0.2, 0.6, 0.1)])
def test_capital_does_not_gain_in_expectation(weight: float, joint: tuple[float, ...]) -> None:
    """Exactly, over all outcomes of three rounds, one of them longer; `joint` is of (1, 1), (1, 0), (0, 1), (0, 0)."""
    outcomes = ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    rate, seen = joint[0] + joint[1], joint[0] + joint[2]
    expected = np.zeros(3)
    for pairs in product(range(4), repeat=3):
        y, f = np.array([outcomes[pair] for pair in pairs]).T
        for lone in product((0.0, 1.0), repeat=4):
            chance = np.prod([joint[pair] for pair in pairs]) * np.prod([seen if one else 1 - seen for one in lone])
            expected += chance * np.exp(place_bets(y, f, np.array(lone), weight, 0.05).log_capital(rate))
    assert (expected <= 1.0 + 1e-9).all()
    assert weight or expected == pytest.approx(1.0)  # of the real trials alone it is a martingale


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIMULATIONS)
@pytest.mark.parametrize("n", [10, 20, 40])
def test_intervals_cover_whatever_the_simulation_is_worth(n: int, kind: str) -> None:
    for rate in RATES:
        rng = np.random.default_rng([n, int(10 * rate)])
        found = [betting_interval(*worlds(rng, n, 100, rate, kind)) for _ in range(400)]
        assert all(0.0 <= low <= high <= 1.0 for low, high in found)
        assert np.mean([low <= rate <= high for low, high in found]) >= 0.95


@pytest.mark.parametrize(("n", "many"), [(1, 0), (1, 50), (3, 2), (12, 30)])
def test_few_trials_are_covered(n: int, many: int) -> None:
    rng = np.random.default_rng(n)
    found = [betting_interval(*worlds(rng, n, many, 0.6, "biased")) for _ in range(300)]
    assert np.mean([low <= 0.6 <= high for low, high in found]) >= 0.95
    assert all(0.0 <= low <= high <= 1.0 for low, high in found)


def mean_widths(found: list[Worlds]) -> tuple[float, float]:
    """With simulation, and of the real trials alone."""
    pairs = [(betting_interval(y, f, g), betting_interval(y)) for y, f, g in found]
    helped, alone = np.diff(np.array(pairs)).mean(0).ravel()
    return helped, alone


@pytest.mark.parametrize("n", [10, 20, 40])
def test_a_good_simulation_narrows_and_a_useless_one_costs_little(n: int) -> None:
    for rate in (0.1, 0.5, 0.9):
        rng = np.random.default_rng([n, int(10 * rate)])
        found = [[worlds(rng, n, 400, rate, kind) for _ in range(25)] for kind in ("good", "useless")]
        good, useless = map(mean_widths, found)
        assert good[0] < good[1] * (0.85 if n == 40 else 1.0)
        assert useless[0] < useless[1] * 1.2


def test_bounds_of_all_and_of_none() -> None:
    low, high = betting_interval([1.0] * 20)
    assert high == 1.0 and 0.8 < low < 0.9
    assert betting_interval([0.0] * 20) == pytest.approx((0.0, 1.0 - low))
    assert betting_interval([1.0]) == (0.0, 1.0)


def test_success_and_failure_are_alike() -> None:
    y, f, g = worlds(np.random.default_rng(0), 15, 40, 0.7, "good")
    low, high = betting_interval(y, f, g)
    assert betting_interval(1 - y, 1 - f, 1 - g) == pytest.approx((1 - high, 1 - low))


def test_trials_that_drift_still_give_an_interval() -> None:
    low, high = betting_interval([1.0] * 20 + [0.0] * 20)
    assert 0.0 <= low <= high <= 1.0


def test_what_is_no_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="paired"):
        betting_interval([1, 0], [1], [1])
    with pytest.raises(ValueError, match="paired"):
        betting_interval([1, 0], [], [1])
    with pytest.raises(ValueError, match="lie in"):
        betting_interval([2.0, 0.0])
