"""Preallocated batches that the replay fills in turns: sampling allocates nothing large."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.batch import Batch, Path, Returns
from robot_rl.types import Observation, ObservationSpec


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """One batch; its scalar columns are also rows of `scalars` (6, B), in the order of `sum_up`."""

    batch: Batch
    scalars: NDArray[np.float32]

    def sum_up(self, steps: NDArray[np.float32], there: NDArray[np.bool_], discount: float, begin: int) -> None:
        """Fill the columns from row `begin` on with the sums over n steps, so far as they are `there` (n, R).

        `steps` (n, R, 4): reward, terminated, intervention, toggled; a step that is not there repeats the last one.
        """
        columns = self.scalars[:, begin : begin + there.shape[1]]
        reward, terminated, intervention, toggled, to_come, toggles = columns
        powers = np.float32(discount) ** np.arange(len(there) + 1, dtype=np.float32)
        weights = there * powers[:-1, None]
        np.einsum("nb,nb->b", weights, steps[..., 0], out=reward)
        np.einsum("nb,nb->b", weights, steps[..., 3], out=toggles)
        intervention[:], toggled[:] = steps[0, :, 2], steps[0, :, 3]
        terminated[:], to_come[:] = steps[-1, :, 1], powers[there.sum(0)]

    def take_steps(
        self,
        observations: Observation,
        actions: NDArray[np.float32],
        path: NDArray[np.int64],
        following: NDArray[np.int64],
        there: NDArray[np.bool_],
        begin: int,
    ) -> None:
        """Fill what is wanted step by step from row `begin` on: `path` (n, R) are slots of steps, those that are not
        `there` repeat the last one; `following` (n, R) slots of the observations after them."""
        batch, end = self.batch, begin + there.shape[1]
        if batch.chunk is not None and batch.chunk_mask is not None:
            batch.chunk_mask[begin:end] = there.T
            batch.chunk[begin:end] = np.where(there.T[..., None], actions[path.T], 0.0)
        if batch.path is not None:
            first = slice(batch.path.mask.shape[1])
            batch.path.mask[begin:end] = there[first].T
            batch.path.action[begin:end] = actions[path[first].T]
            for key, array in observations.items():
                batch.path.observation[key][begin:end] = array[following[first].T]


class BatchOutputs:
    """Two outputs in turns: the batch before the newest stays as it is."""

    def __init__(self, spec: ObservationSpec, action_dim: int, returns: Returns) -> None:
        """`returns` say what is wanted step by step."""
        self._spec = spec
        self._action_dim = action_dim
        self._returns = returns
        self._outputs: list[BatchOutput] = []
        self._turn = 0

    def next(self, batch_size: int) -> BatchOutput:
        """The older of the two; both are made anew when the batch size changes."""
        if not self._outputs or len(self._outputs[0].batch) != batch_size:
            self._outputs = [self._allocate(batch_size) for _ in range(2)]
        self._turn ^= 1
        return self._outputs[self._turn]

    def _allocate(self, batch_size: int) -> BatchOutput:
        def arrays(*steps: int) -> Observation:
            return {
                key: np.empty((batch_size, *steps, *one.shape), one.dtype) for key, one in self._spec.arrays.items()
            }

        scalars = np.empty((6, batch_size), np.float32)
        reward, terminated, intervention, toggled, discount, toggles = scalars
        action = np.empty((batch_size, self._action_dim), np.float32)
        returns, chunk, mask, path = self._returns, None, None, None
        if returns.chunk:
            chunk = np.empty((batch_size, returns.steps, self._action_dim), np.float32)
            mask = np.empty((batch_size, returns.steps), np.float32)
        if returns.path:
            actions = np.empty((batch_size, returns.path, self._action_dim), np.float32)
            path = Path(arrays(returns.path), actions, np.empty((batch_size, returns.path), np.float32))
        batch = Batch(
            arrays(), action, reward, arrays(), discount, terminated, intervention, toggled, toggles, chunk, mask, path
        )
        return BatchOutput(batch, scalars)
