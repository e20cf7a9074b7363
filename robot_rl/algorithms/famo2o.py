"""FamO2O (2310.17966): a family of policies, from careful to greedy, and a model that chooses among them in each state.

On IQL's critic. The family imitates as AWR does, with a coefficient of the advantage that is drawn at random and that
it is told; the balance model climbs Q of what the family does by its coefficient. In the paper that model is a
distribution with a bonus for its entropy; here it is deterministic.

Shape letters: B batch, H horizon, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from robot_rl import losses, offline_losses
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.algorithms.iql import IQL, IQLConfig
from robot_rl.algorithms.networks import Augment, TensorObservation
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.errors import ConfigError


class Family(Protocol):
    """A policy for every coefficient; also an `Actor`. `policies.family.FamilyModel` is the one implementation."""

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Coefficients (B,) evenly from the family's range."""
        ...

    def family_loss(self, windows: TensorWindows, coefficient: Tensor) -> Tensor:
        """The imitation loss (0-d) of the members of these coefficients (B,)."""
        ...

    def balanced(self, observation: TensorObservation, goal: TensorObservation) -> tuple[Tensor, Tensor]:
        """Chunks (B, H, A) by the coefficients (B,) of the balance model, with gradients for that alone; and these."""
        ...


@dataclass(frozen=True)
class FamO2OConfig(IQLConfig):
    """Hyperparameters; the range of coefficients is the policy's. `extraction` is not asked."""

    largest: float = 100.0
    """Weight of an action at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.largest <= 0.0:
            raise ConfigError(f"largest weight must be positive, got {self.largest}")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> FamO2O:
        return FamO2O(self, model, critic, augment)


class FamO2O(IQL):
    """See `robot_rl.algorithms.offline`."""

    def __init__(
        self, config: FamO2OConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        if not hasattr(model, "balanced"):
            raise ConfigError(f"FamO2O learns a family of policies: policy=family; got {type(model).__name__}")
        super().__init__(config, model, critic, augment)
        self.largest = config.largest
        self.family = cast(Family, self.model)

    def policy_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        advantage = self.advantage(data)
        coefficient = self.family.draw(len(advantage), self.generator)
        weight = offline_losses.awr_weight(advantage, 1.0 / coefficient, self.largest)
        imitation = self.family.family_loss(data.policy.weighted(weight), coefficient)
        chunk, chosen = self.family.balanced(data.observation, data.policy.goal)
        q = self.values_of(data.observation, data.policy.goal, chunk).amin(0)
        loss = imitation - q.mean() / losses.q_scale(q).clamp(min=1e-6)
        metrics = {"imitation": imitation, "policy_q": q.mean(), "coefficient": chosen.mean()}
        return loss, {name: value.detach() for name, value in metrics.items()} | {"weight": weight.mean()}
