"""What all networks that sample chunks share: drawing the noise, putting a prefix in its place.

Shape letters: B batch, T observations, H horizon, A action, P prefix, K draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.inputs import InputTokens, Moments, fill_goal
from policies.normalizer import Normalizer
from policies.words import TaskSpace
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import SpecError
from robot_rl.types import STATE_KEY, ArraySpec


@dataclass(frozen=True, slots=True)
class Request:
    """All that one chunk depends on, as tensors alone, so that it can be traced and exported."""

    observation: Mapping[str, Tensor]  # each (B or 1, T, ...)
    goal: Mapping[str, Tensor]  # each (B or 1, ...)
    told: Tensor  # (B or 1,) 1 where the goal counts, 0 where there is none
    noise: Tensor  # (B, H, A) unit Gaussian, to begin with
    fresh: Tensor  # (K, B, H, A) unit Gaussian, for samplers that draw on the way
    prefix: Tensor  # (B, H, A) actions that are decided, where
    prefix_mask: Tensor  # (B, H) is 1


class ChunkSampler(nn.Module):
    """What chunks are sampled from; a subclass implements `answer`, `goal_arrays` and, with words, `words`."""

    draws = 0
    """Noises that sampling takes beside the first."""

    def __init__(self, horizon: int, history: int) -> None:
        super().__init__()
        self.horizon, self.history = horizon, history

    @property
    def goal_arrays(self) -> Mapping[str, ArraySpec]:
        """What a goal consists of."""
        raise NotImplementedError

    @property
    def words(self) -> TaskSpace | None:
        """What embeds goals in words, if it knows words."""
        return None

    def answer(self, request: Request) -> Tensor:
        """The chunk (B, H, A), its prefix in place."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """As `propose`, without gradients."""
        return self.propose(*args, **kwargs)

    def propose(self, *args: Any, **kwargs: Any) -> Tensor:
        """Chunks (B, H, A) for what `request` takes."""
        return self.answer(self.request(*args, **kwargs))

    def request(
        self,
        observation: Mapping[str, Tensor],
        goal: Mapping[str, Tensor] | None,
        noise: Tensor,
        generator: torch.Generator | None = None,
        prefix: Tensor | None = None,
        fresh: Tensor | None = None,
    ) -> Request:
        """For chunks from unit Gaussian `noise` (B, H, A); observations each (B, T, ...), goal (B, ...).

        One observation (and goal) does for any number of chunks, and is encoded once. What of `goal_arrays` the goal
        leaves out is zero.
        A `prefix` (B, P, A) of actions that are already decided begins the chunk. What samplers draw on the way comes
        from the generator, or is given as `fresh` (K, B, H, A).
        """
        seen = len(next(iter(observation.values())))
        told = noise.new_full((seen,), float(goal is not None))
        whole = fill_goal(self.goal_arrays, goal or {}, seen, noise.device)
        if fresh is None:
            shape = (self.draws, *noise.shape)
            fresh = torch.randn(shape, generator=generator, device=noise.device, dtype=noise.dtype)
        length = 0 if prefix is None else prefix.shape[1]
        if prefix is not None and (length > self.horizon or prefix.shape[2:] != noise.shape[2:]):
            raise SpecError(f"the prefix is {tuple(prefix.shape[1:])}, expected at most {tuple(noise.shape[1:])}")
        placed = torch.zeros_like(noise) if prefix is None else functional.pad(prefix, (0, 0, 0, self.horizon - length))
        mask = (torch.arange(self.horizon, device=noise.device) < length).to(noise.dtype)
        return Request(observation, whole, told, noise, fresh, placed, mask.expand(len(noise), -1))


class ChunkNet(ChunkSampler):
    """Implements `robot_rl.algorithms.imitation.ChunkModel`; a subclass, `answer` and `imitation_loss`."""

    def __init__(self, inputs: InputTokens, actions: Normalizer, horizon: int) -> None:
        super().__init__(horizon, inputs.history)
        self.inputs = inputs
        self.actions = actions
        self.action_dim = len(actions.mean)

    @property
    def goal_arrays(self) -> Mapping[str, ArraySpec]:
        return self.inputs.goal_arrays

    @property
    def words(self) -> TaskSpace | None:
        return self.inputs.words

    def imitation_loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise (0-d) for chunks as in `windows`, and 0-d tensors to log."""
        raise NotImplementedError

    def loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The imitation loss, and what brings words and changes together where there are words."""
        windows = self.inputs.put_into_words(self.inputs.train_goals(windows, generator), generator)
        loss, metrics = self.imitation_loss(windows, generator)
        if self.inputs.words is None:
            return loss, metrics
        align, more = self.inputs.align(windows)
        return loss + align, metrics | more

    def fit_normalizers(self, moments: Moments) -> None:
        """Take mean and standard deviation of the data."""
        if self.inputs.normalizer is not None:
            self.inputs.normalizer.fit(*moments[STATE_KEY])
        self.actions.fit(*moments["action"])


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with GELU between them, as OGBench's actors (2410.20092)."""
    layers: list[nn.Module] = []
    for width, following in pairwise((inputs, *hidden)):
        layers += [nn.Linear(width, following), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


def with_prefix(chunk: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
    """`chunk` (B, H, A) with `prefix` (B, H, A) where `mask` (B, H) is 1."""
    return torch.where(mask.unsqueeze(-1) > 0.5, prefix, chunk)
