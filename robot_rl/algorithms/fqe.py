"""Fitted Q evaluation (FQE, 1903.08738, algorithm 3; for neural networks 2007.09055): what a policy would earn.

Q of a given policy is learned from episodes of any others: its target bootstraps with the action that the policy would
take next. The policy itself does not change. With rewards of success, discount 1 and episodes that end, its value at
the start states is the policy's success rate.

Members that learn from bootstrap samples of the episodes (`COUNTS`) spread as the estimate would over other episodes of
the same kind (2102.03607).

Shape letters: B batch, T observations, N members.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl.algorithms.networks import Augment, TensorObservation
from robot_rl.algorithms.offline import OfflineConfig, OfflineRL
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.batch import Windows

COUNTS = "counts"
"""Key of observations (B, T, N): how often each member's bootstrap sample of the episodes holds theirs."""


@dataclass(frozen=True)
class FQEConfig(OfflineConfig):
    """Hyperparameters; of those of the policy's extraction none counts."""

    discount: float = 1.0
    """Per control step; 1 where the return is success."""

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> FQE:
        return FQE(self, model, critic, augment)


class FQE(OfflineRL):
    """See `robot_rl.algorithms.offline`; `model` is the policy that is evaluated, and stays as it is."""

    def __init__(
        self, config: FQEConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.model.eval()

    def update(self, windows: Windows) -> dict[str, Tensor]:
        """One gradient step of the critic; returns 0-d tensors to log."""
        loss, metrics = self.critic_loss(self.load(windows))
        self._critic_adam.minimise(loss)
        self._target_flat.follow(self._critic_flat, self.offline.target_rate)
        self.updates += 1
        return {"loss": loss.detach(), **metrics}

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            # every member backs up its own values, so that they stay independent
            target = self.backup(data, self._values(data.next_observation, data))
            aim = self._values(data.observation, data).mean(0)
        features = self.critic.features(data.observation, data.policy.goal)
        outputs, v = self.critic.q(features, data.action), self.critic.v(features)
        head = self.critic.head
        error = head.error(outputs, target)
        if COUNTS in data.observation:
            error = error * data.observation[COUNTS][:, -1].T
        loss = error.mean(1).sum() + head.error(v, aim).mean()
        return loss, {"q": head.value(outputs).detach().mean(), "v": head.value(v).detach().mean()}

    def value(self, starts: Iterable[Windows]) -> Tensor:
        """(N,) mean value of the policy at start states: the spread over members is no interval, but a warning."""
        return self.values(starts).mean(1)

    def values(self, starts: Iterable[Windows]) -> Tensor:
        """(N, B) value of the policy at each start state."""
        loaded = [self.load(windows, augment=False) for windows in starts]
        return torch.cat([self._values(data.observation, data) for data in loaded], 1)

    @torch.no_grad()
    def _values(self, observation: TensorObservation, data: ValueWindows) -> Tensor:
        """The target's Q (N, B) of what the policy does at `observation` under the goals of `data`."""
        chunk = self.propose(observation, data.policy.goal).clamp(-1.0, 1.0)
        features = self.target.features(observation, data.policy.goal)
        return self.target.head.value(self.target.q(features, chunk))
