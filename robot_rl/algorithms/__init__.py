"""Learning algorithms, one file each, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from robot_rl.batch import Batch, Returns


class Algorithm(Protocol):
    """Turns batches into better parameters. All tensors live on `device`."""

    @property
    def returns(self) -> Returns:
        """How its batches sum the rewards."""
        ...

    @property
    def imitation_updates(self) -> int:
        """Updates, the first of all, in which its policy only imitates: done before the learner's others."""
        ...

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step; returns 0-d tensors to log (no host synchronisation inside)."""
        ...

    def policy_state(self) -> Mapping[str, Tensor]:
        """Tensors that the acting policy needs (`policies` loads them); detached copies on the CPU."""
        ...

    def state_dict(self) -> Mapping[str, Tensor]:
        """Everything needed to resume exactly: networks, targets, optimiser moments, step counts."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...
