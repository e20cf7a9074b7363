"""Windows of recorded episodes as critics learn from them.

Shape letters: B batch, H horizon, A action, n steps that rewards are summed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.algorithms.networks import TensorObservation


@dataclass(frozen=True, slots=True)
class ValueWindows:
    """The parts of `Windows` that critics need, on the device."""

    policy: TensorWindows
    """What the policy is extracted from, under its own goals."""
    action: Tensor  # (B, H, A), at random after the episode's end
    goal: TensorObservation  # each (B, ...), that rewards and ends speak of
    next_observation: TensorObservation  # each (B, 1, ...)
    subgoal: TensorObservation  # each (B, 1, ...), on the way to the policy's goal; or empty
    option: TensorObservation  # each (B, 1, ...), where an option towards `goal` ends; or empty
    reward: Tensor  # (B,)
    discount: Tensor  # (B,)
    terminated: Tensor  # (B,)
    returns_to_go: Tensor  # (B,)
    goal_steps: Tensor  # (B,) steps until `goal` was observed; -1 where that never was
    violation: Tensor  # (B, n + 1), see `Windows`, or (B, 0)

    @property
    def observation(self) -> TensorObservation:
        return self.policy.observation
