"""Q-chunking's policy (2507.07969): the best, as the critics see it, of some chunks that an expressive policy samples.

A chunk holds whole actions; the gripper is one of their elements.

Shape letters: H horizon, A action, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.generative import GenerativeActor, GenerativeConfig
from policies.networks import PolicyConfig
from policies.parameters import load_parameters
from policies.processes import EDMProcess
from robot_rl.algorithms.networks import PolicyNetworks
from robot_rl.critics import CriticConfig, choose
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, FloatArray, Observation, ObservationSpec


@dataclass(frozen=True)
class QChunkingPolicyConfig(PolicyConfig):
    """Networks, and how chunks are chosen and played."""

    base: GenerativeConfig = field(default_factory=lambda: GenerativeConfig(EDMProcess(sigma_last=0.1)))
    """The behaviour policy whose samples are chosen from; chunks need more noise than single actions (`EDMProcess`)."""
    critics: CriticConfig = field(default_factory=lambda: CriticConfig(members=10))
    """Those that choose; the learner trains them, the actor is sent them. The best of many for two is too often their
    mistake."""
    horizon: int = 5
    """Actions of a chunk."""
    samples: int = 8
    """Chunks to choose from, for acting and for the backup. The paper's are 32: the best of more is more often a
    mistake of the critics, and sampling takes nearly all of an update's time."""
    pessimism: float = 1.0
    """Standard deviations of the critics below their mean at which a chunk is ranked for acting. What the critics do
    not agree on is not tried while there is something better known; they disagree on what has never been done."""
    execution: ExecutionConfig = field(default_factory=lambda: ExecutionConfig(execute=5))
    """How chunks are played."""

    def __post_init__(self) -> None:
        if not 1 <= self.execution.execute <= self.horizon or self.samples < 1 or not 0.0 <= self.pessimism < math.inf:
            raise ConfigError(
                "samples must be at least 1, pessimism finite and not negative, execution.execute at most the horizon; "
                f"got {self.samples}, {self.pessimism}, {self.execution.execute}, {self.horizon}"
            )

    def build_around(
        self,
        encoder: nn.Module,
        features: int,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int,
    ) -> PolicyNetworks:
        elements = self.horizon * action_spec.dim
        critics = self.critics.build(features, elements, seed)
        return PolicyNetworks(encoder, ChunkActor(self, features, elements), None, features, elements, critics=critics)

    def build_policy(self, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0) -> ChunkPolicy:
        source = BestChunkSource(self, observation_spec, action_spec, seed)
        return ChunkPolicy(source, self.execution, observation_spec, action_spec, seed=seed)


class ChunkActor(GenerativeActor):
    """Proposes flattened chunks; see `robot_rl.algorithms.q_chunking.ProposingActor`."""

    def __init__(self, config: QChunkingPolicyConfig, features: int, elements: int) -> None:
        super().__init__(config.base, features, elements)
        self.samples, self.horizon = config.samples, config.horizon


class BestChunkSource:
    """Implements `policies.sources.ChunkSource`."""

    history = 1

    def __init__(
        self, config: QChunkingPolicyConfig, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0
    ) -> None:
        self.horizon = config.horizon
        self._samples, self._pessimism = config.samples, config.pessimism
        self._networks = config.build_networks(observation_spec, action_spec, seed).requires_grad_(False)
        self._actor = cast(ChunkActor, self._networks.actor)

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take new parameters; `SpecError` and the old ones kept when they do not fit."""
        load_parameters(self._networks, tensors)

    def tell(self, goal: Observation, text: str, start: Observation) -> Observation | None:
        """Nothing; `ConfigError` for any goal."""
        if goal or text:
            raise ConfigError("this policy knows no goals; `robot-rl imitate` learns one that does")
        return None

    @torch.inference_mode()
    def sample(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """The best chunk (H, A) of those that begin with the prefix."""
        networks = self._networks
        features = networks.encoder({key: torch.from_numpy(value) for key, value in observation.items()})
        first = torch.from_numpy(noise).unsqueeze(0)
        others = torch.randn((self._samples - 1, *noise.shape), generator=torch.Generator().manual_seed(seed))
        chunks = self._actor.propose(features, torch.cat([first, others]).flatten(1).unsqueeze(0))
        if prefix is not None:
            chunks.view(self._samples, *noise.shape)[:, : len(prefix)] = torch.from_numpy(prefix)
        assert networks.critics is not None
        return choose(networks.critics, features, chunks, self._pessimism).view(noise.shape).numpy()
