"""A gripper's own numbers to 0 closed ... 1 open, and back; and when a command is worth sending."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardware.native_binding import GripperBinding

SMALLEST_CHANGE = 0.02
"""Opening below which a new goal is not sent: action servers cancel the motion under way for each goal."""


def to_native(binding: GripperBinding, opening: float) -> float:
    """The driver's number for an `opening` in [0, 1]; values outside are clipped."""
    return binding.closed + float(np.clip(opening, 0.0, 1.0)) * (binding.open - binding.closed)


def from_native(binding: GripperBinding, value: float) -> float:
    """Opening in [0, 1] for the driver's number."""
    return float(np.clip((value - binding.closed) / (binding.open - binding.closed), 0.0, 1.0))


def reported(binding: GripperBinding, names: list[str], position: Sequence[float]) -> float | None:
    """Opening that a JointState of the driver tells of, or None when it does not."""
    if binding.joint not in names:
        return None
    index = names.index(binding.joint)
    if index >= len(position) or not np.isfinite(position[index]):
        return None
    return from_native(binding, float(position[index]))


class Changes:
    """Lets an opening pass when it differs enough from the last one that passed."""

    def __init__(self) -> None:
        self._last: float | None = None

    def passes(self, opening: float) -> bool:
        if not np.isfinite(opening):
            return False
        if self._last is not None and abs(opening - self._last) < SMALLEST_CHANGE:
            return False
        self._last = opening
        return True

    def reset(self) -> None:
        """Let the next one pass in any case."""
        self._last = None
