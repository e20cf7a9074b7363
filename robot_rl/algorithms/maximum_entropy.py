"""For algorithms whose policy climbs the critics: n-step returns, and the learned weight of the policy's entropy.

Returns over n steps (Rainbow, 1710.02298), because every bootstrap takes the best of an erring critic, and over the
eighty steps of a slow person the errors add up until the policy stands still where the critics dream of success. A
policy's sum ends where the person takes over: standing still until the rescue would be as good as going on. The
weight, or temperature, is SAC's (1812.05905, section 5).

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
from robot_rl.batch import Returns
from robot_rl.critics import CriticEnsemble
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class MaximumEntropyConfig(OffPolicyConfig):
    """Hyperparameters of returns and temperature."""

    n_step: int = 10
    """Rewards summed before bootstrapping: each bootstrap adds some overestimation, and a slow person needs many."""
    initial_temperature: float = 0.01
    """Weight of the entropy at the start."""
    target_entropy: float | None = None
    """Entropy that the temperature steers to; half a nat below zero per arm element when not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_step < 1 or self.initial_temperature <= 0.0:
            raise ConfigError(
                f"n_step must be >= 1 and initial_temperature positive; got {self.n_step}, {self.initial_temperature}"
            )


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
        self._n_step, entropy = config.n_step, config.target_entropy
        self._target_entropy = -0.5 * networks.arm_dim if entropy is None else entropy

    @property
    def returns(self) -> Returns:
        return Returns(self._n_step, self.config.discount)

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
