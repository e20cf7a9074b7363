"""Networks of two levels (HIQL, 2307.11949; OTA, 2505.12737): values of goals by a representation, and the policy.

A subgoal is told by its representation phi([s; w]), a point on a sphere that V learns; the policy's high level proposes
one from the goal, its low level acts towards it.

Shape letters: B batch, T observations, F features, R representation, N members, O outputs, H horizon, A action.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.chunk_net import ChunkNet, Request, mlp, with_prefix
from policies.chunking import ExecutionConfig
from policies.inputs import InputConfig, InputTokens, Moments
from policies.normalizer import Normalizer
from robot_rl import losses
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY, ActionSpec, ObservationSpec
from robot_rl.value_heads import ClassHead, ScalarHead


def on_sphere(values: Tensor) -> Tensor:
    """`values` (..., R) scaled to length sqrt(R)."""
    return functional.normalize(values, dim=-1) * math.sqrt(values.shape[-1])


def _check_inputs(inputs: InputConfig) -> None:
    if not inputs.goal or inputs.words is not None:
        raise ConfigError(f"two levels are told goals, by observations: goal=true and no words; got {inputs}")


@dataclass(frozen=True)
class HIQLCriticConfig:
    """Networks of V."""

    inputs: InputConfig = field(default_factory=InputConfig)
    """What it sees: the present observation and a goal."""
    horizon: int = 1
    """Steps that V is backed up over, and that the low level's actions are judged by: those of its chunks."""
    representation: int = 10
    """Dimensions of a goal's representation."""
    levels: int = 1
    """1: one V for both levels (HIQL); 2: one for each (OTA)."""
    members: int = 2
    """Of the ensemble of V, which share the representation."""
    hidden: tuple[int, ...] = (512, 512, 512)
    """Hidden layers, each with LayerNorm, of V and of the representation."""
    activation: str = "silu"
    """tanh, silu or relu."""
    head: ScalarHead | ClassHead = field(default_factory=ScalarHead)
    """Regression or classification of values."""

    def __post_init__(self) -> None:
        _check_inputs(self.inputs)
        if min(self.horizon, self.representation, self.members) < 1 or self.levels not in (1, 2):
            raise ConfigError(f"need horizon, representation and members of at least 1, levels of 1 or 2; got {self}")
        if self.inputs.history != 1:
            raise ConfigError(f"a critic sees one observation: inputs.history=1, got {self.inputs.history}")

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> HIQLCriticNet:
        return HIQLCriticNet(self, observation_spec)


class GoalValueNet(nn.Module):
    """Implements `robot_rl.algorithms.hiql.GoalValues`. V and the representation share an encoder of images."""

    def __init__(self, config: HIQLCriticConfig, observation_spec: ObservationSpec) -> None:
        super().__init__()
        self.inputs = InputTokens(config.inputs, observation_spec)
        features, seen = self.inputs.features * self.inputs.tokens, self.inputs.features * self.inputs.seen
        self._represent = EnsembleMLP(1, features, config.hidden, config.representation, config.activation)
        self._v = EnsembleMLP(
            config.members, seen + config.representation, config.hidden, config.head.outputs, config.activation
        )

    def represent(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor]) -> Tensor:
        """phi([s; g]) (B, R) of observations each (B, T, ...), of which the last counts, and goals (B, ...)."""
        return self._both(observation, goal)[1]

    def values(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor]) -> Tensor:
        """Outputs (N, B, O) of V(s, phi([s; g]))."""
        return self._v(*self._both(observation, goal))

    def _both(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features (B, F) of the observation alone, and the goal's representation (B, R)."""
        tokens = self.inputs({key: value[:, -1:] for key, value in observation.items()}, goal)
        represented = self._represent(tokens.flatten(1)).squeeze(0)
        return tokens[:, : self.inputs.seen].flatten(1), on_sphere(represented)


class HIQLCriticNet(nn.Module):
    """Implements `robot_rl.algorithms.hiql.TwoLevelCritic`."""

    def __init__(self, config: HIQLCriticConfig, observation_spec: ObservationSpec) -> None:
        super().__init__()
        self.head, self.representation = config.head, config.representation
        self._levels = nn.ModuleList(GoalValueNet(config, observation_spec) for _ in range(config.levels))

    @property
    def low(self) -> GoalValueNet:
        return cast(GoalValueNet, self._levels[0])

    @property
    def high(self) -> GoalValueNet:
        return cast(GoalValueNet, self._levels[-1])

    def fit_normalizers(self, moments: Moments) -> None:
        """Take mean and standard deviation of the data."""
        for net in {self.low, self.high}:
            if net.inputs.normalizer is not None:
                net.inputs.normalizer.fit(*moments[STATE_KEY])


@dataclass(frozen=True)
class HIQLPolicyConfig:
    """The policy's networks."""

    inputs: InputConfig = field(default_factory=InputConfig)
    """Observations and goals."""
    horizon: int = 1
    """Actions of a chunk; OGBench's HIQL has one."""
    representation: int = 10
    """Dimensions of a subgoal's representation: those of the critic."""
    hidden: tuple[int, ...] = (512, 512, 512)
    """Hidden layers of either level."""
    execution: ExecutionConfig = field(default_factory=lambda: ExecutionConfig(execute=1))
    """How chunks are played; with each a subgoal is proposed anew."""

    sees_future = False

    def __post_init__(self) -> None:
        _check_inputs(self.inputs)
        if min(self.horizon, self.representation, *self.hidden, len(self.hidden)) < 1:
            raise ConfigError(f"need horizon and representation of at least 1, and hidden layers; got {self}")

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> HIQLPolicyNet:
        return HIQLPolicyNet(self, observation_spec, action_spec)


class HIQLPolicyNet(ChunkNet):
    """Implements `robot_rl.algorithms.hiql.TwoLevelActor`. Gaussians of unit spread, whose means act."""

    def __init__(self, config: HIQLPolicyConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__(InputTokens(config.inputs, observation_spec), Normalizer(action_spec.dim), config.horizon)
        self.representation = config.representation
        features, seen = self.inputs.features * self.inputs.tokens, self.inputs.features * self.inputs.seen
        self._high = mlp(features, config.hidden, config.representation)
        self._low = mlp(seen + config.representation, config.hidden, config.horizon * action_spec.dim)

    def propose_subgoal(self, tokens: Tensor) -> Tensor:
        """The high level's mean (B, R), not yet on the sphere, from the tokens (B, C, F) of observation and goal."""
        return self._high(tokens.flatten(1))

    def reach(self, tokens: Tensor, subgoal: Tensor) -> Tensor:
        """The low level's mean chunk (B, H, A), scaled, towards subgoals (B, R); of the tokens it sees no goal."""
        seen = tokens[:, : self.inputs.seen].flatten(1)
        return self._low(torch.cat([seen, subgoal], -1)).unflatten(-1, (self.horizon, -1))

    def level_losses(self, windows: TensorWindows, subgoal: Tensor, high_weight: Tensor) -> tuple[Tensor, Tensor]:
        """As `TwoLevelActor.level_losses`."""
        tokens = self.inputs(windows.observation, windows.goal)
        high = losses.cloning_loss(self.propose_subgoal(tokens), subgoal, high_weight)
        low = losses.cloning_loss(self.reach(tokens, subgoal), self.actions(windows.action), windows.mask)
        return high, low

    def answer(self, request: Request) -> Tensor:
        """The mean chunk towards the mean subgoal, whatever the noise."""
        tokens = self.inputs(request.observation, request.goal, request.told)
        scaled = self.reach(tokens, on_sphere(self.propose_subgoal(tokens)))
        return with_prefix(self.actions.inverse(scaled), request.prefix, request.prefix_mask)
