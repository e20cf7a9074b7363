"""Networks that estimate from a noisy action chunk what is in it, given observations and a goal.

Shape letters: B batch, H horizon, A action, I inputs of a step, C tokens of context, F features, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from robot_rl.errors import ConfigError

FREQUENCIES = 16  # of the noise level's embedding
FASTEST_RAD = 100.0


class Denoiser(nn.Module):
    """Called as a module: (noisy (B, H, I), c_noise () or (B,), context (B or 1, C, F)) -> F (B, H, A).

    Each step of the noisy chunk has I inputs: its A elements, and further ones if the policy has any.
    """

    def at_levels(self, c_noise: Tensor, context: Tensor) -> Sequence[Callable[[Tensor], Tensor]]:
        """For each level of c_noise (S,) the network of the noisy chunk alone."""
        return [partial(self, c_noise=level, context=context) for level in c_noise]


@dataclass(frozen=True)
class Shape:
    """What a denoiser has to fit."""

    tokens: int
    """Of the context."""
    features: int
    """Of each of these tokens."""
    horizon: int
    inputs: int
    """Of each step of the noisy chunk."""
    actions: int
    """Elements of an action."""


@dataclass(frozen=True)
class MLPConfig:
    """Residual multi-layer perceptron over everything at once (as 2304.10573's actor): the fastest on a CPU."""

    width: int = 512
    """Of the trunk; blocks widen it by two."""
    blocks: int = 3
    """Residual blocks."""
    dropout: float = 0.0
    """In every block, while training."""

    def __post_init__(self) -> None:
        if min(self.width, self.blocks) < 1 or not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"width and blocks must be at least 1, dropout lie in [0, 1); got {self}")

    def build(self, shape: Shape) -> Denoiser:
        return MLPDenoiser(self, shape)


@dataclass(frozen=True)
class TransformerConfig:
    """BESO's kind: noise level, observations, goal and actions are tokens (2304.02532, block-push: 4, 12, 240)."""

    width: int = 240
    """Of a token."""
    layers: int = 4
    """Pre-LayerNorm blocks."""
    heads: int = 12
    """Of the attention; divide the width."""
    dropout: float = 0.05
    """Of attention and residual branches, while training."""
    causal: bool = False
    """Whether an action sees only those before it."""

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads) < 1 or not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"width, layers and heads must be at least 1, dropout lie in [0, 1); got {self}")
        if self.width % self.heads:
            raise ConfigError(f"heads must divide the width; got {self.heads} and {self.width}")

    def build(self, shape: Shape) -> Denoiser:
        return TransformerDenoiser(self, shape)


class LevelSines(nn.Module):
    """c_noise to sines of fixed frequencies."""

    frequencies: Tensor
    features = 2 * FREQUENCIES

    def __init__(self) -> None:
        super().__init__()
        steps = torch.linspace(0.0, math.log(FASTEST_RAD), FREQUENCIES)
        self.register_buffer("frequencies", steps.exp(), persistent=False)

    def forward(self, c_noise: Tensor) -> Tensor:
        """() or (B,): (1 or B, features)."""
        angles = c_noise.reshape(-1, 1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


class LevelEmbedding(nn.Module):
    """c_noise to a vector, through sines."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sines = LevelSines()
        self.net = nn.Sequential(nn.Linear(LevelSines.features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, c_noise: Tensor) -> Tensor:
        """() or (B,): (1 or B, W)."""
        return self.net(self.sines(c_noise))


class _Residual(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width),
            nn.Dropout(dropout),
            nn.Linear(width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
        )

    def forward(self, values: Tensor) -> Tensor:
        # as `self.net` would, without its modules' calls: with one chunk they take as long as the products
        norm, dropout, widen, _, narrow = cast(Any, self.net)
        hidden = functional.layer_norm(values, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        if self.training:
            hidden = dropout(hidden)
        hidden = functional.silu(functional.linear(hidden, widen.weight, widen.bias))
        return values + functional.linear(hidden, narrow.weight, narrow.bias)


class MLPDenoiser(Denoiser):
    """Context, noise level and chunk are embedded, added up, and passed through residual blocks."""

    def __init__(self, config: MLPConfig, shape: Shape) -> None:
        super().__init__()
        self.chunk = (shape.horizon, shape.actions)
        self.context = nn.Linear(shape.features * shape.tokens, config.width)
        self.level = LevelEmbedding(config.width)
        self.noisy = nn.Linear(shape.horizon * shape.inputs, config.width)
        self.trunk = nn.Sequential(*(_Residual(config.width, config.dropout) for _ in range(config.blocks)))
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(config.width, shape.horizon * shape.actions))

    def forward(self, noisy: Tensor, c_noise: Tensor, context: Tensor) -> Tensor:
        return self._answer(noisy, self.context(context.flatten(1)) + self.level(c_noise))

    def at_levels(self, c_noise: Tensor, context: Tensor) -> Sequence[Callable[[Tensor], Tensor]]:
        """As `Denoiser`. The context and all levels are embedded once."""
        known = self.context(context.flatten(1)) + self.level(c_noise).unsqueeze(1)  # (S, B or 1, W)
        return [partial(self._answer, known=one) for one in known.unbind()]

    def _answer(self, noisy: Tensor, known: Tensor) -> Tensor:
        """For noisy chunks (B, H, I) and what else is known, embedded (B or 1, W)."""
        return self.head(self.trunk(self.noisy(noisy.flatten(1)) + known)).unflatten(-1, self.chunk)


class _Block(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.dropout, width = config.heads, config.dropout, config.width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B, S, W)."""
        q, k, v = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        tokens = tokens + self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        return tokens + self.drop(self.mlp(self.norm2(tokens)))


class TransformerDenoiser(Denoiser):
    """Tokens: noise level, context, actions; the actions' are read out."""

    mask: Tensor | None

    def __init__(self, config: TransformerConfig, shape: Shape) -> None:
        super().__init__()
        self.context = nn.Linear(shape.features, config.width)
        self.level = LevelEmbedding(config.width)
        self.noisy = nn.Linear(shape.inputs, config.width)
        tokens = shape.tokens
        length = 1 + tokens + shape.horizon
        self.position = nn.Parameter(torch.randn(length, config.width) * 0.02)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, shape.actions)
        mask = None
        if config.causal:
            mask = torch.ones(length, length, dtype=torch.bool).tril()
            mask[:, : 1 + tokens] = True
            mask[: 1 + tokens, 1 + tokens :] = False
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, noisy: Tensor, c_noise: Tensor, context: Tensor) -> Tensor:
        level = self.level(c_noise).unsqueeze(1).expand(len(noisy), 1, -1)
        seen = self.context(context).expand(len(noisy), -1, -1)
        tokens = torch.cat([level, seen, self.noisy(noisy)], 1) + self.position
        for block in self.blocks:
            tokens = block(tokens, self.mask)
        return self.head(self.norm(tokens[:, -noisy.shape[1] :]))
