"""Returns of recorded episodes.

Shape letters: N steps of all episodes, E episodes, B batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.batch import Returns

UNREACHED = -1
"""Steps to a goal that the episode does not lead to."""
Floats = NDArray[np.float32]


def returns_to_go(rewards: NDArray[Any], ends: NDArray[np.int64], discount: float) -> NDArray[np.float32]:
    """Monte-Carlo return (N,) of each step: its episode's rewards (N,) from there on, discounted per step.

    Of an episode that was cut short it is the sum of what was seen: a lower bound where no reward is negative.
    """
    lengths = np.diff(ends, prepend=0)
    result = np.array(rewards, np.float64)
    for to_end in range(2, int(lengths.max(initial=0)) + 1):
        steps = ends[lengths >= to_end] - to_end
        result[steps] += discount * result[steps + 1]
    return result.astype(np.float32)


def sums_ahead(
    rewards: NDArray[Any], terminated: NDArray[Any], steps: NDArray[np.int64], ends: NDArray[np.int64], returns: Returns
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """How many steps follow `steps` (B,) in their episodes, which end at `ends` (B,), up to `returns.steps`.

    Further their discounted rewards, the weight of what comes after them, and whether the task ended in them; all (B,).
    `rewards` and `terminated` are (N,).
    """
    wanted = steps[:, None] + np.arange(returns.steps)
    inside = wanted < ends[:, None]
    index = np.minimum(wanted, ends[:, None] - 1)
    weights = returns.discount ** np.arange(returns.steps)
    reward = (rewards[index] * inside * weights).sum(1)
    ended = (terminated[index] & inside).any(1)
    ahead = inside.sum(1)
    return ahead, reward.astype(np.float32), (returns.discount**ahead).astype(np.float32), ended.astype(np.float32)


def returns_to_goals(goal_steps: NDArray[np.int64], discount: float) -> Floats:
    """Return (B,) of -1 for each step until the goal; of a goal that was not reached, the lowest there is."""
    ahead = np.where(goal_steps == UNREACHED, np.inf, goal_steps)
    return (-ahead if discount == 1.0 else (discount**ahead - 1.0) / (1.0 - discount)).astype(np.float32)


def sums_to_goals(goal_steps: NDArray[np.int64], ahead: NDArray[np.int64], discount: float) -> tuple[Floats, Floats]:
    """Rewards and ends (B,) over the `ahead` (B,) steps of `sums_ahead`, with -1 for each step until the goal."""
    reached = (goal_steps != UNREACHED) & (goal_steps <= ahead)
    sums = np.concatenate([[0.0], np.cumsum(discount ** np.arange(ahead.max(initial=0)))])
    return -sums[np.where(reached, goal_steps, ahead)].astype(np.float32), reached.astype(np.float32)
