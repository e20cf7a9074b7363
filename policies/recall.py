"""A policy as the table of what it would do at recorded observations, for what asks it again and again (FQE).

Shape letters: R observations of all episodes, K draws, B batch, T history, H horizon, h actions that are played,
A action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.chunk_net import ChunkSampler, Request
from policies.chunking import ChunkPolicy
from policies.crowd import sample_chunks
from policies.sources import SampleInputs
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.protocols import Policy
from robot_rl.types import ArraySpec

PROPOSED = "proposed"
"""Key of observations (..., K, h, A): what the policy would do there."""
TOGETHER = 512


class Recalled(ChunkSampler):
    """The policy of a table that observations carry; the noise chooses among the draws."""

    def __init__(self, horizon: int, action_dim: int) -> None:
        super().__init__(horizon, 1)
        self.action_dim = action_dim
        self.nothing = torch.nn.Parameter(torch.zeros(1))  # trainers want something to train

    @property
    def goal_arrays(self) -> Mapping[str, ArraySpec]:
        return {}

    def loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Zero: a table has nothing to learn."""
        return 0.0 * self.nothing.sum(), {}

    def answer(self, request: Request) -> Tensor:
        table = request.observation[PROPOSED][:, -1]  # (B, K, h, A)
        share = torch.special.ndtr(request.noise[:, 0, 0])
        chosen = (share * table.shape[1]).long().clamp(max=table.shape[1] - 1)
        return table[torch.arange(len(table), device=table.device), chosen]


def propose_all(
    policy: Policy,
    observations: Mapping[str, NDArray[Any]],
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    horizon: int,
    draws: int,
    seed: int,
    progress: Callable[[int], object] = lambda done: None,
) -> NDArray[np.float32]:
    """What the policy would do (n, K, h, A) at `rows` (n,) of the observations (R, ...), told no goal.

    `first` (n,) is where each row's episode begins. Policies that decide step by step do one thing (K = h = 1), of
    `draws` chunks the first `horizon` actions count, or as many as are played. `progress` is told how many more rows
    are done.
    """
    found = []
    for begin in range(0, len(rows), TOGETHER):
        part = slice(begin, begin + TOGETHER)
        if isinstance(policy, ChunkPolicy):
            chunks = _chunks(policy, observations, rows[part], first[part], draws, (seed, begin))
            found.append(chunks[:, :, : min(horizon, policy.execution.execute)])
        else:
            found.append(_actions(policy, observations, rows[part]))
        progress(len(rows[part]))
    return np.clip(np.concatenate(found), -1.0, 1.0).astype(np.float32)


def _actions(policy: Policy, observations: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> NDArray[Any]:
    acted = []
    for row in rows:
        policy.reset()
        acted.append(policy.act({key: np.array(array[row]) for key, array in observations.items()}))
    return np.stack(acted)[:, None, None]


def _chunks(
    policy: ChunkPolicy,
    observations: Mapping[str, NDArray[Any]],
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    draws: int,
    seed: tuple[int, ...],
) -> NDArray[Any]:
    source, random = policy.source, np.random.default_rng(seed)
    window = np.maximum(rows[:, None] + np.arange(1 - source.history, 1), first[:, None])
    seen = {key: array[window] for key, array in observations.items()}
    inputs = [
        SampleInputs(
            {key: array[index] for key, array in seen.items()},
            None,
            random.standard_normal((source.horizon, policy.action_spec.dim), np.float32),
            int(random.integers(2**31)),
        )
        for index in range(len(rows))
        for _ in range(draws)
    ]
    chunks = np.stack(sample_chunks(source, inputs))
    return chunks.reshape(len(rows), draws, *chunks.shape[1:])
