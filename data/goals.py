"""Where goals of recorded episodes come from: what was seen later, in hindsight."""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class GoalConfig:
    """Where goals come from: weights of the kinds, and how far ahead a future one lies (1707.01495, 2410.20092)."""

    future: float = 1.0
    """A later observation of the same episode."""
    final: float = 0.0
    """The last observation of the same episode."""
    present: float = 0.0
    """The window's own observation: reached already."""
    random: float = 0.0
    """Any observation of any episode."""
    next_change: float = 0.0
    """The later observation at which the next change of what goals speak of is complete (`robot_rl.changes`): the last
    one where nothing changes any more."""
    discount: float | None = None
    """Future goals lie a geometric number of steps ahead, of mean 1 / (1 - discount); none: all equally likely."""
    min_steps: int = 1
    """A future goal lies at least so many steps ahead, where the episode is long enough."""
    max_steps: int | None = None
    """And at most so many."""
    labelled: float = 0.5
    """Share of the windows in a labelled part of an episode whose goal is that part's end, told in its words, too."""

    def __post_init__(self) -> None:
        weights = self.weights
        if min(weights) < 0.0 or sum(weights) <= 0.0:
            raise ConfigError(f"weights of goals must not be negative, nor all zero; got {weights}")
        if self.discount is not None and not 0.0 <= self.discount < 1.0:
            raise ConfigError(f"discount of goals must lie in [0, 1), got {self.discount}")
        if not 0.0 <= self.labelled <= 1.0:
            raise ConfigError(f"labelled is a share, in [0, 1]; got {self.labelled}")
        if self.min_steps < 1 or (self.max_steps is not None and self.max_steps < self.min_steps):
            raise ConfigError(f"need 1 <= min_steps <= max_steps, got {self.min_steps}, {self.max_steps}")

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the kinds, in the order of `WindowSampler._goal_rows`."""
        return self.future, self.final, self.present, self.random, self.next_change
