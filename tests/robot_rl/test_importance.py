"""Importance sampling: by hand, and unbiased on a chain whose value is known."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.importance import importance_estimate

LOGS = [np.log([2.0, 0.5]), np.log([0.5])]
REWARDS = [[1.0, 3.0], [2.0]]


def test_by_hand() -> None:
    # weights by step: (2, 1) and (0.5, 0.5 kept on); discounted rewards (1, 1.5) and (2, 0)
    assert importance_estimate(LOGS, REWARDS, 0.5, weighted=False).value == pytest.approx((2 + 1.5 + 1.0) / 2)
    weighted = importance_estimate(LOGS, REWARDS, 0.5)
    assert weighted.value == pytest.approx((2 + 1) / 2.5 + 1.5 / 1.5)
    assert weighted.effective == pytest.approx(1.5**2 / (1 + 0.25))
    whole = importance_estimate(LOGS, REWARDS, 0.5, per_decision=False, weighted=False)
    assert whole.value == pytest.approx((1 * 2.5 + 0.5 * 2) / 2)
    whole = importance_estimate(LOGS, REWARDS, 0.5, per_decision=False)
    assert whole.value == pytest.approx((2.5 + 1.0) / 1.5)


@pytest.mark.parametrize("per_decision", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_value_of_a_chain(per_decision: bool, weighted: bool) -> None:
    """Three steps, "right" earns 1 and "left" ends it: going right with 0.8, value 0.8 + 0.8^2 g + 0.8^3 g^2."""
    rng, acting, wanted, discount = np.random.default_rng(0), 0.6, 0.8, 0.9
    logs, rewards = [], []
    for _ in range(20_000):
        log, reward = [], []
        for _ in range(3):
            right = rng.random() < acting
            log.append(np.log(wanted / acting if right else (1 - wanted) / (1 - acting)))
            reward.append(float(right))
            if not right:
                break
        logs.append(log)
        rewards.append(reward)
    value = wanted + wanted**2 * discount + wanted**3 * discount**2
    found = importance_estimate(logs, rewards, discount, per_decision=per_decision, weighted=weighted)
    assert found.value == pytest.approx(value, abs=0.03)
    assert found.effective < 20_000


def test_the_same_policy_has_the_plain_mean() -> None:
    found = importance_estimate([[0.0, 0.0], [0.0]], REWARDS)
    assert found.value == pytest.approx(3.0) and found.effective == pytest.approx(2.0)
    with pytest.raises(ValueError, match="as long"):
        importance_estimate([[0.0, 0.0, 0.0], [0.0]], REWARDS)
    with pytest.raises(ValueError, match="same episodes"):
        importance_estimate([], [])


def test_the_interval_holds_the_value_and_says_when_one_episode_has_all_the_weight() -> None:
    rng, share, count = np.random.default_rng(1), 0.8, 200
    held = 0
    for _ in range(60):
        right = rng.random(count) < 0.5
        logs = np.log(np.where(right, share, 1 - share) / 0.5)[:, None]
        found = importance_estimate(list(logs), list(right[:, None].astype(float)))
        held += found.low <= share <= found.high
    assert held >= 52
    alone = importance_estimate([[2000.0], [0.0], [-5.0]], [[1.0], [0.0], [0.0]])  # beyond what exp can hold
    assert alone.value == pytest.approx(1.0) and alone.effective == pytest.approx(1.0)
    none = importance_estimate([[-np.inf], [-np.inf]], [[1.0], [0.0]])
    assert (none.value, none.effective) == (0.0, 0.0)


def test_weights_beyond_all_numbers_are_no_estimate() -> None:
    huge = [[800.0], [1.0]]
    assert importance_estimate(huge, [[1.0], [0.0]]).value == pytest.approx(1.0)
    for log_ratios, weighted in ((huge, False), ([[np.inf], [0.0]], True), ([[np.inf], [0.0]], False)):
        with pytest.raises(ValueError, match="infinite"):
            importance_estimate(log_ratios, [[1.0], [0.0]], weighted=weighted)
