"""Whether actions are near to those recorded in similar states."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.nearness import USUAL, share_near


def recorded(steps: int = 3000, noise: float = 0.1):
    rng = np.random.default_rng(0)
    states = rng.uniform(-1.0, 1.0, (steps, 2))
    return states, states[:, :1] + rng.normal(0.0, noise, (steps, 1)), np.arange(steps) // 30


def test_what_was_done_is_near_and_what_nobody_did_is_not() -> None:
    states, done, episode = recorded()
    assert share_near(states, done, done, episode) == pytest.approx(USUAL, abs=0.005)
    assert share_near(states, done, states[:, :1], episode) == pytest.approx(1.0, abs=0.03)  # less noise than any
    assert share_near(states, done, done + 3.0, episode) == 0.0
    assert share_near(states, done, -states[:, :1], episode) == pytest.approx(0.15, abs=0.1)  # right where both agree
    half = np.where(states[:, 1:] > 0.0, done, done + 3.0)
    assert share_near(states, done, half, episode) == pytest.approx(USUAL / 2, abs=0.05)


def test_one_episode_says_nothing() -> None:
    states, done, _ = recorded(50)
    assert share_near(states, done, done, np.zeros(50, int)) is None
