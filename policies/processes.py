"""Ways to noise an action chunk and to read a network as its denoiser: EDM, flow matching, DDPM.

Each is four coefficients of the noise level: D = c_skip y + c_out F(c_in y, c_noise) estimates the clean chunk
from the noisy one y = signal x + noise n, and F is trained on (x - c_skip y) / c_out. That one formula is EDM's
loss (2206.00364, eq. 8), the velocity n - x of flow matching (2210.02747) and the noise n of DDPM (2006.11239).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from robot_rl.errors import ConfigError, UnknownNameError

Schedule = Literal["exponential", "karras", "linear"]
SCHEDULES = ("exponential", "karras", "linear")
KARRAS_RHO = 7.0  # 2206.00364, section 3


class Coefficients(NamedTuple):
    """Of one noise level, or of B of them; all of the same shape."""

    signal: Tensor
    noise: Tensor
    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Process(Protocol):
    """What training and samplers need to know of a noise process. A level grows with the noise."""

    @property
    def data_std(self) -> float:
        """Standard deviation that the clean chunks are scaled to."""
        ...

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Levels (count,) for training."""
        ...

    def levels(self, steps: int) -> Tensor:
        """Levels (steps + 1,) that a sampler walks down, float64; the last one is free of noise."""
        ...

    def level(self, signal: Tensor, noise: Tensor) -> Tensor:
        """The level with this ratio of signal and noise, the one trained that is nearest; signal may be 0."""
        ...

    def coefficients(self, level: Tensor) -> Coefficients: ...


class Task(NamedTuple):
    """What a denoiser is trained on: `inputs` and c_noise (B,) in, `target` out."""

    inputs: Tensor
    c_noise: Tensor
    target: Tensor


def denoising_task(process: Process, clean: Tensor, generator: torch.Generator) -> Task:
    """Noise scaled chunks or actions `clean` (B, ...), each at a level of its own."""
    level = process.draw(len(clean), generator)
    noise = torch.randn(clean.shape, generator=generator, device=clean.device)
    one = process.coefficients(level)
    shape = (-1, *[1] * (clean.dim() - 1))
    signal, spread, c_skip, c_out, c_in = (each.reshape(shape) for each in one[:-1])
    noisy = signal * clean + spread * noise
    return Task(c_in * noisy, one.c_noise, (clean - c_skip * noisy) / c_out)


@dataclass(frozen=True)
class EDMProcess:
    """Elucidated diffusion (2206.00364, table 1); training levels are log-logistic, truncated, as BESO's (2304.02532).

    The defaults are for chunks. BESO's own (conf/policy/beso.yaml) are for single actions: the H A elements of a
    chunk move together, so the modes of the data lie sqrt(H A) times as far apart, and noise of 1 does not cover
    them: with the exact denoiser of two modes in the ratio 70 : 30, three steps sample 97 : 3 of 80 elements. And a
    last evaluation at very little noise finds chunks between the modes, where the network was never trained.
    docs/score_policies.md has the figures.
    """

    data_std: float = 0.5
    """Chunks are scaled to this."""
    sigma_min: float = 0.02
    """Smallest noise in training."""
    sigma_max: float = 8.0
    """Largest noise; sampling begins with the spread that noised data have there."""
    sigma_last: float = 0.2
    """Noise of a sampler's last evaluation."""
    scale: float = 1.0
    """Of the log-logistic distribution of training levels, about ln(data_std)."""
    schedule: Schedule = "exponential"
    """How a sampler's levels are spaced: in ln(sigma), in sigma^(1/7), or evenly."""

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min <= self.sigma_last < self.sigma_max or min(self.data_std, self.scale) <= 0.0:
            raise ConfigError(f"need 0 < sigma_min <= sigma_last < sigma_max, data_std > 0 and scale > 0; got {self}")
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        center = math.log(self.data_std)
        low, high = (
            1.0 / (1.0 + math.exp(-(math.log(sigma) - center) / self.scale))
            for sigma in (self.sigma_min, self.sigma_max)
        )
        share = torch.rand(count, generator=generator, device=generator.device) * (high - low) + low
        return (share.logit() * self.scale + center).exp()

    def levels(self, steps: int) -> Tensor:
        if steps == 1:
            return torch.tensor([self.sigma_max, 0.0], dtype=torch.float64)
        ramp = torch.linspace(0.0, 1.0, steps, dtype=torch.float64)
        if self.schedule == "exponential":
            low, high = math.log(self.sigma_last), math.log(self.sigma_max)
            sigmas = (high + ramp * (low - high)).exp()
        else:
            rho = KARRAS_RHO if self.schedule == "karras" else 1.0
            low, high = self.sigma_last ** (1.0 / rho), self.sigma_max ** (1.0 / rho)
            sigmas = (high + ramp * (low - high)) ** rho
        return torch.cat([sigmas, sigmas.new_zeros(1)])

    def level(self, signal: Tensor, noise: Tensor) -> Tensor:
        return (noise / signal).clamp(self.sigma_min, self.sigma_max)

    def coefficients(self, level: Tensor) -> Coefficients:
        total = (level**2 + self.data_std**2).sqrt()
        return Coefficients(
            signal=torch.ones_like(level),
            noise=level,
            c_skip=self.data_std**2 / total**2,
            c_out=level * self.data_std / total,
            c_in=1.0 / total,
            c_noise=level.log() / 4.0,
        )


@dataclass(frozen=True)
class FlowProcess:
    """Flow matching on straight paths (2210.02747, 2209.03003): y = (1 - t) x + t n, F estimates n - x."""

    data_std: float = 1.0
    """Chunks are scaled to this."""

    def __post_init__(self) -> None:
        if not self.data_std > 0.0:
            raise ConfigError(f"data_std must be positive, got {self.data_std}")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform in (0, 1]: at 0 there is nothing to learn."""
        return 1.0 - torch.rand(count, generator=generator, device=generator.device)

    def levels(self, steps: int) -> Tensor:
        return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)

    def level(self, signal: Tensor, noise: Tensor) -> Tensor:
        return noise / (signal + noise)

    def coefficients(self, level: Tensor) -> Coefficients:
        one = torch.ones_like(level)
        return Coefficients(signal=1.0 - level, noise=level, c_skip=one, c_out=-level, c_in=one, c_noise=level)


@dataclass(frozen=True)
class DDPMProcess:
    """Diffusion Policy's (2303.04137): 100 discrete levels on the squared-cosine schedule, F estimates the noise."""

    data_std: float = 0.5
    """Chunks are scaled to this, or to [-1, 1] with Diffusion Policy's `scaling=min_max`."""
    train_levels: int = 100
    """Discrete levels; sampling with as many is DDPM's."""

    def __post_init__(self) -> None:
        if self.train_levels < 2 or self.data_std <= 0.0:
            raise ConfigError(f"need at least 2 train_levels and data_std > 0; got {self}")

    @cached_property
    def cumulative(self) -> Tensor:
        """alpha-bar (train_levels,), float64: 2102.09672, eq. 17, with its largest beta."""

        def bar(share: float) -> float:
            return math.cos((share + 0.008) / 1.008 * math.pi / 2.0) ** 2

        count = self.train_levels
        betas = [min(1.0 - bar((i + 1) / count) / bar(i / count), 0.999) for i in range(count)]
        return torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float64), 0)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(self.train_levels, (count,), generator=generator, device=generator.device).float()

    def levels(self, steps: int) -> Tensor:
        """Indices of levels with `leading` spacing, as Diffusion Policy's; -1 is free of noise."""
        if not 1 <= steps <= self.train_levels:
            raise ConfigError(f"a sampler of {self.train_levels} trained levels takes 1 to as many steps, got {steps}")
        leading = torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (self.train_levels // steps)
        return torch.cat([leading, leading.new_full((1,), -1.0)])

    def level(self, signal: Tensor, noise: Tensor) -> Tensor:
        """By the angle between signal and noise, which the schedule divides about evenly."""
        trained = torch.atan2((1.0 - self.cumulative).sqrt(), self.cumulative.sqrt()).to(signal)
        apart = trained - torch.atan2(noise, signal).unsqueeze(-1)
        return apart.abs().argmin(-1).to(signal.dtype)

    def coefficients(self, level: Tensor) -> Coefficients:
        table = torch.cat([self.cumulative, torch.ones(1, dtype=torch.float64)]).to(level.device)
        bar = table[level.long()].to(level.dtype)  # the last entry is level -1
        signal, noise = bar.sqrt(), (1.0 - bar).sqrt()
        scale = torch.ones_like(bar)
        return Coefficients(signal, noise, c_skip=1.0 / signal, c_out=-noise / signal, c_in=scale, c_noise=level)
