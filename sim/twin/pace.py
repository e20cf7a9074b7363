"""Keeps the ticks of a twin within their period, by leaving out particles where the machine cannot step them all."""

from __future__ import annotations

from sim.twin.sync import TwinSync

TOOK_SHARE = 0.02
"""Of the newest tick in the running mean of their times."""


class PaceKeeper:
    """Told how long each tick took. `budget` is the share of the period that one may take on average."""

    def __init__(self, sync: TwinSync, budget: float) -> None:
        self._sync, self._limit_s = sync, budget / sync.config.rate_hz
        self._mean_s = 0.0

    def took(self, duration_s: float) -> None:
        """Drop the least likely particle when the mean is over the budget; the mean then begins anew."""
        self._mean_s += TOOK_SHARE * (duration_s - self._mean_s)
        if self._mean_s > self._limit_s and self._sync.drop_particle():
            self._sync.events.append(f"a tick takes {1e3 * self._mean_s:.1f} ms: one particle less")
            self._mean_s = 0.0
