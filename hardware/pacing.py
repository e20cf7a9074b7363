"""Ticks at absolute deadlines, so that work and waiting together take one period and nothing drifts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np


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


class LoopTiming:
    """How well the loop keeps time, since the last report."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._began_s = time.monotonic()
        self._lags_s: list[float] = []
        self._simulated_s = 0.0
        self._renders_s: list[float] = []

    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def slice(self, lag_s: float, period_s: float) -> None:
        """A slice began `lag_s` after its deadline."""
        self._lags_s.append(lag_s)
        self._simulated_s += period_s

    @contextmanager
    def rendering(self) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self._renders_s.append(time.monotonic() - began_s)

    def report(self) -> dict[str, object]:
        elapsed_s = self.elapsed_s()
        values: dict[str, object] = {
            "rate_hz": round(len(self._lags_s) / elapsed_s, 2),
            "jitter_ms": round(1e3 * float(np.percentile(self._lags_s, 99)), 2),
            "real_time_factor": round(self._simulated_s / elapsed_s, 3),
            "images_per_s": round(len(self._renders_s) / elapsed_s, 2),
            "render_ms": round(1e3 * float(np.mean(self._renders_s)), 2) if self._renders_s else 0.0,
        }
        self.start()
        return values
