"""The samplers of `policies.samplers` by `diffusers`' own schedulers: what the tables are tested against.

Slower (a scheduler costs about as much as a small network), but another's code: `ScoreConfig.tables = false` uses it.
What is drawn on the way comes from diffusers, so that `draws` is 0; such a sampler cannot be exported.
"""

# diffusers' schedulers have the attributes that are set here; their stubs say otherwise.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from policies.processes import DDPMProcess, EDMProcess, FlowProcess, Process
from policies.samplers import Network
from robot_rl.errors import ConfigError, UnknownNameError


class ReferenceSampler:
    """Called as a `Sampler` is."""

    draws = 0
    c_noises = ()
    """Not known beforehand."""

    def __init__(
        self,
        name: str,
        process: Process,
        steps: int,
        clip: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Raises `ConfigError` for a sampler that diffusers does not have for this process."""
        kind = type(process).__name__
        builders = {one: build for (of, one), build in _SCHEDULERS.items() if of == kind}
        if name not in builders:
            raise UnknownNameError(f"diffusers' sampler for {kind}", name, builders)
        if clip is not None and not isinstance(process, DDPMProcess):
            raise ConfigError("diffusers clips estimates of DDPM and DDIM only")
        self._process, self._steps, self._generator = process, steps, generator
        self._levels = process.levels(steps)
        self._scheduler, self._noise_wanted, self._twice, self._arguments = builders[name](process, clip)
        first = process.coefficients(self._levels[:1])
        self.initial_std = float(((first.signal * process.data_std) ** 2 + first.noise**2).sqrt())

    def __call__(
        self,
        network: Network,
        noise: Tensor,
        draw: Callable[[], Tensor] | None = None,
        correct: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """From unit Gaussian `noise` (B, H, A) to a clean chunk; `draw` is not asked, see above."""
        scheduler, levels = self._scheduler, self._set_levels()
        sample = noise * self.initial_std
        arguments = dict(self._arguments)
        if "generator" in scheduler.step.__code__.co_varnames:
            arguments["generator"] = self._generator
        for level, timestep in zip(levels, scheduler.timesteps, strict=True):
            one = self._process.coefficients(level.reshape(1))
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(sample, timestep)  # some insist on being asked; its answer is not used
            output = network(sample * float(one.c_in), noise.new_tensor(float(one.c_noise)))
            if correct is not None:
                estimate = correct(float(one.c_skip) * sample + float(one.c_out) * output)
                output = (estimate - float(one.c_skip) * sample) / float(one.c_out)
            if self._noise_wanted:
                estimate = float(one.c_skip) * sample + float(one.c_out) * output
                output = (sample - estimate) / float(level)
            sample = scheduler.step(output, timestep, sample, **arguments).prev_sample
        return sample

    def _set_levels(self) -> Tensor:
        """Reset the scheduler and give it our levels; returns those of its evaluations."""
        scheduler, levels = self._scheduler, self._levels
        scheduler.set_timesteps(self._steps)
        if isinstance(self._process, DDPMProcess):
            return levels[:-1]
        if self._twice:
            levels = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
        scheduler.sigmas = levels.float()
        scheduler.timesteps = torch.arange(len(levels) - 1, dtype=torch.float32)
        scheduler.set_begin_index(0)
        return levels[:-1]


Built = tuple[Any, bool, bool, dict[str, Any]]
"""Scheduler, whether it wants the noise, whether it evaluates twice per step, arguments of its `step`."""


def _multistep(order: int) -> Callable[[EDMProcess, float | None], Built]:
    def build(process: EDMProcess, clip: float | None) -> Built:
        from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import EDMDPMSolverMultistepScheduler

        scheduler = EDMDPMSolverMultistepScheduler(
            sigma_min=process.sigma_min, sigma_max=process.sigma_max, sigma_data=process.data_std, solver_order=order
        )
        return scheduler, False, False, {}

    return build


def _edm_euler(process: EDMProcess, clip: float | None) -> Built:
    from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler

    scheduler = EDMEulerScheduler(sigma_min=process.sigma_min, sigma_max=process.sigma_max, sigma_data=process.data_std)
    return scheduler, False, False, {}


def _ancestral(process: EDMProcess, clip: float | None) -> Built:
    from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler

    return EulerAncestralDiscreteScheduler(), True, False, {}


def _heun(process: EDMProcess, clip: float | None) -> Built:
    from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler

    return HeunDiscreteScheduler(), True, True, {}


def _flow_euler(process: FlowProcess, clip: float | None) -> Built:
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(), False, False, {}


def _ddim(process: DDPMProcess, clip: float | None) -> Built:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=process.train_levels,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
    )
    return scheduler, False, False, {"use_clipped_model_output": True}


def _ddpm(process: DDPMProcess, clip: float | None) -> Built:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = DDPMScheduler(
        num_train_timesteps=process.train_levels,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
    )
    return scheduler, False, False, {}


_SCHEDULERS: dict[tuple[str, str], Callable[[Any, float | None], Built]] = {
    ("EDMProcess", "ddim"): _multistep(1),
    ("EDMProcess", "dpm_solver_1"): _multistep(1),
    ("EDMProcess", "dpm_solver_2"): _multistep(2),
    ("EDMProcess", "euler"): _edm_euler,
    ("EDMProcess", "euler_ancestral"): _ancestral,
    ("EDMProcess", "heun"): _heun,
    ("FlowProcess", "euler"): _flow_euler,
    ("DDPMProcess", "ddim"): _ddim,
    ("DDPMProcess", "ddpm"): _ddpm,
}
