"""Implicit Q-learning (IQL, 2110.06169), and with goals in hindsight GCIQL (as in 2410.20092).

V is an expectile of Q over the data's actions, Q backs V up: no action that is not in the data is ever valued.

Shape letters: B batch, N members.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl import offline_losses
from robot_rl.algorithms.networks import Augment
from robot_rl.algorithms.offline import OfflineConfig, OfflineRL
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class IQLConfig(OfflineConfig):
    """Hyperparameters. With `quantile` and a critic of several members with Huber's error it is RIQL (2310.12955)."""

    expectile: float = 0.7
    """Of V: 0.5 is the mean over the data's actions, 1 would be the best of them."""
    quantile: float = 0.0
    """Of the members' target values, in place of their minimum (0): RIQL's guard against corrupted data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.expectile < 1.0 or not 0.0 <= self.quantile <= 1.0:
            raise ConfigError(f"need expectile in (0, 1), quantile in [0, 1]; got {self.expectile}, {self.quantile}")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> IQL:
        return IQL(self, model, critic, augment)


class IQL(OfflineRL):
    """See `robot_rl.algorithms.offline`."""

    def __init__(
        self, config: IQLConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.expectile, self.quantile = config.expectile, config.quantile

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        head = self.critic.head
        with torch.no_grad():
            known = self.known_values(data)
            aim = self.pooled(known)
            next_value = head.value(self.critic.v(self.critic.features(data.next_observation, data.goal)))
            target = self.backup(data, next_value)
        features = self.critic.features(data.observation, data.goal)
        v, q = self.critic.v(features), self.critic.q(features, data.action)
        value = head.value(v).detach()
        v_loss = (offline_losses.expectile_weight(aim - value, self.expectile) * head.squared().error(v, aim)).mean()
        q_loss = head.error(q, target).mean(1).sum()
        return v_loss + q_loss, {"v": value.mean(), "q": known.mean(), "v_loss": v_loss.detach()}

    def pooled(self, q: Tensor) -> Tensor:
        """The quantile, for V as for the advantage (2310.12955, algorithm 1)."""
        return torch.quantile(q, self.quantile, dim=0)
