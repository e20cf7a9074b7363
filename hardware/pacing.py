"""Ticks at absolute deadlines, so that work and waiting together take one period and nothing drifts."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Says how long to wait for the next tick, and gives up time that cannot be caught up.

    A tick that is late by no more than the allowed lag leaves the grid as it is: the next period is
    shorter. Beyond it the grid starts anew from now, and `late_ticks` and `lost_s` count what was lost.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = clock()
        self.late_ticks = 0
        self.lost_s = 0.0

    def anchor(self) -> None:
        """Start the grid anew: this moment is a tick."""
        self._next_s = self._clock()

    def schedule(self, period_s: float, max_lag_s: float) -> None:
        """Put the next tick one period after the last one."""
        self._next_s += period_s
        lag_s = self._clock() - self._next_s
        if lag_s > max_lag_s:
            self.late_ticks += 1
            self.lost_s += lag_s
            self._next_s += lag_s

    def remaining_s(self) -> float:
        """Time until the next tick; negative when it is overdue."""
        return self._next_s - self._clock()
