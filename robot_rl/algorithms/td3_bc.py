"""TD3+BC (2106.06860): a critic of what the policy would do next, and a policy that climbs it and imitates.

The base of those that imitate something better than the data's action: `robot_rl.algorithms.prdc`, `a2pr`. V, which
these compare actions with, is regressed on the same targets.

Shape letters: B batch, N members, H horizon, h valued actions, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_rl.algorithms.networks import Augment
from robot_rl.algorithms.offline import AWR, DDPGBC, OfflineConfig, OfflineRL
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class TD3BCConfig(OfflineConfig):
    """Hyperparameters; noise as in TD3 (1802.09477)."""

    extraction: AWR | DDPGBC = field(default_factory=lambda: DDPGBC(bc_weight=0.4))
    """How the policy is made of the critic; 1 / 2.5 is TD3+BC's alpha."""
    policy_noise: float = 0.2
    """Spread of the noise on the next action, which makes values smooth in it."""
    noise_clip: float = 0.5
    """Largest noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.policy_noise, self.noise_clip) < 0.0:
            raise ConfigError(f"policy_noise and noise_clip must not be negative, got {self}")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> TD3BC:
        return TD3BC(self, model, critic, augment)


class TD3BC(OfflineRL):
    """See `robot_rl.algorithms.offline`."""

    def __init__(
        self, config: TD3BCConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.policy_noise, self.noise_clip = config.policy_noise, config.noise_clip

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        head = self.critic.head
        with torch.no_grad():
            chunk = self.propose(data.next_observation, data.goal)
            noise = torch.randn(chunk.shape, generator=self.generator, device=self.device) * self.policy_noise
            smooth = (chunk + noise.clamp(-self.noise_clip, self.noise_clip)).clamp(-1.0, 1.0)
            features = self.target.features(data.next_observation, data.goal)
            target = self.backup(data, head.value(self.target.q(features, smooth)).amin(0))
        features = self.critic.features(data.observation, data.goal)
        q, v = self.critic.q(features, data.action), self.critic.v(features)
        loss = head.error(q, target).mean(1).sum() + head.error(v, target).mean()
        return loss, {"q": head.value(q).detach().mean(), "v": head.value(v).detach().mean()}


@dataclass(frozen=True)
class RegularisedConfig(TD3BCConfig):
    """What those can be told that put something else in the place of the data's action."""

    weight: float = 0.4
    """Of the squared distance to it, against Q in units of its mean magnitude; `extraction` is not asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight < 0.0:
            raise ConfigError(f"weight must not be negative, got {self.weight}")
