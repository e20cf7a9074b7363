"""RLPD with the additions of HIL-SERL: off-policy learning from demonstrations, interventions and experience.

RLPD (2302.02948): LayerNorm critic ensemble, random subset in the target, half of each batch from
demonstrations (the memory does that). HIL-SERL (2410.21845): the gripper is a discrete choice with its
own double-DQN critic and a penalty for every change; the actor covers the arm alone.

Two additions beside those of `off_policy` and `maximum_entropy`, each for a failure that was seen with sparse rewards:
- The arm also imitates the person, less and less (TD3+BC, 2106.06860, with a weight that decays): before there is
  enough experience the critics are wrong beside the data, and a policy that follows them there never comes back.
- What the policy did alone and with success is imitated like the person's actions (self-imitation, 1806.05635; the
  memory does that): near the object a step changes the value by less than a critic's error, and the policy hovered.

Shape letters: B batch, N critics, A arm action elements, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robot_rl import losses
from robot_rl.algorithms.maximum_entropy import MaximumEntropy, MaximumEntropyConfig
from robot_rl.algorithms.networks import Augment, PolicyNetworks, TensorBatch
from robot_rl.critics import CriticConfig
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class RLPDConfig(MaximumEntropyConfig):
    """Hyperparameters; the defaults are HIL-SERL's, and for what it does not have those of this project."""

    num_critics: int = 2
    """Members of the critic ensemble; RLPD's own experiments use 10."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of each critic."""
    activation: str = "tanh"
    """Activation of the critics: tanh, silu or relu."""
    backup_entropy: bool = False
    """Whether the target includes the next action's entropy."""
    bc_weight: float = 1.0
    """Weight of imitating the person at the start, in units of the mean |Q|; 0 turns it off."""
    bc_half_life: float = 8000.0
    """Updates after which that weight has halved: competent early, free to become faster than the person later."""
    bc_speed: float = 1.0
    """How many times as fast as the person the policy may be, in the same direction, without counting as different."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_subset > self.num_critics:
            raise ConfigError(f"target_subset must not exceed num_critics = {self.num_critics}; {self.target_subset}")
        if self.bc_half_life <= 0.0:
            raise ConfigError(f"bc_half_life must be positive, got {self.bc_half_life}")
        if not self.bc_speed >= 1.0:
            raise ConfigError(f"bc_speed must be at least 1 (as fast as the person), got {self.bc_speed}")


class RLPD(MaximumEntropy):
    """Implements `robot_rl.algorithms.Algorithm`."""

    config: RLPDConfig

    def __init__(self, config: RLPDConfig, networks: PolicyNetworks, augment: Augment | None = None) -> None:
        """`networks` is taken over (moved to the device, trained in place)."""
        shape = CriticConfig(config.num_critics, config.hidden, config.activation)
        critics = shape.build(networks.feature_dim, networks.arm_dim, config.seed)
        super().__init__(config, networks, critics, augment)

    def _next_value(self, data: TensorBatch, next_features: Tensor, next_target_features: Tensor) -> Tensor:
        action, log_prob, _ = self._act(next_features)
        value = self._target_value(next_target_features, action)
        return value - self.temperature * log_prob if self.config.backup_entropy else value

    def _policy_loss(self, data: TensorBatch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        action, log_prob, mean = self._act(features)
        q = self.critics(features, action, frozen=True)
        loss, metrics = self._climb(q, log_prob)
        if self.config.bc_weight > 0.0:
            imitation = losses.imitation_loss(mean, data.arm_action, data.is_demonstration, self.config.bc_speed)
            metrics["imitation_loss"] = imitation.detach()
            weight = self.config.bc_weight * 0.5 ** (self._updates / self.config.bc_half_life)
            loss = loss + weight * losses.q_scale(q) * imitation
        # neither depends on the other's parameters
        return loss + self._temperature_loss(log_prob), metrics | {"temperature": self.temperature[0]}

    def _act(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """An action (B, A) of the policy, its log density (B,), and the mean action (B, A)."""
        mean, std = self.networks.actor(features)
        return *self._sample(mean, std), mean.tanh()

    def _sample(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        return losses.squash(mean, std, self._noise(*mean.shape))
