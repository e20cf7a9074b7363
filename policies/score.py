"""Score-based chunk policies: BESO (2304.02532), flow matching and Diffusion Policy (2303.04137) by configuration.

Shape letters: B batch, T observations, H horizon, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from policies.denoisers import MLPConfig, TransformerConfig
from policies.inputs import InputConfig, InputTokens
from policies.normalizer import Normalizer
from policies.processes import DDPMProcess, EDMProcess, FlowProcess
from policies.samplers import Sampler, make_sampler
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class ScoreConfig:
    """Network, noise process and sampler of a score policy."""

    inputs: InputConfig = field(default_factory=InputConfig)
    """Observations and goals."""
    horizon: int = 16
    """Actions of a chunk."""
    process: EDMProcess | FlowProcess | DDPMProcess = field(default_factory=EDMProcess)
    """How chunks are noised; what the network learns."""
    network: MLPConfig | TransformerConfig = field(default_factory=MLPConfig)
    """The denoiser."""
    sampler: str = "ddim"
    """See `policies.samplers.SAMPLERS`."""
    steps: int = 3
    """Of the sampler."""
    clip: float | None = None
    """Magnitude that estimates of the (scaled) chunk are clipped to while sampling; Diffusion Policy's is 1."""
    goal_dropout: float = 0.1
    """Share of training windows whose whole goal is left out."""
    guidance: float = 1.0
    """Classifier-free guidance (2207.12598): 0 ignores the goal, 1 is plain, more exaggerates it."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.goal_dropout <= 1.0 or self.guidance < 0.0 or self.horizon < 1:
            raise ConfigError(f"need goal_dropout in [0, 1], guidance >= 0 and horizon >= 1; got {self}")
        if self.guidance not in (0.0, 1.0) and not self.goal_dropout:
            raise ConfigError("guidance other than 0 and 1 needs a network trained with goal_dropout > 0")
        make_sampler(self.sampler, self.process, self.steps)  # wrong names are found now, not after training

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> ScoreModel:
        return ScoreModel(self, observation_spec, action_spec)


class ScoreModel(nn.Module):
    """Implements `robot_rl.algorithms.imitation.ChunkModel` and `policies.chunking.ChunkSampler`."""

    def __init__(self, config: ScoreConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__()
        self.config = config
        self.horizon, self.action_dim = config.horizon, action_spec.dim
        self.inputs = InputTokens(config.inputs, observation_spec)
        self.actions = Normalizer(action_spec.dim, config.process.data_std)
        self.denoiser = config.network.build(self.inputs.features, self.inputs.tokens, config.horizon, action_spec.dim)
        self.sampler = make_sampler(config.sampler, config.process, config.steps, config.clip)
        self.guidance = config.guidance

    def loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the network's output over the actions that exist: see `policies.processes`."""
        clean, process = self.actions(windows.action), self.config.process
        batch, device = len(clean), clean.device
        level = process.draw(batch, generator)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        told = torch.rand(batch, generator=generator, device=device) >= self.config.goal_dropout
        signal, spread, c_skip, c_out, c_in, c_noise = (one.reshape(-1, 1, 1) for one in process.coefficients(level))
        noisy = signal * clean + spread * noise
        context = self.inputs(windows.observation, windows.goal, told.to(clean.dtype))
        output = self.denoiser(c_in * noisy, c_noise.flatten(), context)
        error = (output - (clean - c_skip * noisy) / c_out).square().mean(-1)
        return (error * windows.mask).sum() / windows.mask.sum(), {}

    @torch.no_grad()
    def sample(
        self,
        observation: Mapping[str, Tensor],
        goal: Mapping[str, Tensor] | None,
        noise: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Chunks (B, H, A) from unit Gaussian `noise` of that shape; observations each (B, T, ...), goal (B, ...)."""
        context = self.contexts(observation, goal)
        chunk = self.sampler(lambda noisy, c_noise: self.estimate(noisy, c_noise, context), noise, generator)
        return self.actions.inverse(chunk)

    def contexts(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor] | None) -> Tensor:
        """Tokens for `estimate` (B or 2 B, T + 1, F): with guidance those without the goal follow those with it."""
        if goal is None or self.guidance == 0.0:
            return self.inputs(observation, None)
        context = self.inputs(observation, goal)
        if self.guidance == 1.0:
            return context
        return torch.cat([context, self.inputs(observation, None)])

    def estimate(self, noisy: Tensor, c_noise: Tensor, context: Tensor) -> Tensor:
        """The network's output (B, H, A), guided."""
        if len(context) == len(noisy):
            return self.denoiser(noisy, c_noise, context)
        told, untold = self.denoiser(torch.cat([noisy, noisy]), c_noise, context).chunk(2)
        return untold + self.guidance * (told - untold)

    def use_sampler(self, sampler: Sampler, guidance: float | None = None) -> None:
        """Sample otherwise than configured; the weights stay."""
        self.sampler = sampler
        self.guidance = self.guidance if guidance is None else guidance
