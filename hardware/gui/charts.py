"""Training curves and live figures from the messages of actor and learner. Pure numpy.

A message comes from outside: whatever is not a JSON object of finite numbers is ignored and counted.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_MESSAGE_BYTES = 64 * 1024
MAX_EPISODES = 5000
MAX_POINTS = 400
EPISODE_NUMBERS = ("episode", "steps", "interventions")
EPISODE_FIGURES = ("env_steps", "updates", "utd", "duty_cycle", "policy_version", "wall_s")


@dataclass(frozen=True)
class Episode:
    """One finished episode. `figures` holds the running totals that came with it."""

    phase: str
    success: bool
    steps: int
    interventions: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Curves:
    """Aligned series over the number of finished episodes; NaN where a value is not known."""

    episode: NDArray[np.float64]
    success_rate: NDArray[np.float64]
    intervention_rate: NDArray[np.float64]
    length: NDArray[np.float64]
    utd: NDArray[np.float64]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def parse_scalars(text: str) -> dict[str, float] | None:
    """Finite numbers of a JSON object by name; None when `text` is not a JSON object."""
    if len(text) > MAX_MESSAGE_BYTES:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    return {key: number for key, value in values.items() if (number := _number(value)) is not None}


def parse_episode(text: str) -> Episode | None:
    """An `Episode` from `training/episode`; None when required values are missing or absurd."""
    numbers = parse_scalars(text)
    if numbers is None:
        return None
    raw = json.loads(text)
    success, phase = raw.get("success"), raw.get("phase")
    if not isinstance(phase, str) or not isinstance(success, bool | int):
        return None
    if any(name not in numbers or numbers[name] < 0 for name in EPISODE_NUMBERS):
        return None
    if numbers["interventions"] > numbers["steps"]:
        return None
    figures = {name: numbers[name] for name in ("episode", *EPISODE_FIGURES) if name in numbers}
    return Episode(phase, bool(success), int(numbers["steps"]), int(numbers["interventions"]), figures)


class Metrics:
    """Collects episodes and scalars; `malformed` counts what had to be ignored."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._episodes: deque[Episode] = deque(maxlen=MAX_EPISODES)
        self.total = 0
        self.malformed = 0
        self.scalars: dict[str, float] = {}

    def add_episode(self, text: str) -> bool:
        episode = parse_episode(text)
        if episode is None:
            self.malformed += 1
            return False
        self._episodes.append(episode)
        self.total += 1
        return True

    def add_scalars(self, text: str) -> bool:
        scalars = parse_scalars(text)
        if scalars is None:
            self.malformed += 1
            return False
        self.scalars = scalars
        return True

    @property
    def last(self) -> Episode | None:
        return self._episodes[-1] if self._episodes else None

    def curves(self) -> Curves:
        """At most `MAX_POINTS` points, the newest always among them."""
        count = len(self._episodes)
        success = np.array([e.success for e in self._episodes], np.float64)
        steps = np.array([e.steps for e in self._episodes], np.float64)
        hands = np.array([e.interventions for e in self._episodes], np.float64)
        utd = np.array([e.figures.get("utd", np.nan) for e in self._episodes], np.float64)
        number = np.arange(self.total - count + 1, self.total + 1, dtype=np.float64)
        share = _window_sum(hands, self._window) / np.maximum(_window_sum(steps, self._window), 1.0)
        rate = _window_sum(success, self._window) / _window_sum(np.ones(count), self._window)
        stride = max(1, -(-count // MAX_POINTS))
        keep = slice((count - 1) % stride if count else 0, None, stride)
        return Curves(number[keep], rate[keep], share[keep], steps[keep], utd[keep])


def _window_sum(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Sum over the last `window` values at each position (fewer at the start)."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    return total[end] - total[np.maximum(end - window, 0)]
