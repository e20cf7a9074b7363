"""Composition: a convex combination of score policies, denoising step by denoising step (GPC, 2510.01068, section 4).

For one noisy chunk y = signal x + noise n of one level, whatever a policy is said to estimate is affine in its
estimate D of the clean chunk, with coefficients that are the same for all policies:

    noise     eps = (y - signal D) / noise
    score     s   = (signal D - y) / noise^2
    velocity  v   = n - x of flow matching = (y - D) / noise, where signal = 1 - noise

so with weights that sum to 1 it is all one to combine the estimates, the noises (as GPC does), the scores or the
velocities. Here the estimates are combined, in units of actions, which is where parents with other statistics meet.

One chunk is noised, by the composition's process. A parent of another process is asked about the same chunk: divided
by its signal, a noisy chunk is x + (noise / signal) n in every process, so y times the ratio of both signals is a
noisy chunk of the parent's process at the level with the same noise / signal. For EDM and flow matching that level is
sigma = t / (1 - t), and y_EDM = y_flow / (1 - t). DDIM's step (Euler's, for flow matching) is y' / signal' =
(r' / r) y / signal + (1 - r' / r) D with r = noise / signal: the same in every process, so that with levels of the same
ratios it draws the same sample from the same beginning. Where the parent has no such level the nearest that it was
trained on is taken (DDPM has a hundred; EDM ends at sigma_max, flow matching begins without any signal), and y is
scaled to the standard deviation that the parent's noisy chunks have there, which at equal ratios is the same thing.

Parents scale actions by statistics of their own. The noise is scaled by the weighted geometric mean of the parents'
scales, element by element, so that with all of the weight a parent samples exactly as it does alone. Where the scales
of two parents differ by one factor for all elements, the factor is one between noise levels, and exact. Where they
differ otherwise, a parent meets an element with more or less noise than the level that it is told: the geometric
mean of its elements' levels.

Shape letters: B batch, T observations, H horizon, A action, S state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from policies.chunk_net import ChunkSampler, Request, with_prefix
from policies.chunking import ExecutionConfig
from policies.inputs import START, InputConfig
from policies.parameters import load_parameters
from policies.processes import DDPMProcess, EDMProcess, FlowProcess
from policies.samplers import Sampler, make_sampler
from policies.score import ScoreConfig
from policies.words import TaskSpace
from robot_rl.errors import ConfigError, SpecError
from robot_rl.types import STATE_KEY, ActionSpec, ArraySpec, ObservationSpec

WEIGHTS_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ParentConfig:
    """One of the policies that are composed."""

    run: str
    """The run that it was learned in."""
    policy: ScoreConfig
    """Its configuration."""
    sees: Mapping[str, tuple[str, ...]]
    """Keys of the observations that it was trained on, and the names of their elements, where they have names."""

    def view(self, spec: ObservationSpec) -> ObservationSpec:
        """What of `spec` it sees; `SpecError` names what is missing."""
        arrays = {}
        for key, names in self.sees.items():
            if key not in spec.arrays or not set(names) <= set(spec.arrays[key].names):
                raise SpecError(f"{self.run} sees {key} {list(names)}, which is not part of {spec}")
            arrays[key] = replace(spec.arrays[key], shape=(len(names),), names=names) if names else spec.arrays[key]
        return ObservationSpec(arrays)


@dataclass(frozen=True)
class ComposedConfig:
    """Parents, their weights, and how the composition is sampled."""

    parents: tuple[ParentConfig, ...]
    """At least two."""
    weights: tuple[float, ...]
    """Of the parents; not negative, of sum 1."""
    process: EDMProcess | FlowProcess | DDPMProcess = field(default_factory=EDMProcess)
    """How the chunk is noised that all parents are asked about."""
    sampler: str = "dpm_solver_2"
    """See `policies.samplers.SAMPLERS`."""
    steps: int = 3
    """Of the sampler."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    """How chunks are played."""

    sees_future = False

    def __post_init__(self) -> None:
        check_weights(self.weights, len(self.parents))
        for name, values in (
            ("horizon", [one.policy.horizon for one in self.parents]),
            ("inputs.words", [one.policy.inputs.words for one in self.parents]),
        ):
            if any(value != values[0] for value in values):
                raise ConfigError(
                    f"the parents' policies must have the same {name}; theirs are "
                    + ", ".join(f"{value} ({one.run})" for one, value in zip(self.parents, values, strict=True))
                )
        self.build_sampler()  # wrong names are found now

    @property
    def horizon(self) -> int:
        """Actions of a chunk."""
        return self.parents[0].policy.horizon

    @property
    def inputs(self) -> InputConfig:
        """What all of the parents together are told."""
        theirs = [one.policy.inputs for one in self.parents]
        return InputConfig(
            history=max(one.history for one in theirs), goal=any(one.goal for one in theirs), words=theirs[0].words
        )

    def build_sampler(self) -> Sampler:
        return make_sampler(self.sampler, self.process, self.steps).of_estimates()

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> ComposedModel:
        return ComposedModel(self, observation_spec, action_spec)


def check_weights(weights: Sequence[float], parents: int) -> None:
    """`ConfigError` unless they are convex: one for each parent, none negative, of sum 1."""
    if parents < 2 or len(weights) != parents:
        raise ConfigError(f"a composition has at least two parents and as many weights; got {parents}, {len(weights)}")
    if not all(weight >= 0.0 for weight in weights):
        raise ConfigError(f"weights must not be negative, got {list(weights)}")
    if not abs(math.fsum(weights) - 1.0) <= WEIGHTS_SUM_TOLERANCE:
        raise ConfigError(f"weights must sum to 1, got {list(weights)} of sum {math.fsum(weights):g}")


class ComposedModel(ChunkSampler):
    """The parents' networks, sampled together. It has their weights, and none of its own to learn."""

    def __init__(self, config: ComposedConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__(config.horizon, config.inputs.history)
        self.config = config
        self.observation_spec = observation_spec
        self.parents = nn.ModuleList(Parent(one, observation_spec, action_spec) for one in config.parents)
        self.sampler = config.build_sampler()
        self.draws = self.sampler.draws

    @property
    def goal_arrays(self) -> Mapping[str, ArraySpec]:
        wanted = {key: one for member in self._parents for key, one in member.net.goal_arrays.items()}
        return {key: self.observation_spec.arrays.get(key.removeprefix(START), one) for key, one in wanted.items()}

    @property
    def words(self) -> TaskSpace | None:
        """The first parent's: all know the same."""
        return self._parents[0].net.words

    def load_parents(self, weights: Sequence[Mapping[str, Tensor]]) -> None:
        """Take the parents' own parameters; `SpecError` when they do not fit, `ConfigError` for words of others."""
        for one, tensors in zip(self._parents, weights, strict=True):
            load_parameters(one.net, tensors)
            if one.net.words is not None:
                one.net.words.check_encoder()  # the composition tells all of them the vector of one encoder

    def answer(self, request: Request) -> Tensor:
        """As `ScoreModel.answer`, by the parents' combined estimate; a parent without weight is not asked."""
        asked = [(weight, one) for weight, one in zip(self.config.weights, self._parents, strict=True) if weight > 0.0]
        contexts = [one.net.contexts(one.view(request)) for _, one in asked]
        middle = _mean([(weight, one.net.actions.mean) for weight, one in asked])
        spread = _mean([(weight, one.net.actions.std.log()) for weight, one in asked]).exp()
        unit = spread / self.config.process.data_std

        def combined(noisy: Tensor, level: Tensor) -> Tensor:
            signal, noise, *_ = self.config.process.coefficients(level)
            noisy = noisy * unit + signal * middle
            estimates = [
                (weight, one.estimate(noisy, signal, noise * unit, context, request))
                for (weight, one), context in zip(asked, contexts, strict=True)
            ]
            return (_mean(estimates) - middle) / unit

        clean, given = (request.prefix - middle) / unit, request.prefix_mask.unsqueeze(-1)
        fresh = iter(request.fresh)
        chunk = self.sampler(combined, request.noise, lambda: next(fresh), lambda one: one + given * (clean - one))
        return with_prefix(chunk * unit + middle, request.prefix, request.prefix_mask)

    @property
    def _parents(self) -> list[Parent]:
        return cast("list[Parent]", list(self.parents))


class Parent(nn.Module):
    """A parent's network, behind what it sees and in units of actions."""

    _elements: Tensor

    def __init__(self, config: ParentConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__()
        self.spec = config.view(observation_spec)
        self.net = config.policy.build(self.spec, action_spec)
        elements: Sequence[int] = ()
        if STATE_KEY in self.spec.arrays:
            whole, seen = observation_spec.arrays[STATE_KEY], self.spec.arrays[STATE_KEY]
            elements = [whole.names.index(name) for name in seen.names] or range(whole.shape[0])
        self.register_buffer("_elements", torch.tensor([*elements], dtype=torch.int64), persistent=False)

    def view(self, request: Request) -> Request:
        """The part of `request` that it knows: its keys and elements, the latest of its observations."""
        observation = {
            key: self._pick(key, request.observation[key][:, -self.net.history :]) for key in self.spec.arrays
        }
        goal = {key: self._pick(key.removeprefix(START), request.goal[key]) for key in self.net.goal_arrays}
        return replace(request, observation=observation, goal=goal)

    def _pick(self, key: str, values: Tensor) -> Tensor:
        return values[..., self._elements] if key == STATE_KEY else values

    def estimate(self, noisy: Tensor, signal: Tensor, noise: Tensor, context: Tensor, request: Request) -> Tensor:
        """The clean chunk (B, H, A), in units of actions as `noisy` (B, H, A): signal () of it, noise of std (A,).

        `context` is the network's, `request` tells the prefix.
        """
        config, actions = self.net.config, self.net.actions
        process, unit = config.process, actions.std / actions.target_std
        mean_noise = (noise / unit).log().mean().exp()
        level = process.level(signal, mean_noise)
        own_signal, own_noise, c_skip, c_out, c_in, c_noise = process.coefficients(level)
        met = ((signal * process.data_std) ** 2 + mean_noise**2).sqrt()
        wanted = ((own_signal * process.data_std) ** 2 + own_noise**2).sqrt()
        own = (noisy - signal * actions.mean) / unit * (wanted / met)
        output = self.net.estimate(c_in * own, c_noise, context, actions(request.prefix), request.prefix_mask)
        estimate = c_skip * own + c_out * output
        if config.clip is not None:
            estimate = estimate.clamp(-config.clip, config.clip)
        return actions.inverse(estimate)


def _mean(weighted: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Of tensors of one shape, with weights of sum 1."""
    return torch.stack([weight * one for weight, one in weighted]).sum(0)
