"""Critics: values of (features, arm action) and of discrete gripper choices.

Shape letters: N members, B batch, F features, A arm action elements, K choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl import losses
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class CriticConfig:
    """An ensemble of critics of (features, arm action)."""

    members: int = 2
    """Critics; RLPD's own experiments use 10."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of each."""
    activation: str = "tanh"
    """tanh, silu or relu."""

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ConfigError(f"members must be at least 1, got {self.members}")

    def build(self, features: int, actions: int, seed: int) -> CriticEnsemble:
        """With weights drawn from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CriticEnsemble(self.members, features, actions, self.hidden, self.activation)


class CriticEnsemble(nn.Module):
    """Q(features, arm action) of N independent critics."""

    def __init__(
        self, members: int, features: int, actions: int, hidden: Sequence[int], activation: str = "tanh"
    ) -> None:
        super().__init__()
        self.members = members
        self.net = EnsembleMLP(members, features + actions, hidden, 1, activation)

    def forward(self, features: Tensor, action: Tensor, chosen: Tensor | None = None, frozen: bool = False) -> Tensor:
        """Features (B, F), arm action (B, A): values (N, B), of the `chosen` members only if given.

        `frozen` is for the actor's loss: gradients reach the inputs, not the critics.
        """
        return self.net(features, action, chosen=chosen, frozen=frozen).squeeze(-1)


def for_each(features: Tensor, candidates: int) -> Tensor:
    """Features (B, F) once for each of so many candidates: (B K, F), in the order of candidates (B, K, A) flattened."""
    return features.repeat_interleave(candidates, 0)


def choose(critics: CriticEnsemble, features: Tensor, candidates: Tensor, pessimism: float = 0.0) -> Tensor:
    """The one (B, A) of the `candidates` (B, K, A) that is worth most by the critics; features (B, F).

    Worth is the mean of the critics less `pessimism` times their standard deviation.
    """
    rows, count, _ = candidates.shape
    values = critics(for_each(features, count), candidates.flatten(0, 1))
    value = values.mean(0) - pessimism * values.std(0, correction=0)
    return losses.best_candidate(candidates, value.view(rows, count))


class DiscreteCritic(nn.Module):
    """Q(features, choice) of every discrete choice; in imitation the same head gives logits."""

    def __init__(self, features: int, choices: int, hidden: Sequence[int], activation: str = "tanh") -> None:
        super().__init__()
        self.net = EnsembleMLP(1, features, hidden, choices, activation)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F): values (B, K)."""
        return self.net(features).squeeze(0)
