"""Samplers as tables: every one of them is a linear recursion over the denoiser's estimates, known beforehand.

Evaluation k turns the noisy chunk y into an estimate D of the clean one; the next one is

    y' = keep y + estimate D + previous D_before + base y_base + random n

where y_base is the chunk at the last evaluation that was marked (Heun's method needs it), D_before the estimate of
the evaluation before, and n fresh noise. The coefficients are computed once, in float64; sampling then is network
evaluations and a few multiply-adds. `tests/policies/test_samplers.py` holds each against its `diffusers` scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from policies.processes import Process
from robot_rl.errors import ConfigError, UnknownNameError

Network = Callable[[Tensor, Tensor], Tensor]
"""(scaled noisy chunk, c_noise ()) -> F, of the chunk's shape."""


@dataclass(frozen=True)
class Stage:
    """One evaluation of the network and the step after it; floats, so that no tensor is made while sampling."""

    level: float
    c_skip: float
    c_out: float
    c_in: float
    c_noise: float
    keep: float
    estimate: float
    previous: float = 0.0
    base: float = 0.0
    random: float = 0.0
    marks: bool = False
    """The noisy chunk of this stage becomes y_base."""


@dataclass(frozen=True)
class Sampler:
    """A table of stages, and the spread of the noise that it begins with."""

    stages: tuple[Stage, ...]
    initial_std: float
    clip: float | None = None
    """Estimates are clipped to this magnitude."""

    @property
    def draws(self) -> int:
        """How often it draws noise after the beginning."""
        return sum(stage.random != 0.0 for stage in self.stages)

    @property
    def c_noises(self) -> tuple[float, ...]:
        """What each evaluation is told of its level, in their order."""
        return tuple(stage.c_noise for stage in self.stages)

    def of_estimates(self) -> Sampler:
        """The same sampler for what takes a noisy chunk and its level, and returns the estimate of the clean one."""
        plain = {"c_skip": 0.0, "c_out": 1.0, "c_in": 1.0}
        return replace(self, stages=tuple(replace(one, c_noise=one.level, **plain) for one in self.stages))

    def __call__(
        self,
        network: Network,
        noise: Tensor,
        draw: Callable[[], Tensor] | None = None,
        correct: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """From unit Gaussian `noise` (B, H, A) to a clean chunk. `draw` gives more of it where the sampler needs it.

        `correct` may change each estimate of the clean chunk, to make it agree with what is known.
        """
        noisy = noise * self.initial_std
        base = before = None
        for stage in self.stages:
            output = network(noisy * stage.c_in, noise.new_full((), stage.c_noise))
            estimate = noisy * stage.c_skip + output * stage.c_out
            if self.clip is not None:
                estimate = estimate.clamp(-self.clip, self.clip)
            if correct is not None:
                estimate = correct(estimate)
            following = noisy * stage.keep + estimate * stage.estimate
            if stage.previous and before is not None:
                following = following + before * stage.previous
            if stage.base and base is not None:
                following = following + base * stage.base
            if stage.random:
                fresh = torch.randn_like(noise) if draw is None else draw()
                following = following + fresh * stage.random
            if stage.marks:
                base = noisy
            before, noisy = estimate, following
        return noisy


def make_sampler(name: str, process: Process, steps: int, clip: float | None = None) -> Sampler:
    """One of `SAMPLERS` over `process`, in `steps` steps (Heun evaluates the network twice in each but the last)."""
    if name not in SAMPLERS:
        raise UnknownNameError("sampler", name, SAMPLERS)
    if steps < 1:
        raise ConfigError(f"a sampler needs at least one step, got {steps}")
    levels = process.levels(steps)
    path = process.coefficients(levels)
    first = process.coefficients(levels[:1])
    spread = (first.signal * process.data_std) ** 2 + first.noise**2
    stages = SAMPLERS[name](_Path(process, levels, path.signal, path.noise))
    return Sampler(tuple(stages), float(spread.sqrt()), clip)


@dataclass(frozen=True)
class _Path:
    """Levels (K + 1,) with the signal and the noise that each has."""

    process: Process
    level: Tensor
    signal: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.level) - 1

    def stage(self, index: int, keep: Tensor | float, estimate: Tensor | float, **others: Any) -> Stage:
        """An evaluation at level `index` and what follows it; `others` are further fields of `Stage`."""
        one = self.process.coefficients(self.level[index : index + 1])
        values = {name: float(getattr(one, name)) for name in ("c_skip", "c_out", "c_in", "c_noise")}
        return Stage(level=float(self.level[index]), keep=float(keep), estimate=float(estimate), **values, **others)

    def straight(self, index: int, to: Tensor, to_signal: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of y and D for the chunk with noise `to`, the direction of the noise unchanged (DDIM, 2010.02502)."""
        keep = to / self.noise[index]
        return keep, to_signal - keep * self.signal[index]


def _ddim(path: _Path) -> list[Stage]:
    """Deterministic DDIM; for EDM also Euler's method, and DPM-Solver++ of first order."""
    steps = range(len(path))
    return [path.stage(i, *path.straight(i, path.noise[i + 1], path.signal[i + 1])) for i in steps]


def _ancestral(path: _Path) -> list[Stage]:
    """Euler's method part of the way down, then fresh noise up to the level: the whole posterior variance (DDPM)."""
    stages = []
    for i in range(len(path)):
        (signal, noise), (to_signal, to_noise) = ((path.signal[j], path.noise[j]) for j in (i, i + 1))
        kept = (to_noise * signal / (noise * to_signal)) ** 2  # share of the variance that is not renewed
        down = to_noise * kept.sqrt()
        renewed = to_noise * (1.0 - kept).sqrt()
        stages.append(path.stage(i, *path.straight(i, down, to_signal), random=float(renewed)))
    return stages


def _dpm_solver_2(path: _Path) -> list[Stage]:
    """DPM-Solver++(2M) (2211.01095, algorithm 2), midpoint; first order at the beginning and to the clean end."""
    stages = []
    rate = (path.signal / path.noise).log()  # lambda; infinite at the clean end
    for i in range(len(path)):
        keep, estimate = path.straight(i, path.noise[i + 1], path.signal[i + 1])
        if i == 0 or i == len(path) - 1:
            stages.append(path.stage(i, keep, estimate))
            continue
        slope = (rate[i + 1] - rate[i]) / (rate[i] - rate[i - 1]) / 2.0
        stages.append(path.stage(i, keep, estimate * (1.0 + slope), previous=float(-estimate * slope)))
    return stages


def _heun(path: _Path) -> list[Stage]:
    """Heun's method (2206.00364, algorithm 1): the mean of the slopes at both ends; Euler to the clean end."""
    if bool((path.signal != 1.0).any()):
        raise ConfigError("Heun's sampler is defined here for EDM's noise only; use ddim or euler")
    stages = []
    for i in range(len(path)):
        here, there = path.noise[i], path.noise[i + 1]
        keep, estimate = path.straight(i, there, path.signal[i + 1])
        if i == len(path) - 1:
            stages.append(path.stage(i, keep, estimate))
            continue
        stages.append(path.stage(i, keep, estimate, marks=True))
        # y' = y + (there - here) (s + s') / 2 with s = (y - D) / here and s' = (y_euler - D') / there
        half = (there - here) / 2.0
        stages.append(
            path.stage(i + 1, half / there, -half / there, previous=float(-half / here), base=float(1.0 + half / here))
        )
    return stages


SAMPLERS: dict[str, Callable[[_Path], list[Stage]]] = {
    "ddim": _ddim,
    "euler": _ddim,
    "dpm_solver_1": _ddim,
    "dpm_solver_2": _dpm_solver_2,
    "euler_ancestral": _ancestral,
    "ddpm": _ancestral,
    "heun": _heun,
}
"""`euler` is the one to use with flow matching. Ancestral and DDPM sampling are one formula."""
