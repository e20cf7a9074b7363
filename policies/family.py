"""A family of cloned policies, one for every balance between imitation and greed, and the model that chooses (FamO2O).

2310.17966. Beside observation and goal the network is told its coefficient, as sines.

Shape letters: B batch, H horizon, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from policies.chunk_net import mlp
from policies.denoisers import LevelSines
from policies.gcbc import GCBCConfig, GCBCModel
from robot_rl import losses
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class FamilyConfig(GCBCConfig):
    """Networks, and how greedy the members are."""

    coefficients: tuple[float, float] = (2.0, 20.0)
    """Smallest and largest coefficient of the advantage, 1 / AWR's temperature: in units of 1 / return."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.coefficients[0] < self.coefficients[1]:
            raise ConfigError(f"coefficients must be positive and rise, got {self.coefficients}")

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> FamilyModel:
        return FamilyModel(self, observation_spec, action_spec)


class FamilyModel(GCBCModel):
    """Implements `robot_rl.algorithms.famo2o.Family` and `offline.Actor`."""

    def __init__(self, config: FamilyConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__(config, observation_spec, action_spec)
        self._low, self._high = config.coefficients
        features = self.inputs.features * self.inputs.tokens
        self.sines = LevelSines()
        outputs = config.horizon * action_spec.dim
        self.net = mlp(features + LevelSines.features, config.hidden, outputs)
        self.balance = mlp(features, config.hidden, 1)

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        share = torch.rand(batch, generator=generator, device=generator.device)
        return self._low + (self._high - self._low) * share

    def family_loss(self, windows: TensorWindows, coefficient: Tensor) -> Tensor:
        features = self._features(windows.observation, windows.goal)
        mean = self.net(self._told(features, coefficient)).unflatten(-1, (self.horizon, -1))
        return losses.cloning_loss(mean, self.actions(windows.action), windows.mask)

    def balanced(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        features = self._features(observation, goal).detach()
        chosen = self._choose(features)
        frozen = {name: value.detach() for name, value in self.net.named_parameters()}
        mean = functional_call(self.net, frozen, (self._told(features, chosen),))
        return self.actions.inverse(mean.unflatten(-1, (self.horizon, -1))), chosen

    def forward(
        self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor], told: Tensor | None = None
    ) -> Tensor:
        """Mean chunk (B, H, A), scaled, of the member that the balance model chooses."""
        features = self._features(observation, goal, told)
        return self.net(self._told(features, self._choose(features))).unflatten(-1, (self.horizon, -1))

    def _features(
        self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor], told: Tensor | None = None
    ) -> Tensor:
        return self.inputs(observation, goal, told).flatten(1)

    def _choose(self, features: Tensor) -> Tensor:
        """Coefficients (B,)."""
        return self._low + (self._high - self._low) * self.balance(features).squeeze(-1).sigmoid()

    def _told(self, features: Tensor, coefficient: Tensor) -> Tensor:
        """Features (B, F) beside the coefficient (B,), scaled to [0, 1]."""
        share = (coefficient - self._low) / (self._high - self._low)
        return torch.cat([features, self.sines(share)], -1)
