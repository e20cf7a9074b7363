"""EXPO (2507.07986): an expressive base policy that only imitates, and a small one that edits its actions.

The best of the base's samples and of their edits, as the critics see it, acts and is what the backup values. So the
gradient of Q never goes through the base's many steps: the editor alone climbs the critics, within its reach.

The base goes on imitating what `is_demonstration` marks: demonstrations, interventions, and the episodes that the
policy ended alone and with success. The paper's imitates the whole replay; with sparse rewards and few
demonstrations half of that are failures, which the base would offer as candidates. The successes hold edited
actions, so the base follows the edits, and its reach does not bound what is learned in the end.

Shape letters: B batch, N critics, A arm action elements, F features, K candidates, twice the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from robot_rl.algorithms.maximum_entropy import MaximumEntropy, MaximumEntropyConfig
from robot_rl.algorithms.networks import Augment, PolicyNetworks, TensorBatch
from robot_rl.errors import ConfigError


class EditingActor(Protocol):
    """What `networks.actor` must be; `policies.expo` has it."""

    samples: int

    def propose(self, features: Tensor, noise: Tensor) -> Tensor:
        """Samples (B, K / 2, A) of the base, without gradients."""
        ...

    def candidates(self, features: Tensor, base: Tensor, noise: Tensor | None) -> Tensor:
        """Samples and their edits (B, K, A), without gradients."""
        ...

    def edit(self, features: Tensor, action: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Edited actions (B, A) and the log density (B,) of their edits."""
        ...

    def imitation_loss(self, features: Tensor, action: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """The base's (0-d), over the rows where `mask` (B, 1) is 1."""
        ...


@dataclass(frozen=True)
class EXPOConfig(MaximumEntropyConfig):
    """Hyperparameters; critics, number of samples and reach are the policy's, which acts with them."""

    actor_every: int = 1
    """Critic updates per update of base and editor: an imitator with few demonstrations needs all there are."""


class EXPO(MaximumEntropy):
    """Implements `robot_rl.algorithms.Algorithm`."""

    def __init__(self, config: EXPOConfig, networks: PolicyNetworks, augment: Augment | None = None) -> None:
        """`networks` is taken over (moved to the device, trained in place)."""
        if networks.critics is None:
            raise ConfigError("EXPO acts by critics: its networks must have them, as policies.expo's do")
        super().__init__(config, networks, networks.critics, augment)
        self._actor = cast(EditingActor, networks.actor)

    def _next_value(self, data: TensorBatch, next_features: Tensor, next_target_features: Tensor) -> Tensor:
        shape = len(next_features), self._actor.samples, self.networks.arm_dim
        base = self._actor.propose(next_features, self._noise(*shape))
        candidates = self._actor.candidates(next_features, base, self._noise(*shape))
        return self._best_value(next_target_features, candidates)

    def _policy_loss(self, data: TensorBatch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        shape = len(features), 1, self.networks.arm_dim
        base = self._actor.propose(features, self._noise(*shape)).squeeze(1)
        edited, log_prob = self._actor.edit(features, base, self._noise(*base.shape))
        loss, metrics = self._climb(self.critics(features, edited, frozen=True), log_prob)
        mask = data.is_demonstration.unsqueeze(1)
        imitation = self._actor.imitation_loss(features, data.arm_action, mask, self._generator)
        metrics |= {"imitation_loss": imitation.detach(), "temperature": self.temperature[0]}
        # base, editor and temperature: none depends on the others' parameters
        return loss + imitation + self._temperature_loss(log_prob), metrics
