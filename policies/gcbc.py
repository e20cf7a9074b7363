"""Goal-conditioned behaviour cloning, the baseline: a Gaussian of constant spread about a network's mean.

As OGBench's GCBC (2410.20092; impls/agents/gcbc.py): an MLP of 512 x 3 with GELU, log-likelihood with unit
spread (so squared error), the mean acts. With a horizon above 1 it predicts a chunk in the same way.

Shape letters: B batch, T observations, H horizon, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from policies.chunk_net import ChunkNet, Request, mlp, with_prefix
from policies.chunking import ExecutionConfig
from policies.inputs import InputConfig, InputTokens, Moments
from policies.normalizer import Normalizer
from robot_rl import losses
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class GCBCConfig:
    """The network."""

    inputs: InputConfig = field(default_factory=lambda: InputConfig(goal_difference=False))
    """Observations and goals."""
    horizon: int = 1
    """Actions of a chunk; OGBench's GCBC has one."""
    hidden: tuple[int, ...] = (512, 512, 512)
    """Hidden layers."""
    normalize: bool = False
    """Whether states and actions are scaled by the data's statistics; OGBench's GCBC takes them as they are."""
    execution: ExecutionConfig = field(default_factory=lambda: ExecutionConfig(execute=1))
    """How chunks are played."""

    sees_future = False

    def __post_init__(self) -> None:
        if self.horizon < 1 or not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"need a horizon of at least 1 and hidden layers; got {self.horizon}, {self.hidden}")

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> GCBCModel:
        return GCBCModel(self, observation_spec, action_spec)


class GCBCModel(ChunkNet):
    """Implements `robot_rl.algorithms.imitation.ChunkModel` as well."""

    gives_mean = True
    """Whatever the noise, it proposes the mean of a Gaussian."""

    def __init__(self, config: GCBCConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__(InputTokens(config.inputs, observation_spec), Normalizer(action_spec.dim), config.horizon)
        self.config = config
        outputs = config.horizon * action_spec.dim
        self.net = mlp(self.inputs.features * self.inputs.tokens, config.hidden, outputs)

    def fit_normalizers(self, moments: Moments) -> None:
        """Take mean and standard deviation of the data, if it normalizes."""
        if self.config.normalize:
            super().fit_normalizers(moments)

    def forward(
        self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor], told: Tensor | None = None
    ) -> Tensor:
        """Mean chunk (B, H, A), scaled."""
        return self.net(self.inputs(observation, goal, told).flatten(1)).unflatten(-1, (self.horizon, -1))

    def imitation_loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood under unit spread, up to a constant, over the actions that exist."""
        mean = self(windows.observation, windows.goal)
        return losses.cloning_loss(mean, self.actions(windows.action), windows.mask), {}

    def answer(self, request: Request) -> Tensor:
        """The mean chunk, whatever the noise."""
        chunk = self.actions.inverse(self(request.observation, request.goal, request.told))
        return with_prefix(chunk, request.prefix, request.prefix_mask)
