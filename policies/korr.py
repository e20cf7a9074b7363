"""KORR's policy (2509.12562): a frozen policy's action, corrected in view of what it would bring about.

Shape letters: B batch, F features, S seen features, A action elements, L latent, K steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from policies.base import FrozenBase, load_base, pin_base
from policies.gaussian import GaussianActor
from policies.networks import StepConfig, StepPolicy
from robot_rl import losses
from robot_rl.algorithms.networks import PolicyNetworks
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, FloatArray, ObservationSpec


@dataclass(frozen=True)
class KORRPolicyConfig(StepConfig):
    """Networks of the correction; `hidden` and `activation` are those of lifting and residual policy.

    The gripper is an element of the base's action as any other, and no choice of its own.
    """

    base: Path | None = None
    """The run of `robot-rl imitate` (or one of its checkpoints) whose policy is corrected."""
    latent: int = 64
    """Learned elements of the latent, beside all that is seen."""
    reach: float = 0.1
    """Largest correction of an element of the action, the paper's; 0 leaves the base as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent < 1 or not 0.0 <= self.reach <= 2.0:
            raise ConfigError(f"latent must be at least 1, reach in [0, 2]; got {self.latent} and {self.reach}")

    def pinned(self) -> KORRPolicyConfig:
        return self if self.base is None else replace(self, base=pin_base(self.base))

    def build_around(
        self,
        encoder: nn.Module,
        features: int,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int,
    ) -> PolicyNetworks:
        if self.base is None:
            raise ConfigError("KORR corrects a policy: policy.base=RUN, a run of `robot-rl imitate`")
        actions = action_spec.dim
        seeing = BaseEncoder(encoder, load_base(self.base, observation_spec, action_spec), actions, seed)
        actor = KORRActor(self, features, actions)
        return PolicyNetworks(seeing, actor, None, features + actions, actions)

    def build_policy(self, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0) -> KORRPolicy:
        return KORRPolicy(self, observation_spec, action_spec, seed)


class BaseEncoder(nn.Module):
    """Implements `robot_rl.algorithms.korr.BaseEncoder`. The base begins with the same noise always."""

    noise: Tensor

    def __init__(self, encoder: nn.Module, base: FrozenBase, actions: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.base = encoder, base
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("noise", torch.randn((1, base.horizon, actions), generator=generator))

    def see(self, observation: Mapping[str, Tensor]) -> Tensor:
        """(B, S)."""
        return self.encoder(observation)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """What is seen and the base's action: (B, S + A)."""
        return torch.cat([self.see(observation), self.base.act(observation, self.noise)], -1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BaseEncoder:
        self.base.move(fn)
        return super()._apply(fn, recurse)


class KORRActor(nn.Module):
    """Implements `robot_rl.algorithms.korr.ResidualActor`. At first nothing moves by itself: A is one, B zero."""

    def __init__(self, config: KORRPolicyConfig, seen: int, actions: int) -> None:
        super().__init__()
        self.reach, self._parts = config.reach, (seen, actions)
        size = seen + config.latent
        self.lifting = EnsembleMLP(1, seen, config.hidden, config.latent, config.activation)
        self.a = nn.Parameter(torch.eye(size))
        self.b = nn.Parameter(torch.zeros(size, actions))
        self.residual = GaussianActor(size, actions, config)

    def lift(self, seen: Tensor) -> Tensor:
        """Latents (B, L) of what is seen (B, S), which they begin with."""
        return torch.cat([seen, self.lifting(seen).squeeze(0)], -1)

    def predict(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Latents (B, K, L) after each of the actions (B, K, A): z' = A z + B a."""
        found = []
        for action in actions.unbind(1):
            latent = latent @ self.a.T + action @ self.b.T
            found.append(latent)
        return torch.stack(found, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, A) of the correction before the squash, from the imagined latent alone."""
        seen, base = features.split(self._parts, -1)
        return self.residual(self.predict(self.lift(seen), base.unsqueeze(1)).squeeze(1))

    def correct(self, features: Tensor, direction: Tensor) -> Tensor:
        """The base's action moved along `direction` (B, A): (B, A)."""
        return losses.edit(features[:, -self._parts[1] :], direction, self.reach)


class KORRPolicy(StepPolicy):
    """Acts by the base and the mean of the corrections, or samples of them."""

    def move(self, features: Tensor) -> FloatArray:
        actor = cast(KORRActor, self._networks.actor)
        mean, std = actor(features)
        noise = np.zeros(mean.shape) if self.deterministic else self._rng.standard_normal(mean.shape)
        direction = (mean + std * torch.as_tensor(noise, dtype=mean.dtype)).tanh()
        return actor.correct(features, direction).squeeze(0).numpy()
