"""The tanh-squashed Gaussian policy for the arm with a discrete gripper.

Shape letters: B batch, F features, A arm action elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from policies.networks import StepConfig, StepPolicy
from robot_rl.ensemble import EnsembleMLP
from robot_rl.types import ActionSpec, FloatArray, ObservationSpec

STD_MIN, STD_MAX = 1e-5, 5.0  # HIL-SERL


class GaussianActor(nn.Module):
    """Features to mean and standard deviation before the squash."""

    def __init__(self, features: int, actions: int, config: StepConfig) -> None:
        super().__init__()
        self.net = EnsembleMLP(1, features, config.hidden, 2 * actions, config.activation)

    def forward(self, *features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F), or parts of that: mean and std, each (B, A)."""
        mean, log_std = self.net(*features).squeeze(0).chunk(2, -1)
        return mean, log_std.exp().clamp(STD_MIN, STD_MAX)


@dataclass(frozen=True)
class GaussianConfig(StepConfig):
    """Networks of the policy, and how it explores."""

    def build_actor(self, features: int, actions: int) -> GaussianActor:
        return GaussianActor(features, actions, self)

    def build_policy(self, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0) -> GaussianPolicy:
        return GaussianPolicy(self, observation_spec, action_spec, seed)


class GaussianPolicy(StepPolicy):
    """Acts by the mean, or by samples."""

    def move(self, features: Tensor) -> FloatArray:
        mean, std = (part.squeeze(0).numpy() for part in self._networks.actor(features))
        if not self.deterministic:
            mean = mean + std * self._rng.standard_normal(mean.shape, np.float32)
        return np.tanh(mean)
