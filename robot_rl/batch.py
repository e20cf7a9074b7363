"""A batch of transitions in memory, as the replay hands it to an algorithm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.types import Observation


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions; arrays may be views of buffers that the next `sample` overwrites."""

    observation: Observation  # each (B, ...): state float32, images uint8
    action: NDArray[np.float32]  # (B, A) executed action
    reward: NDArray[np.float32]  # (B,)
    next_observation: Observation  # each (B, ...)
    terminated: NDArray[np.float32]  # (B,) 1 where the task ended: do not bootstrap
    is_intervention: NDArray[np.float32]  # (B,) 1 where the person acted
    toggled: NDArray[np.float32]  # (B,) 1 where the gripper command changed the gripper's target

    def __len__(self) -> int:
        return len(self.reward)
