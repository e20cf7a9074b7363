"""Watches the policy in service: every episode is noted, and a regression rolls it back to the one before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from robot_rl.errors import ConfigError
from robot_rl.registry import DeployedEpisode, Promoted, Registry, now
from robot_rl.sequential import evidence_of_rise
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition


@dataclass(frozen=True)
class RegressionConfig:
    """When a policy in service counts as worse than the one before."""

    false_alarm: float = 0.05
    """Most probability that a policy that is no worse is ever rolled back, over its whole time in service."""
    intervention_margin: float = 0.05
    """Rise of the share of steps in which the person acts that does not count yet."""
    failure_margin: float = 0.05
    """Rise of the failure rate that does not count yet."""

    def __post_init__(self) -> None:
        if not 0.0 < self.false_alarm < 1.0 or min(self.intervention_margin, self.failure_margin) <= 0.0:
            raise ConfigError(f"false_alarm lies in (0, 1), margins are above 0; got {self}")


def interventions(episodes: Sequence[DeployedEpisode]) -> list[float]:
    """Share of each episode's steps in which the person acted; discarded episodes are left out."""
    return [one.interventions / max(one.steps, 1) for one in episodes if not one.discarded]


def failures(episodes: Sequence[DeployedEpisode]) -> list[float]:
    """1 for each episode without success; discarded episodes are left out."""
    return [float(not one.success) for one in episodes if not one.discarded]


def find_regression(
    before: Sequence[DeployedEpisode], running: Sequence[DeployedEpisode], config: RegressionConfig
) -> str:
    """Why the running policy is worse than the one before, in words; empty while nothing shows it.

    Half of `false_alarm` each for interventions and failures, so that together they keep to it.
    """
    measures = (
        ("the person acts in", "of the steps", interventions, config.intervention_margin),
        ("it fails in", "of the episodes", failures, config.failure_margin),
    )
    for what, whole, measure, margin in measures:
        reference, present = measure(before), measure(running)
        if evidence_of_rise(reference, present, margin) >= math.log(2.0 / config.false_alarm):
            return f"{what} {_mean(present):.0%} {whole} over {len(present)} episodes, {_mean(reference):.0%} before"
    return ""


class ServiceWatch:
    """Subscriber of the episode loop. The registry keeps what it notes, so a restarted process goes on counting."""

    def __init__(
        self,
        registry: Registry,
        promotion: int,
        run_dir: Path,
        guard_counts: Callable[[], Mapping[str, int]],
        config: RegressionConfig,
        on_change: Callable[[Promoted], None],
    ) -> None:
        """`guard_counts` has the guard's counters `rejected` and `clipped`.

        `on_change` is told, between two episodes, what else is in service now: by a roll-back of its own or a person's.
        """
        self.regression = ""
        """Why something was rolled back."""
        self._registry, self._run_dir, self._config = registry, run_dir, config
        self._guard_counts, self._on_change = guard_counts, on_change
        self._counted: Mapping[str, int] = {}
        self._follow(promotion)

    def values(self) -> dict[str, object]:
        """For a person to see."""
        share, lost = interventions(self._episodes), failures(self._episodes)
        told: dict[str, object] = {"service.promotion": self.promotion, "service.episodes": len(share)}
        if share:
            told |= {"service.interventions": f"{_mean(share):.0%}", "service.success": f"{1 - _mean(lost):.0%}"}
        return told | ({"service.rolled_back": self.regression} if self.regression else {})

    def on_start(self, start: EpisodeStart) -> None:
        self._counted = self._guard_counts()

    def on_step(self, transition: Transition) -> None:
        """Nothing to note."""

    def on_end(self, end: EpisodeEnd) -> None:
        """Note the episode; then, between two episodes, the policy may change."""
        counted = {name: max(count - self._counted.get(name, 0), 0) for name, count in self._guard_counts().items()}
        episode = DeployedEpisode(
            end.episode_id,
            now(),
            str(self._run_dir),
            end.steps,
            end.interventions,
            end.success,
            end.discarded,
            counted.get("rejected", 0),
            counted.get("clipped", 0),
        )
        self._episodes.append(episode)
        self._registry.add_episode(self.promotion, episode)
        if worse := find_regression(self._reference, self._episodes, self._config):
            self._roll_back(f"promotion {self.promotion} is worse than the one before: {worse}")
        found = self._registry.in_service()
        if found is not None and found[0] != self.promotion:
            self._follow(found[0])
            self._on_change(found[1])

    def _follow(self, promotion: int) -> None:
        self.promotion = promotion
        serving = self._registry.event(promotion).serving
        self._reference = self._registry.episodes(serving[-2]) if len(serving) > 1 else []
        self._episodes = self._registry.episodes(promotion)

    def _roll_back(self, why: str) -> None:
        with suppress(ConfigError):  # a person was faster: what they chose is in service
            self._registry.roll_back(why, expected=self.promotion)
            self.regression = why


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
