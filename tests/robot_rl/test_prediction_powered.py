"""Prediction-powered intervals: against the formula by hand, coverage by simulation, and what they save."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.prediction_powered import prediction_powered
from robot_rl.statistics import wilson_interval


def worlds(rng: np.random.Generator, n: int, many: int, rate: float, agreement: float, shift: float = 0.0):
    """Real and simulated outcomes that are the same draw with probability `agreement`; the simulation is biased."""

    def simulated(real):
        other = rng.random(len(real)) < rate + shift
        return np.where(rng.random(len(real)) < agreement, real, other).astype(float)

    real, unseen = rng.random(n) < rate, rng.random(many) < rate
    return real.astype(float), simulated(real), simulated(unseen)


def test_by_hand() -> None:
    y, f = np.array([1, 1, 1, 0, 0, 1, 0, 0]), np.array([1, 1, 1, 0, 1, 1, 0, 0])
    g = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1])
    found = prediction_powered(y, f, g)
    # with two imagined pairs that count half: 4.5 of 9 real, 5.5 of 9 simulated successes, 4 in both
    both, real, simulated = 4 / 9 - 4.5 * 5.5 / 81, 0.25, 5.5 * 3.5 / 81
    weight = both / ((1 + 9 / 10) * (9 * simulated + 10 * 0.21) / 19)
    assert found.weight == pytest.approx(weight)
    assert found.rate.value == pytest.approx(0.5 + weight * (0.7 - 0.625))
    residual = (real - 2 * weight * both + weight**2 * simulated) / 7
    assert found.worth == pytest.approx(8 * (real / 8) / (residual + weight**2 * 0.21 / 9))
    assert found.trials_saved == pytest.approx(1 - 8 / found.worth)


@pytest.mark.parametrize("agreement", [0.0, 0.6, 0.9])
@pytest.mark.parametrize(("n", "rate"), [(20, 0.5), (40, 0.8), (60, 0.3)])
def test_intervals_cover_whatever_the_simulation_is_worth(agreement: float, n: int, rate: float) -> None:
    rng = np.random.default_rng([n, int(10 * agreement)])
    found = [prediction_powered(*worlds(rng, n, 400, rate, agreement, shift=0.15)) for _ in range(1500)]
    covered = np.mean([one.rate.low <= rate <= one.rate.high for one in found])
    assert 0.925 <= covered <= 0.992  # of 0.95; wider where few trials tell how good the simulation is


def test_a_good_simulation_saves_trials_and_a_useless_one_costs_nothing() -> None:
    rng = np.random.default_rng(0)
    good = [prediction_powered(*worlds(rng, 50, 500, 0.6, 0.9)).trials_saved for _ in range(200)]
    useless = [prediction_powered(*worlds(rng, 50, 500, 0.6, 0.0)).trials_saved for _ in range(200)]
    assert 0.5 < np.mean(good) < 0.81  # the correlation is 0.9: at most 0.9^2, less what is not known of it
    assert min(useless) >= 0.0 and np.mean(useless) < 0.05


def test_without_help_it_is_wilsons_interval() -> None:
    found = prediction_powered([1, 1, 0, 1, 0, 1, 1, 1], [1] * 8, [1] * 30)
    assert found.rate[1:] == pytest.approx(wilson_interval(6, 8)) and found.trials_saved == 0.0
    all_fail = prediction_powered([0] * 8, [0, 1] * 4, [0, 1, 1])
    assert all_fail.rate[1:] == pytest.approx(wilson_interval(0, 8))
    with pytest.raises(ValueError, match="paired"):
        prediction_powered([1, 0], [1], [1])
