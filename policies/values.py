"""Critics of action chunks: values of (observation, goal, actions to come), and of (observation, goal) alone.

Shape letters: B batch, T observations, h valued actions, A action, N members, F features, K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from policies.inputs import InputConfig, InputTokens, Moments
from policies.normalizer import Normalizer
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY, ActionSpec, ObservationSpec
from robot_rl.value_heads import ClassHead, ScalarHead


@dataclass(frozen=True)
class ChunkCriticConfig:
    """Networks of a critic."""

    inputs: InputConfig = field(default_factory=InputConfig)
    """What it sees: the present observation, and a goal or none."""
    horizon: int = 1
    """Actions that are valued together: as many as a policy plays of a chunk (Q-chunking, 2507.07969)."""
    members: int = 2
    """Of the ensemble of Q; steering by a lower bound wants more."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers, each with LayerNorm, of Q and V."""
    activation: str = "silu"
    """tanh, silu or relu."""
    head: ScalarHead | ClassHead = field(default_factory=ScalarHead)
    """Regression or classification of values."""

    def __post_init__(self) -> None:
        if min(self.horizon, self.members) < 1:
            raise ConfigError(f"horizon and members of a critic must be at least 1; got {self}")
        if self.inputs.history != 1:
            raise ConfigError(f"a critic sees one observation: inputs.history=1, got {self.inputs.history}")
        if self.inputs.words is not None:
            raise ConfigError("critics are told goals by observations: inputs.words is of policies")

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> ChunkCriticNet:
        return ChunkCriticNet(self, observation_spec, action_spec)


class ChunkCriticNet(nn.Module):
    """Implements `robot_rl.algorithms.offline.Critic`. Q and V share an encoder."""

    def __init__(self, config: ChunkCriticConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__()
        self.config, self.head = config, config.head
        self.horizon, self.members = config.horizon, config.members
        self.inputs = InputTokens(config.inputs, observation_spec)
        self.told = self.inputs.has_goal
        self.actions = Normalizer(action_spec.dim)
        self.feature_dim = features = self.inputs.tokens * self.inputs.features
        outputs = config.head.outputs
        self._q = EnsembleMLP(
            config.members, features + config.horizon * action_spec.dim, config.hidden, outputs, config.activation
        )
        self._v = EnsembleMLP(1, features, config.hidden, outputs, config.activation)

    def fit_normalizers(self, moments: Moments) -> None:
        """Take mean and standard deviation of the data."""
        if self.inputs.normalizer is not None:
            self.inputs.normalizer.fit(*moments[STATE_KEY])
        self.actions.fit(*moments["action"])

    def features(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor]) -> Tensor:
        """Observations each (B, T, ...), of which the last counts, and goals (B, ...): (B, F)."""
        present = {key: value[:, -1:] for key, value in observation.items()}
        return self.inputs(present, goal).flatten(1)

    def q(self, features: Tensor, actions: Tensor, frozen: bool = False) -> Tensor:
        """Outputs (N, B, O) for features (B, F) and chunks (B, >= h, A), of which the first h actions count.

        `frozen` passes gradients to the inputs alone.
        """
        chosen = self.actions(actions[:, : self.horizon]).flatten(1)
        return self._q(features, chosen, frozen=frozen)

    def v(self, features: Tensor) -> Tensor:
        """Outputs (B, O) for features (B, F)."""
        return self._v(features).squeeze(0)

    @torch.no_grad()
    def values(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor], chunks: Tensor) -> Tensor:
        """Q (N, K) of chunks (K, >= h, A) from one observation (1, T, ...) under one goal (1, ...).

        The observation is encoded once.
        """
        features = self.features(observation, goal)
        return self.head.value(self.q(features.expand(len(chunks), -1), chunks))
