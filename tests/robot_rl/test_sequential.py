"""The sequential test keeps to its false-alarm rate however long one looks, and finds what matters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot_rl.sequential import STAKES, evidence_of_rise, log_wealth_above


def test_wealth_by_hand():
    wealth = np.mean([(1 + stake * (0.5 / 0.25 - 1)) * (1 + stake * (0.0 / 0.25 - 1)) for stake in STAKES])
    assert log_wealth_above([0.5, 0.0], np.array([0.25])) == pytest.approx(math.log(wealth))


def test_wealth_does_not_grow_in_expectation():
    """Exactly, over all outcomes of four fair bets."""
    outcomes = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    chances = np.prod(np.where(outcomes == 1.0, 0.3, 0.7), 1)
    wealth = [math.exp(log_wealth_above(one, np.array([0.3]))[0]) for one in outcomes]
    assert chances @ wealth == pytest.approx(1.0)


def test_nothing_is_known_without_values():
    assert evidence_of_rise([], [], 0.05) <= 0.0
    assert evidence_of_rise([], [1.0] * 50, 0.05) <= 0.0  # without a reference it may have been as bad
    assert evidence_of_rise([0.0] * 50, [], 0.05) <= 0.0


@pytest.mark.parametrize("reference", [10, 60])
def test_false_alarms_over_a_whole_service(reference):
    """At the very margin, looked at again and again over 120 episodes; the bound is 0.05."""
    rng, alarms, runs = np.random.default_rng(0), 0, 80
    for _ in range(runs):
        before = (rng.random(reference) < 0.2) * rng.random(reference)  # mean 0.1
        running = (rng.random(120) < 0.3) * rng.random(120)  # mean 0.15
        alarms += any(evidence_of_rise(before, running[:n], 0.05) >= math.log(20) for n in range(10, 121, 10))
    assert alarms <= 0.05 * runs


def test_a_clear_rise_is_found_soon():
    rng = np.random.default_rng(0)
    before = ((rng.random(50) < 0.1) * rng.random(50)).tolist()
    running = rng.uniform(0.0, 1.0, 60).tolist()
    found = next(n for n in range(1, 60) if evidence_of_rise(before, running[:n], 0.05) >= math.log(40))
    assert found <= 20
    assert evidence_of_rise(running, before, 0.05) < 0.0  # and not the other way round
