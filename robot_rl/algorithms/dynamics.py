"""A model of the dynamics: where a chunk of actions leads, learned by regression.

Shape letters: B batch, N steps of the data, h actions, A action, S state.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robot_rl.ensemble import EnsembleMLP

SMALLEST_STD = 1e-3


class Dynamics(nn.Module):
    """Predicts the change of the state, in units of its spread."""

    mean: Tensor
    std: Tensor
    change_mean: Tensor
    change_std: Tensor

    def __init__(
        self, states: NDArray[np.floating], changes: NDArray[np.floating], elements: int, hidden: tuple[int, ...]
    ) -> None:
        """Scaled by the data's `states` (N, S) and their `changes` (N, S); chunks have `elements` = h A."""
        super().__init__()
        for name, one in (("", states), ("change_", changes)):
            std = one.std(0)
            self.register_buffer(f"{name}mean", torch.from_numpy(one.mean(0)))
            self.register_buffer(
                f"{name}std", torch.from_numpy(np.where(std < SMALLEST_STD, 1.0, std)).to(torch.float32)
            )
        size = states.shape[1]
        self._net = EnsembleMLP(1, size + elements, hidden, size, "silu")

    def forward(self, state: Tensor, chunk: Tensor) -> Tensor:
        """The state (B, S) after chunks (B, h, A) from states (B, S)."""
        return state + self.change_mean + self.change_std * self._change(state, chunk)

    def loss(self, state: Tensor, chunk: Tensor, following: Tensor, mask: Tensor) -> Tensor:
        """Squared error of the scaled change (0-d), over the rows where `mask` (B,) is 1."""
        wanted = (following - state - self.change_mean) / self.change_std
        error = (self._change(state, chunk) - wanted).square().mean(1)
        return (error * mask).sum() / mask.sum().clamp(min=1.0)

    def _change(self, state: Tensor, chunk: Tensor) -> Tensor:
        return self._net((state - self.mean) / self.std, chunk.flatten(1)).squeeze(0)
