"""Score-based chunk policies: BESO (2304.02532), flow matching and Diffusion Policy (2303.04137) by configuration.

Shape letters: B batch, T observations, H horizon, A action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from policies.chunk_net import ChunkNet, Request, with_prefix
from policies.chunking import ExecutionConfig
from policies.denoisers import MLPConfig, Shape, TransformerConfig
from policies.inputs import InputConfig, InputTokens, Moments
from policies.normalizer import Normalizer
from policies.processes import DDPMProcess, EDMProcess, FlowProcess, denoising_task
from policies.reference_samplers import ReferenceSampler
from policies.samplers import Network, Sampler, make_sampler
from robot_rl import losses
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import ActionSpec, ObservationSpec

Scaling = Literal["std", "min_max"]


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
    tables: bool = True
    """Sample by tables of coefficients; otherwise by diffusers' schedulers, which is slower."""
    scaling: Scaling = "std"
    """What actions are scaled by: their spread, to the process's data_std, or their least and greatest, to -1 and 1."""
    clip: float | None = None
    """Magnitude that estimates of the (scaled) chunk are clipped to while sampling; Diffusion Policy's is 1."""
    goal_dropout: float = 0.1
    """Share of training windows whose whole goal is left out."""
    guidance: float = 1.0
    """Classifier-free guidance (2207.12598): 0 ignores the goal, 1 is plain, more exaggerates it."""
    temperature: float = 1.0
    """Of sampling: factor of all noise that it takes (as 2211.15657, algorithm 1). At 0 nothing is left to chance."""
    max_prefix: int = 0
    """Longest beginning of a chunk that is given instead of sampled: trained with 0 to as many actions (2512.05964)."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    """How chunks are played."""

    sees_future = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.goal_dropout <= 1.0 or not 0.0 <= self.guidance < math.inf:
            raise ConfigError(f"need goal_dropout in [0, 1], guidance >= 0; got {self.goal_dropout}, {self.guidance}")
        if not 0.0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature must be finite and not negative, got {self.temperature}")
        if self.temperature != 1.0 and not self.tables:
            raise ConfigError("diffusers' schedulers draw noise of their own: temperature needs policy.tables=true")
        if not 0 <= self.max_prefix < self.horizon:
            raise ConfigError(f"need 0 <= max_prefix < horizon; got {self.max_prefix}, {self.horizon}")
        if self.scaling not in get_args(Scaling):
            raise UnknownNameError("scaling", self.scaling, get_args(Scaling))
        if self.clip is not None and not self.clip > 0.0:
            raise ConfigError(f"clip must be positive, or null for none; got {self.clip}")
        plain = (1.0,) if self.inputs.goal else (0.0, 1.0)  # without a goal there is none to be ignored
        if self.guidance not in plain and not self.goal_dropout:
            raise ConfigError("guidance other than 1 needs a network trained with goal_dropout > 0")
        if self.inputs.goal and self.goal_dropout == 1.0 and self.guidance:
            raise ConfigError("with goal_dropout 1 no goal is ever told: act without one, too (guidance=0)")
        self.build_sampler()  # wrong names are found now, not after training

    def build_sampler(self) -> Sampler | ReferenceSampler:
        build = make_sampler if self.tables else ReferenceSampler
        return build(self.sampler, self.process, self.steps, self.clip)

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> ScoreModel:
        return ScoreModel(self, observation_spec, action_spec)


class ScoreModel(ChunkNet):
    """Implements `robot_rl.algorithms.imitation.ChunkModel` as well."""

    def __init__(self, config: ScoreConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        inputs = InputTokens(config.inputs, observation_spec)
        super().__init__(inputs, Normalizer(action_spec.dim, config.process.data_std), config.horizon)
        self.config = config
        per_step = action_spec.dim + (config.max_prefix > 0)
        shape = Shape(inputs.tokens, inputs.features, config.horizon, per_step, action_spec.dim)
        self.denoiser = config.network.build(shape)
        self.use_sampler(config.build_sampler(), config.guidance)

    def fit_normalizers(self, moments: Moments) -> None:
        super().fit_normalizers(moments)
        if self.config.scaling == "min_max":
            self.actions.fit_range(*moments["action_range"])

    def use_sampler(self, sampler: Sampler | ReferenceSampler, guidance: float | None = None) -> None:
        """Sample otherwise than configured; the weights stay."""
        self.sampler = sampler
        self.draws = sampler.draws
        self.guidance = self.guidance if guidance is None else guidance

    def imitation_loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the network's output over the actions that exist: see `policies.processes`."""
        clean = self.actions(windows.action)
        batch, device = len(clean), clean.device
        inputs, c_noise, target = denoising_task(self.config.process, clean, generator)
        told = torch.rand(batch, generator=generator, device=device) >= self.config.goal_dropout
        context = self.inputs(windows.observation, windows.goal, told.to(clean.dtype))
        counted, given = windows.mask, torch.zeros_like(windows.mask)
        if self.config.max_prefix:
            length = torch.randint(self.config.max_prefix + 1, (batch, 1), generator=generator, device=device)
            given = (torch.arange(self.horizon, device=device) < length).to(clean.dtype)
            counted = counted * (1.0 - given)
        output = self.estimate(inputs, c_noise, context, clean, given)
        return losses.denoising_loss(output, target, counted.unsqueeze(-1)), {}

    def answer(self, request: Request) -> Tensor:
        """As `ChunkNet`. With a prefix, the rest is sampled to go with it.

        A network that was trained for that (`max_prefix`) is told the prefix; it is put into every estimate of any
        network (2201.09865).
        """
        context = self.contexts(request)
        clean, given = self.actions(request.prefix), request.prefix_mask
        noise, drawn = request.noise, request.fresh
        if self.config.temperature != 1.0:
            noise, drawn = noise * self.config.temperature, drawn * self.config.temperature
        fresh = iter(drawn)
        chunk = self.sampler(
            self._network(context, clean, given),
            noise,
            lambda: next(fresh),
            lambda estimate: estimate + given.unsqueeze(-1) * (clean - estimate),
        )
        return with_prefix(self.actions.inverse(chunk), request.prefix, given)

    def contexts(self, request: Request) -> Tensor:
        """Tokens for `estimate` (B or 1, T + 1, F); guided (2 B, T + 1, F), those without the goal after the others."""
        observation, goal, told = request.observation, request.goal, request.told
        if self.guidance == 0.0:
            told = torch.zeros_like(told)
        contexts = [self.inputs(observation, goal, told)]
        if self.guidance not in (0.0, 1.0):
            contexts.append(self.inputs(observation, goal, torch.zeros_like(told)))
        if len(contexts) == 1:
            return contexts[0]
        return torch.cat([one.expand(len(request.noise), -1, -1) for one in contexts])

    def _network(self, context: Tensor, clean: Tensor, given: Tensor) -> Network:
        """`estimate`; what depends on the context and the levels alone is computed once, where they are known."""
        c_noises = self.sampler.c_noises
        if not c_noises or self.guidance not in (0.0, 1.0) or self.config.max_prefix:
            return lambda noisy, c_noise: self.estimate(noisy, c_noise, context, clean, given)
        levels = torch.stack([context.new_full((), one) for one in c_noises])  # no copy from the host: CUDA graphs
        networks = iter(self.denoiser.at_levels(levels, context))
        return lambda noisy, c_noise: next(networks)(noisy)

    def estimate(self, noisy: Tensor, c_noise: Tensor, context: Tensor, clean: Tensor, given: Tensor) -> Tensor:
        """The network's output (B, H, A), guided; `noisy` is scaled already.

        Where `given` (B, H) is 1, the action of `clean` (B, H, A) is decided.
        """
        if self.config.max_prefix:
            mask = given.unsqueeze(-1)
            noisy = torch.cat([noisy + mask * (clean / self.config.process.data_std - noisy), mask], -1)
        if len(context) <= len(noisy):  # not guided
            return self.denoiser(noisy, c_noise, context)
        told, untold = self.denoiser(torch.cat([noisy, noisy]), c_noise, context).chunk(2)
        return untold + self.guidance * (told - untold)
