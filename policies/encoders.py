"""Observation encoders: the state as it is or through a dense layer, each camera through a small CNN.

Shape letters: B batch, S state, H W image, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise, repeat

import torch
from torch import Tensor, nn

from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY

PATCH_PX = 4  # the first convolution sees patches that do not overlap: most of the cost is in the first layers


class StateEncoder(nn.Module):
    """The state itself, or a dense layer of it (HIL-SERL's proprioception: dense, LayerNorm, tanh)."""

    def __init__(self, state_dim: int, features: int | None = None) -> None:
        super().__init__()
        self.feature_dim = state_dim if features is None else features
        self.layer = None if features is None else EnsembleMLP(1, state_dim, (features,), None)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """`state` (B, S): (B, F)."""
        state = observation[STATE_KEY]
        return state if self.layer is None else self.layer(state).squeeze(0)


class ImageEncoder(nn.Module):
    """One camera: 4x4 patches, 3x3 convolutions (the first with stride 2), a bottleneck of dense, LayerNorm, tanh."""

    def __init__(self, image_hw: tuple[int, int], channels: Sequence[int], features: int) -> None:
        super().__init__()
        height, width = image_hw
        layers: list[nn.Module] = []
        shapes = chain([(PATCH_PX, PATCH_PX), (3, 2)], repeat((3, 1)))
        for (inputs, outputs), (kernel, stride) in zip(pairwise((3, *channels)), shapes, strict=False):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride), nn.ReLU()]
            height, width = ((size - kernel) // stride + 1 for size in (height, width))
        if min(height, width) < 1:
            raise ConfigError(f"images of {image_hw} are too small for {len(channels)} convolutions")
        self.convolutions = nn.Sequential(*layers)
        self.bottleneck = EnsembleMLP(1, height * width * channels[-1], (features,), None)

    def forward(self, images: Tensor) -> Tensor:
        """`images` (B, H, W, 3) uint8: (B, F)."""
        # (B, H, W, 3) in memory is what PyTorch calls channels_last, the fast layout: no copy but the conversion.
        values = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        maps = self.convolutions(values.mul_(1.0 / 255.0).sub_(0.5))
        return self.bottleneck(maps.flatten(1)).squeeze(0)


class PixelEncoder(nn.Module):
    """Every camera through an `ImageEncoder` of its own, beside the encoded state if there is one."""

    def __init__(self, cameras: Mapping[str, ImageEncoder], state: StateEncoder | None) -> None:
        """`cameras` by observation key; each must have been built with the same number of features."""
        super().__init__()
        self._keys = tuple(cameras)
        self.cameras = nn.ModuleList(cameras.values())
        self.state = state

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Images (B, H, W, 3) uint8 and `state` (B, S): (B, F)."""
        parts = [camera(observation[key]) for key, camera in zip(self._keys, self.cameras, strict=True)]
        if self.state is not None:
            parts.append(self.state(observation))
        return torch.cat(parts, -1)
