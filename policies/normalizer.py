"""Scaling of states and actions that travels with the checkpoint.

Shape letters: D elements.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SMALLEST_STD = 1e-3  # an element that hardly moves is not blown up: noise of the next robot would dominate


class Normalizer(nn.Module):
    """(x - mean) / std * target, and back; per element (D,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, target_std: float = 1.0) -> None:
        """Identity (up to `target_std`) until `fit`, or until a checkpoint is loaded."""
        super().__init__()
        self.target_std = target_std
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def fit(self, mean: NDArray[np.floating], std: NDArray[np.floating]) -> None:
        """Take the statistics (D,) of the data."""
        still = std < SMALLEST_STD
        self.mean.copy_(torch.as_tensor(mean))
        self.std.copy_(torch.as_tensor(np.where(still, 1.0, std)))

    def fit_range(self, low: NDArray[np.floating], high: NDArray[np.floating]) -> None:
        """Scale the least and greatest (D,) of the data to -1 and 1."""
        self.fit((low + high) / 2.0, (high - low) / 2.0)
        self.std.mul_(self.target_std)

    def forward(self, values: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return (values - self.mean) * (self.target_std / self.std)

    def inverse(self, values: Tensor) -> Tensor:
        return values * (self.std / self.target_std) + self.mean
