"""Preallocated batches that the replay fills in turns: sampling allocates nothing large."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.batch import Batch
from robot_rl.types import Observation, ObservationSpec


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """One batch; its scalar columns are also rows of `scalars` (6, B), in the order of `ReplayBuffer._sum_ahead`."""

    batch: Batch
    scalars: NDArray[np.float32]


class BatchOutputs:
    """Two outputs in turns: the batch before the newest stays as it is."""

    def __init__(self, spec: ObservationSpec, action_dim: int) -> None:
        self._spec = spec
        self._action_dim = action_dim
        self._outputs: list[BatchOutput] = []
        self._turn = 0

    def next(self, batch_size: int) -> BatchOutput:
        """The older of the two; both are made anew when the batch size changes."""
        if not self._outputs or len(self._outputs[0].batch) != batch_size:
            self._outputs = [self._allocate(batch_size) for _ in range(2)]
        self._turn ^= 1
        return self._outputs[self._turn]

    def _allocate(self, batch_size: int) -> BatchOutput:
        def arrays() -> Observation:
            return {key: np.empty((batch_size, *one.shape), one.dtype) for key, one in self._spec.arrays.items()}

        scalars = np.empty((6, batch_size), np.float32)
        reward, terminated, intervention, toggled, discount, toggles = scalars
        action = np.empty((batch_size, self._action_dim), np.float32)
        batch = Batch(arrays(), action, reward, arrays(), discount, terminated, intervention, toggled, toggles)
        return BatchOutput(batch, scalars)
