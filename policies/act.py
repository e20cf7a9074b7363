"""Action chunking transformer (ACT, 2304.13705), for states and small images; with ACT-JEPA's objective if asked for.

ACT is a conditional variational autoencoder: while training, an encoder looks at the true chunk and names its style
z; the policy predicts the chunk from the observations, the goal and z, by absolute error; when acting z is zero.
ACT-JEPA (2501.14622) lets the same trunk also predict what the next observations will be like, in the space of a
slowly following copy of the observation's embedding.

Shape letters: B batch, T observations, H horizon, A action, W width, C tokens of context.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.chunk_net import ChunkNet, Request, with_prefix
from policies.chunking import ExecutionConfig
from policies.inputs import InputConfig, InputTokens, Moments
from policies.normalizer import Normalizer
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, ObservationSpec

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class ACTConfig:
    """Sizes and weights; ACT's own is 512 wide with 8 heads, 4 encoder layers and 100 actions at 50 Hz."""

    inputs: InputConfig = field(default_factory=InputConfig)
    """Observations and goals."""
    horizon: int = 16
    """Actions of a chunk."""
    width: int = 256
    """Of a token."""
    heads: int = 8
    """Of the attention; divide the width."""
    encoder_layers: int = 3
    """Of the policy's encoder, and of the one that names the style."""
    decoder_layers: int = 1
    """Of the policy's decoder (ACT's has one that is used)."""
    style: int = 32
    """Elements of z."""
    kl_weight: float = 10.0
    """Of the style's divergence from a unit Gaussian."""
    dropout: float = 0.1
    """While training."""
    jepa_weight: float = 0.0
    """Of ACT-JEPA's prediction of observations to come; 0 is plain ACT."""
    jepa_decay: float = 0.996
    """Of the copy whose embeddings are predicted."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    """How chunks are played."""

    def __post_init__(self) -> None:
        sizes = (self.horizon, self.width, self.heads, self.encoder_layers, self.decoder_layers, self.style)
        if min(sizes) < 1 or self.width % self.heads:
            raise ConfigError(
                f"horizon, width, heads, layers and style must be at least 1, heads divide the width; got {self}"
            )
        if min(self.kl_weight, self.jepa_weight) < 0.0:
            raise ConfigError(f"weights must not be negative; got {self.kl_weight}, {self.jepa_weight}")
        if not 0.0 <= self.dropout < 1.0 or not 0.0 <= self.jepa_decay <= 1.0:
            raise ConfigError(
                f"dropout must lie in [0, 1), jepa_decay in [0, 1]; got {self.dropout}, {self.jepa_decay}"
            )

    @property
    def sees_future(self) -> bool:
        """Whether training windows must hold the observations to come."""
        return self.jepa_weight > 0.0

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> ACTModel:
        return ACTModel(self, observation_spec, action_spec)


class ACTModel(ChunkNet):
    """Implements `robot_rl.algorithms.imitation.ChunkModel` as well."""

    def __init__(self, config: ACTConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__(InputTokens(config.inputs, observation_spec), Normalizer(action_spec.dim), config.horizon)
        self.config = config
        width = config.width
        self.embed = nn.Linear(self.inputs.features, width)
        self.place = nn.Parameter(torch.randn(self.inputs.tokens + 1, width) * 0.02)
        self.queries = nn.Parameter(torch.randn(config.horizon, width) * 0.02)
        self.encoder = _encoder(config)
        layer = nn.TransformerDecoderLayer(width, config.heads, 4 * width, config.dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, config.decoder_layers)
        self.head = nn.Linear(width, action_spec.dim)
        self.style_in = nn.Linear(config.style, width)
        self.style_embed = nn.Linear(action_spec.dim, width)
        self.style_place = nn.Parameter(torch.randn(config.horizon + 1, width) * 0.02)
        self.style_encoder = _encoder(config)
        self.style_out = nn.Linear(width, 2 * config.style)
        self.future: Future | None = Future(self.inputs, self.embed, config) if config.jepa_weight else None

    def fit_normalizers(self, moments: Moments) -> None:
        """Take mean and standard deviation of the data."""
        super().fit_normalizers(moments)
        if self.future is not None:
            self.future.follow(self.inputs, self.embed, share=1.0)

    def forward(
        self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor], style: Tensor, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Chunk (B, H, A), scaled, and what the decoder made of each of its steps (B, H, W)."""
        tokens = torch.cat([self.embed(self.inputs(observation, goal, told)), self.style_in(style).unsqueeze(1)], 1)
        memory = self.encoder(tokens + self.place)
        decoded = self.decoder(self.queries.expand(len(tokens), -1, -1), memory)
        return self.head(decoded), decoded

    def imitation_loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Absolute error over the actions that exist, plus weighted divergence (and ACT-JEPA's objective)."""
        clean = self.actions(windows.action)
        mean, log_variance = self._name_style(clean, windows.mask)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        chunk, decoded = self(windows.observation, windows.goal, mean + noise * (0.5 * log_variance).exp())
        error = (((chunk - clean).abs().mean(-1)) * windows.mask).sum() / windows.mask.sum()
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(-1).mean()
        loss = error + self.config.kl_weight * divergence
        metrics = {"absolute_error": error.detach(), "divergence": divergence.detach()}
        if self.future is not None:
            self.future.follow(self.inputs, self.embed, 1.0 - self.config.jepa_decay)
            jepa = self.future(decoded, windows.future, windows.mask)
            metrics["jepa"] = jepa.detach()
            loss = loss + self.config.jepa_weight * jepa
        return loss, metrics

    def answer(self, request: Request) -> Tensor:
        """The chunk of style zero, whatever the noise."""
        style = request.noise.new_zeros(len(request.told), self.config.style)
        chunk = self.actions.inverse(self(request.observation, request.goal, style, request.told)[0])
        return with_prefix(chunk, request.prefix, request.prefix_mask)

    def _name_style(self, clean: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of z, each (B, Z), from the true chunk."""
        tokens = self.style_embed(clean)
        tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1) + self.style_place
        missing = functional.pad(mask == 0, (1, 0), value=False)
        seen = self.style_encoder(tokens, src_key_padding_mask=missing)
        mean, log_variance = self.style_out(seen[:, 0]).chunk(2, -1)
        return mean, log_variance


class Future(nn.Module):
    """ACT-JEPA's second task: from a step's decoder token, the embedding of the observation that follows the step.

    The embedding to be predicted is by copies of `inputs` and `embed` that follow them slowly and take no gradient.
    """

    def __init__(self, inputs: InputTokens, embed: nn.Linear, config: ACTConfig) -> None:
        super().__init__()
        self.target_inputs, self.target_embed = _follower(inputs), _follower(embed)
        self.predictor = nn.Sequential(
            nn.Linear(config.width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )

    def follow(self, inputs: InputTokens, embed: nn.Linear, share: float) -> None:
        """Move the copies by `share` towards the originals."""
        with torch.no_grad():
            for copied, original in ((self.target_inputs, inputs), (self.target_embed, embed)):
                state = original.state_dict()
                for name, value in copied.state_dict().items():
                    value.lerp_(state[name], share)

    def forward(self, decoded: Tensor, future: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Mean squared error (0-d) of normalised embeddings; `future` each (B, H, ...), `decoded` (B, H, W)."""
        with torch.no_grad():
            seen = self.target_inputs.observe(future)
            wanted = functional.layer_norm(self.target_embed(seen), (decoded.shape[-1],))
        error = (self.predictor(decoded) - wanted).square().mean(-1)
        return (error * mask).sum() / mask.sum()


def _follower(module: M) -> M:
    """A copy whose parameters are buffers: saved, but not trained."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return copied


def _encoder(config: ACTConfig) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        config.width, config.heads, 4 * config.width, config.dropout, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, config.encoder_layers, enable_nested_tensor=False)
