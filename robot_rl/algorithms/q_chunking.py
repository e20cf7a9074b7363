"""Q-chunking (2507.07969): reinforcement learning with a chunk of actions for an action.

The critics value (observation, chunk); as the whole chunk is given, the rewards of its steps are summed without bias,
and the value after it is weighed by discount^horizon. The policy is the best of many chunks that an expressive
behaviour policy samples. That one imitates what `is_demonstration` marks: demonstrations, interventions, and the
episodes that the policy ended alone and with success; the paper's imitates the whole replay, of which half is failures
at first. It begins before the critics do (`QChunkingConfig.imitation_updates`).

A chunk that crosses a takeover counts as it was played: the critics are told the person's actions, too. One that the
episode's end cuts short counts where the task ended; at a time limit it is not whole, and teaches its first actions
to the behaviour policy alone.

Shape letters: B batch, H horizon, A action, F features, K samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from robot_rl.algorithms.networks import Augment, PolicyNetworks, TensorBatch
from robot_rl.algorithms.off_policy import OffPolicy, OffPolicyConfig
from robot_rl.batch import Returns
from robot_rl.errors import ConfigError


class ProposingActor(Protocol):
    """What `networks.actor` must be; `policies.q_chunking` has it."""

    samples: int
    horizon: int

    def propose(self, features: Tensor, noise: Tensor) -> Tensor:
        """Flattened chunks (B, K, H A), without gradients, from unit Gaussian noise of that shape."""
        ...

    def imitation_loss(self, features: Tensor, action: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """0-d, over the elements of `action` (B, H A) where `mask` is 1."""
        ...


@dataclass(frozen=True)
class QChunkingConfig(OffPolicyConfig):
    """Hyperparameters; critics, horizon and the samples it acts by are the policy's."""

    actor_every: int = 1
    """Critic updates per update of the behaviour policy."""
    imitation_updates: int = 4000
    """Updates before all others in which the behaviour policy learns alone, from the demonstrations: they need no
    critics, so each takes a small part of a later one's time. The paper learns offline for a million."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.imitation_updates < 0:
            raise ConfigError(f"imitation_updates must not be negative, got {self.imitation_updates}")


class QChunking(OffPolicy):
    """Implements `robot_rl.algorithms.Algorithm`."""

    def __init__(self, config: QChunkingConfig, networks: PolicyNetworks, augment: Augment | None = None) -> None:
        """`networks` is taken over (moved to the device, trained in place)."""
        if networks.critics is None:
            raise ConfigError("Q-chunking acts by critics: its networks must have them, as policies.q_chunking's do")
        super().__init__(config, networks, networks.critics, augment)
        self.config: QChunkingConfig = config
        self._actor = cast(ProposingActor, networks.actor)

    @property
    def returns(self) -> Returns:
        return Returns(self._actor.horizon, self.config.discount, chunk=True)

    @property
    def imitation_updates(self) -> int:
        return self.config.imitation_updates

    def _next_value(self, data: TensorBatch, next_features: Tensor, next_target_features: Tensor) -> Tensor:
        noise = self._noise(len(next_features), self._actor.samples, self.networks.arm_dim)
        return self._best_value(next_target_features, self._actor.propose(next_features, noise))

    def _policy_loss(self, data: TensorBatch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        assert data.known is not None
        mask = data.known * data.is_demonstration.unsqueeze(1)
        loss = self._actor.imitation_loss(features, data.arm_action, mask, self._generator)
        return loss, {"imitation_loss": loss.detach()}
