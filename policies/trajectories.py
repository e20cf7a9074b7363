"""A diffusion model of trajectories: states, actions, rewards and ends of so many steps, sampled as one.

After policy-guided diffusion (2404.06356): it is trained on what was recorded, with the processes, samplers and
networks of the score policies, and can be guided towards what a target policy would do (`policies.guidance`). A row is
one step: the state, the action, its reward, and whether the task ended with it; the last row is the state that follows.

Shape letters: B batch, R rows, S state, A action, D = S + A + 2 elements of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.denoisers import MLPConfig, Shape, TransformerConfig
from policies.guidance import GuidanceConfig, TargetPolicy, policy_gradient
from policies.normalizer import Normalizer
from policies.processes import DDPMProcess, EDMProcess, FlowProcess, denoising_task
from policies.samplers import Sampler, make_sampler
from robot_rl import losses
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import ConfigError, SpecError
from robot_rl.types import STATE_KEY, ActionSpec, ObservationSpec

OUTCOMES = 2
"""Elements of a row that come last: reward and end."""
ENDED = 0.5
"""A step whose last element is above this ended the task."""


@dataclass(frozen=True)
class TrajectoryConfig:
    """Length, network, noise process and sampler. States follow from each other to the last digit, so that the last
    noise is smaller and the steps are more than a policy's."""

    horizon: int = 16
    """Steps of a trajectory; it has one row more, for the last state."""
    process: EDMProcess | FlowProcess | DDPMProcess = field(
        default_factory=lambda: EDMProcess(sigma_min=0.005, sigma_max=20.0, sigma_last=0.01)
    )
    """How trajectories are noised; what the network learns."""
    network: MLPConfig | TransformerConfig = field(default_factory=MLPConfig)
    """The denoiser; of a transformer each row is a token."""
    sampler: str = "euler_ancestral"
    """See `policies.samplers.SAMPLERS`. With fresh noise at every step states follow from each other better."""
    steps: int = 64
    """Of the sampler."""

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ConfigError(f"horizon must be at least 1, got {self.horizon}")
        self.build_sampler()  # wrong names are found now, not after training

    def build_sampler(self) -> Sampler:
        return make_sampler(self.sampler, self.process, self.steps)

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> TrajectoryModel:
        return TrajectoryModel(self, observation_spec, action_spec)


class Trajectories(NamedTuple):
    """Rows of B trajectories, apart."""

    state: Tensor  # (B, R, S)
    action: Tensor  # (B, R - 1, A)
    reward: Tensor  # (B, R - 1)
    ended: Tensor  # (B, R - 1) about 1 where the task ended, about 0 elsewhere


class TrajectoryModel(nn.Module):
    """Implements `robot_rl.algorithms.imitation.ChunkModel`, so that what trains policies trains it."""

    def __init__(self, config: TrajectoryConfig, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        super().__init__()
        if observation_spec.image_keys or not observation_spec.state_dim:
            raise SpecError(
                f"trajectories are of states alone; the data show {', '.join(observation_spec.arrays)}: record without "
                "cameras"
            )
        self.config = config
        self.rows = config.horizon + 1
        self.sizes = (observation_spec.state_dim, action_spec.dim, 1, 1)
        elements = sum(self.sizes)
        self.scale = Normalizer(elements, config.process.data_std)
        # nothing is given: the context is one token that is always one
        self.denoiser = config.network.build(Shape(1, 1, self.rows, elements, elements))
        self.sampler = config.build_sampler()

    def fit(self, windows: TensorWindows) -> None:
        """Scale by the mean and spread of the rows of these windows, rewards and ends at least by half their range.

        A rare end, scaled by its small spread, would stand out of the noise before the states do that it depends on.
        """
        rows, known = self.table(windows)
        counted = rows[known > 0.5].double()
        mean, std = counted.mean(0), counted.std(0, unbiased=False)
        half_range = 0.5 * (counted.amax(0) - counted.amin(0))
        std[-OUTCOMES:] = torch.maximum(std, half_range)[-OUTCOMES:]
        self.scale.fit(mean.cpu().numpy(), std.cpu().numpy())

    def table(self, windows: TensorWindows) -> tuple[Tensor, Tensor]:
        """Rows (B, R, D), and 1 where the episode was so long (B, R). The last row has a state and zeros."""
        states = torch.cat([windows.observation[STATE_KEY][:, -1:], windows.future[STATE_KEY]], 1)
        steps = torch.cat([windows.action, windows.outcome], -1) * windows.mask.unsqueeze(-1)
        known = functional.pad(windows.mask, (1, 0), value=1.0)
        return torch.cat([states, functional.pad(steps, (0, 0, 0, 1))], -1), known

    def loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the network's output over the rows that are known."""
        rows, known = self.table(windows)
        task = denoising_task(self.config.process, self.scale(rows), generator)
        output = self.denoiser(task.inputs, task.c_noise, _context(rows))
        return losses.denoising_loss(output, task.target, known.unsqueeze(-1)), {}

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: torch.Generator,
        target: TargetPolicy | None = None,
        guidance: GuidanceConfig | None = None,
    ) -> Trajectories:
        """So many, all noise from `generator`; with a `target` guided towards its actions."""
        shape = (count, self.rows, sum(self.sizes))

        def draw() -> Tensor:
            return torch.randn(shape, generator=generator, device=generator.device)

        correct = None if target is None else self._guide(target, guidance or GuidanceConfig())
        noise = draw()
        context = _context(noise)
        rows = self.sampler(lambda noisy, level: self.denoiser(noisy, level, context), noise, draw, correct)
        return self.split(self.scale.inverse(rows))

    def split(self, rows: Tensor) -> Trajectories:
        """(B, R, D) to its parts."""
        state, action, reward, ended = rows.split(self.sizes, -1)
        return Trajectories(state, action[:, :-1], reward[:, :-1, 0], ended[:, :-1, 0])

    def _guide(self, target: TargetPolicy, guidance: GuidanceConfig) -> Callable[[Tensor], Tensor]:
        """Moves the actions of each estimate up the target's log-likelihood, in the order of the sampler's stages."""
        weights = iter(guidance.weights(len(self.sampler.stages)))
        begin, size = self.sizes[0], self.sizes[1]
        spread = self.scale.std[begin : begin + size]

        def correct(estimate: Tensor) -> Tensor:
            weight = next(weights)
            if not weight:
                return estimate
            parts = self.split(self.scale.inverse(estimate))
            # by the chain rule the gradient for scaled actions is that for actions times their spread
            slope = policy_gradient(target, parts.state[:, :-1], parts.action) * spread
            moved = estimate.clone()
            moved[:, :-1, begin : begin + size] += weight * self.config.process.data_std * losses.unit_rms(slope)
            return moved

        return correct


def _context(rows: Tensor) -> Tensor:
    return rows.new_ones((len(rows), 1, 1))
