"""Score-based chunk policies: BESO (2304.02532), flow matching and Diffusion Policy (2303.04137) by configuration.

Shape letters: B batch, T observations, H horizon, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.chunking import ExecutionConfig
from policies.denoisers import MLPConfig, Shape, TransformerConfig
from policies.inputs import InputConfig, InputTokens, Moments, fit
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
    sampler: str = "dpm_solver_2"
    """See `policies.samplers.SAMPLERS`."""
    steps: int = 3
    """Of the sampler."""
    clip: float | None = None
    """Magnitude that estimates of the (scaled) chunk are clipped to while sampling; Diffusion Policy's is 1."""
    goal_dropout: float = 0.1
    """Share of training windows whose whole goal is left out."""
    guidance: float = 1.0
    """Classifier-free guidance (2207.12598): 0 ignores the goal, 1 is plain, more exaggerates it."""
    max_prefix: int = 0
    """Longest beginning of a chunk that is given instead of sampled: trained with 0 to as many actions (2512.05964)."""

    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    """How chunks are played."""

    sees_future = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.goal_dropout <= 1.0 or self.guidance < 0.0 or not 0 <= self.max_prefix < self.horizon:
            raise ConfigError(f"need goal_dropout in [0, 1], guidance >= 0, 0 <= max_prefix < horizon; got {self}")
        if self.guidance not in (0.0, 1.0) and not self.goal_dropout:
            raise ConfigError("guidance other than 0 and 1 needs a network trained with goal_dropout > 0")
        make_sampler(self.sampler, self.process, self.steps)  # wrong names are found now, not after training

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> ScoreModel:
        return ScoreModel(self, observation_spec, action_spec)


@dataclass(frozen=True, slots=True)
class Given:
    """Actions that are decided: `clean` (B, H, A), scaled, counts where `mask` (B or 1, H) is 1."""

    clean: Tensor
    mask: Tensor

    def put_into(self, estimate: Tensor) -> Tensor:
        """`estimate` (B, H, A) with the given actions in place."""
        return estimate + self.mask.unsqueeze(-1) * (self.clean - estimate)


class ScoreModel(nn.Module):
    """Implements `robot_rl.algorithms.imitation.ChunkModel` and `policies.chunking.ChunkSampler`."""

    def __init__(self, config: ScoreConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__()
        self.config = config
        self.horizon, self.history = config.horizon, config.inputs.history
        self.inputs = InputTokens(config.inputs, observation_spec)
        self.actions = Normalizer(action_spec.dim, config.process.data_std)
        inputs = action_spec.dim + (config.max_prefix > 0)
        shape = Shape(self.inputs.tokens, self.inputs.features, config.horizon, inputs, action_spec.dim)
        self.denoiser = config.network.build(shape)
        self.sampler = make_sampler(config.sampler, config.process, config.steps, config.clip)
        self.guidance = config.guidance

    def fit_normalizers(self, moments: Moments) -> None:
        """Take mean and standard deviation of the data."""
        fit(self.inputs, self.actions, moments)

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
        counted, given = windows.mask, None
        if self.config.max_prefix:
            length = torch.randint(self.config.max_prefix + 1, (batch, 1), generator=generator, device=device)
            given = Given(clean, (torch.arange(self.horizon, device=device) < length).to(clean.dtype))
            counted = counted * (1.0 - given.mask)
        output = self.estimate(c_in * noisy, c_noise.flatten(), context, given)
        error = (output - (clean - c_skip * noisy) / c_out).square().mean(-1)
        return (error * counted).sum() / counted.sum().clamp(min=1.0), {}

    @torch.no_grad()
    def sample(
        self,
        observation: Mapping[str, Tensor],
        goal: Mapping[str, Tensor] | None,
        noise: Tensor,
        generator: torch.Generator | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Chunks (B, H, A) from unit Gaussian `noise` of that shape; observations each (B, T, ...), goal (B, ...).

        A `prefix` (B, P, A) of actions that are already decided begins the chunk; the rest is sampled to go with it:
        by the network where it was trained for that, else by putting the prefix into every estimate (2201.09865).
        """
        context = self.contexts(observation, goal)
        given = None if prefix is None or not prefix.shape[1] else self._given(prefix)
        trained = given is not None and self.config.max_prefix > 0
        chunk = self.sampler(
            lambda noisy, c_noise: self.estimate(noisy, c_noise, context, given if trained else None),
            noise,
            generator,
            None if given is None else given.put_into,
        )
        return self.actions.inverse(chunk)

    def contexts(self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor] | None) -> Tensor:
        """Tokens for `estimate` (B or 2 B, T + 1, F): with guidance those without the goal follow those with it."""
        if goal is None or self.guidance == 0.0:
            return self.inputs(observation, None)
        context = self.inputs(observation, goal)
        if self.guidance == 1.0:
            return context
        return torch.cat([context, self.inputs(observation, None)])

    def estimate(self, noisy: Tensor, c_noise: Tensor, context: Tensor, given: Given | None = None) -> Tensor:
        """The network's output (B, H, A), guided; `noisy` is scaled already."""
        if self.config.max_prefix:
            noisy = self._with_given(noisy, given)
        if len(context) == len(noisy):
            return self.denoiser(noisy, c_noise, context)
        told, untold = self.denoiser(torch.cat([noisy, noisy]), c_noise, context).chunk(2)
        return untold + self.guidance * (told - untold)

    def _with_given(self, noisy: Tensor, given: Given | None) -> Tensor:
        """The chunk (B, H, A + 1) with its given actions in place, clean and of unit spread, and where they are."""
        if given is None:
            return torch.cat([noisy, torch.zeros_like(noisy[..., :1])], -1)
        mask = given.mask.unsqueeze(-1)
        clean = given.clean / self.config.process.data_std
        return torch.cat([noisy + mask * (clean - noisy), mask.expand(len(noisy), -1, -1)], -1)

    def _given(self, prefix: Tensor) -> Given:
        """`prefix` (B, P, A) as it was measured, scaled and in its place."""
        length = prefix.shape[1]
        clean = functional.pad(self.actions(prefix), (0, 0, 0, self.horizon - length))
        return Given(clean, (torch.arange(self.horizon, device=prefix.device) < length).to(prefix.dtype).unsqueeze(0))

    def use_sampler(self, sampler: Sampler, guidance: float | None = None) -> None:
        """Sample otherwise than configured; the weights stay."""
        self.sampler = sampler
        self.guidance = self.guidance if guidance is None else guidance
