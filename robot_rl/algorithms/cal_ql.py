"""Cal-QL (2303.05479): conservative Q-learning whose values stay above the returns that were really had.

Q is pushed down on actions that are not the data's (CQL, 2006.04779), so that a policy that climbs it stays near the
data; the policy's own actions are not pushed below the data's return, so that values keep their scale. Other actions
are drawn uniformly and from the policy, here and at the next observation; no densities are needed for that
(`cql_importance_sample=False` of the authors' code).

Shape letters: B batch, N members, K drawn actions, H horizon, A action, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_rl import offline_losses
from robot_rl.algorithms.networks import Augment, TensorObservation
from robot_rl.algorithms.offline import AWR, DDPGBC, Critic, OfflineConfig, OfflineRL
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class CalQLConfig(OfflineConfig):
    """Hyperparameters; those of V-GPS (2410.13816)."""

    extraction: AWR | DDPGBC = field(default_factory=DDPGBC)
    """How the policy is made of the critic."""
    conservatism: float = 5.0
    """Weight of the conservative term."""
    draws: int = 4
    """Random actions, actions of the policy, and actions of the policy at the next observation: so many of each."""
    calibrated: bool = True
    """Whether values of the policy's actions are not pushed below the data's return; otherwise it is CQL."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conservatism < 0.0 or self.draws < 1:
            raise ConfigError(f"conservatism must not be negative, draws be at least 1; got {self}")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> CalQL:
        return CalQL(self, model, critic, augment)


class CalQL(OfflineRL):
    """See `robot_rl.algorithms.offline`."""

    def __init__(
        self, config: CalQLConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.cal_ql = config

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        critic, head = self.critic, self.critic.head
        with torch.no_grad():
            here, there = self._draw(data.observation, data.goal), self._draw(data.next_observation, data.goal)
            chance = torch.rand(here.shape, generator=self.generator, device=self.device) * 2.0 - 1.0
            next_features = self.target.features(data.next_observation, data.goal)
            best = self._values(self.target, next_features, there).amin(0).amax(1)
            target = self.backup(data, best)
        features = critic.features(data.observation, data.goal)
        outputs = critic.q(features, data.action)
        q, v = head.value(outputs), critic.v(features)
        policy = self._values(critic, features, torch.cat([here, there], 1))
        gap = offline_losses.conservative_gap(
            self._values(critic, features, chance), policy, q, data.returns_to_go if self.cal_ql.calibrated else None
        )
        aim = policy.detach()[:, :, : self.cal_ql.draws].amin(0).mean(1)
        v_loss, td_loss = head.error(v, aim).mean(), head.error(outputs, target).mean(1).sum()
        metrics = {"q": q.detach().mean(), "conservative_gap": gap.detach(), "td_loss": td_loss.detach()}
        return td_loss + v_loss + self.cal_ql.conservatism * gap, metrics

    def _draw(self, observation: TensorObservation, goal: TensorObservation) -> Tensor:
        """Chunks (B, K, H, A) of the policy."""
        draws = self.cal_ql.draws
        many = [{key: value.repeat_interleave(draws, 0) for key, value in one.items()} for one in (observation, goal)]
        return self.propose(*many).clamp(-1.0, 1.0).unflatten(0, (-1, draws))

    def _values(self, critic: Critic, features: Tensor, chunks: Tensor) -> Tensor:
        """Q (N, B, K) of chunks (B, K, H, A)."""
        count = chunks.shape[1]
        outputs = critic.q(features.repeat_interleave(count, 0), chunks.flatten(0, 1))
        return critic.head.value(outputs).unflatten(1, (-1, count))
