"""PRDC (2305.13550): the policy stays near any action of the data that was done in a state like this one.

Not the action that was done here is imitated, but the nearest one to what the policy would do: the neighbour of
(beta s, pi(s)) among all (beta s, a) of the data, by a k-d tree. States are scaled by their own mean and spread.

Shape letters: B batch, N steps of the data, S state, h valued actions, A action.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor, nn

from robot_rl import offline_losses
from robot_rl.algorithms.networks import Augment, TensorObservation
from robot_rl.algorithms.td3_bc import TD3BC, RegularisedConfig
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.batch import Windows
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY

SMALLEST_STD = 1e-3


@dataclass(frozen=True)
class PRDCConfig(RegularisedConfig):
    """Hyperparameters."""

    beta: float = 2.0
    """How much states count beside actions in the search for a neighbour."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0.0:
            raise ConfigError(f"beta must not be negative, got {self.beta}")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> PRDC:
        return PRDC(self, model, critic, augment)


class PRDC(TD3BC):
    """See `robot_rl.algorithms.offline`; `study` must have seen the data before the first update."""

    def __init__(
        self, config: PRDCConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.prdc = config
        self._neighbours: Neighbours | None = None

    def study(self, windows: Iterator[Windows]) -> None:
        states, chunks = [], []
        for one in windows:
            if STATE_KEY not in one.observation:
                raise ConfigError("PRDC searches among states; these data have none")
            states.append(one.observation[STATE_KEY][:, -1])
            chunks.append(one.action[:, : self.critic.horizon])
        self._neighbours = Neighbours(np.concatenate(states), np.concatenate(chunks), self.prdc.beta)

    def policy_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        chunk = self.propose(data.observation, data.policy.goal)
        nearest = self._nearest(data.observation, chunk)
        distance = offline_losses.chunk_distance(chunk[:, : self.critic.horizon], nearest)
        q = self.values_of(data.observation, data.policy.goal, chunk).amin(0)
        loss = offline_losses.regularised_policy_loss(q, distance, self.prdc.weight)
        return loss, {"distance": distance.detach().mean(), "policy_q": q.detach().mean()}

    def _nearest(self, observation: TensorObservation, chunk: Tensor) -> Tensor:
        """The data's chunk (B, h, A) that is nearest to the policy's (B, H, A)."""
        if self._neighbours is None:
            raise ConfigError("PRDC has not studied the data yet")
        proposed = chunk.detach()[:, : self.critic.horizon].cpu().numpy()
        found = self._neighbours.nearest(observation[STATE_KEY][:, -1].cpu().numpy(), proposed)
        return torch.from_numpy(found).to(chunk)


class Neighbours:
    """The actions of the data by (beta s, a), states scaled."""

    def __init__(self, states: NDArray[np.floating], chunks: NDArray[np.floating], beta: float) -> None:
        """`states` (N, S), `chunks` (N, h, A)."""
        spread = states.std(0)
        self._mean, self._scale = states.mean(0), beta / np.where(spread < SMALLEST_STD, 1.0, spread)
        self._chunks = chunks
        self._tree = KDTree(self._keys(states, chunks))

    def nearest(self, states: NDArray[np.floating], chunks: NDArray[np.floating]) -> NDArray[np.floating]:
        """The known chunk (B, h, A) that is nearest to each of `chunks` (B, h, A) in `states` (B, S)."""
        _, index = self._tree.query(self._keys(states, chunks))
        return self._chunks[index]

    def _keys(self, states: NDArray[np.floating], chunks: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.concatenate([(states - self._mean) * self._scale, chunks.reshape(len(chunks), -1)], 1)
