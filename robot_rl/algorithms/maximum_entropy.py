"""The learned weight of a policy's entropy (SAC, 1812.05905, section 5), for algorithms whose policy climbs the critics.

Shape letters: B batch, N critics, A arm action elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl import losses
from robot_rl.algorithms.networks import Augment, PolicyNetworks
from robot_rl.algorithms.off_policy import OffPolicy, OffPolicyConfig
from robot_rl.critics import CriticEnsemble
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class MaximumEntropyConfig(OffPolicyConfig):
    """Hyperparameters of the temperature."""

    initial_temperature: float = 0.01
    """Weight of the entropy at the start."""
    target_entropy: float | None = None
    """Entropy that the temperature steers to; half a nat below zero per arm element when not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_temperature <= 0.0:
            raise ConfigError(f"initial_temperature must be positive, got {self.initial_temperature}")


class MaximumEntropy(OffPolicy):
    """Adds the temperature, which the policy's optimiser learns as well."""

    def __init__(
        self,
        config: MaximumEntropyConfig,
        networks: PolicyNetworks,
        critics: CriticEnsemble,
        augment: Augment | None = None,
    ) -> None:
        temperatures = nn.ParameterList([torch.tensor([math.log(config.initial_temperature)])])
        super().__init__(config, networks, critics, augment, temperatures)
        entropy = config.target_entropy
        self._target_entropy = -0.5 * networks.arm_dim if entropy is None else entropy

    @property
    def temperature(self) -> Tensor:
        """Weight of the entropy (1,)."""
        return self._log_temperature[0].detach().exp()

    def _climb(self, q: Tensor, log_prob: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a policy whose actions have values `q` (N, B) and densities `log_prob` (B,)."""
        loss = losses.actor_loss(q, log_prob, self.temperature)
        return loss, {"actor_loss": loss.detach(), "entropy": -log_prob.detach().mean()}

    def _temperature_loss(self, log_prob: Tensor) -> Tensor:
        """0-d; depends on the temperature alone."""
        return losses.temperature_loss(self._log_temperature[0], log_prob, self._target_entropy).squeeze()
