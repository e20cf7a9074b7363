"""Weights of a composition, found by running them from held-out start states: `robot-rl compose --search`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from robot_rl.apps.evaluate import evaluate
from robot_rl.apps.imitation import ImitationExperiment
from robot_rl.apps.runs import build_run_env, goals_of, load_policy
from robot_rl.errors import ConfigError, DataError
from robot_rl.files import write_file
from robot_rl.statistics import wilson_interval
from robot_rl.typed import to_dataclass, to_plain
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition

HELD_OUT = "learn"
"""Phase whose range of start states the search takes: apart from those of demonstrations and of evaluations."""


@dataclass(frozen=True)
class SearchConfig:
    """What is tried."""

    checkpoints: tuple[str, ...]
    """Of the parents."""
    grid: int
    """Parts that the weight is dealt in: 10 tries tenths."""
    episodes: int
    """For each choice of weights, and for each goal of the task."""
    seed: int
    """Of the start states, which are the same for all choices."""


@dataclass(frozen=True)
class Tried:
    """One choice of weights and what came of it."""

    weights: tuple[float, ...]
    successful: tuple[bool, ...]
    """Start state by start state, and goal by goal in each."""

    @property
    def successes(self) -> int:
        return sum(self.successful)


@dataclass(frozen=True)
class SearchResult:
    """What `search.json` holds."""

    config: SearchConfig
    tried: tuple[Tried, ...]


def simplex(parents: int, grid: int) -> list[tuple[float, ...]]:
    """All weights of `parents` that are whole multiples of 1 / grid and sum to 1, the first parent's falling."""
    chosen = []
    for bars in itertools.combinations(range(grid + parents - 1), parents - 1):
        ends = (-1, *bars, grid + parents - 1)
        chosen.append(tuple((after - before - 1) / grid for before, after in itertools.pairwise(ends)))
    return chosen[::-1]


def search(
    experiment: ImitationExperiment, checkpoint: Path, result: SearchResult, path: Path, console: Console
) -> tuple[Tried, ...]:
    """Run every choice that `result` lacks; `path` is written after each."""
    config = result.config
    grid, goals = simplex(len(config.checkpoints), config.grid), goals_of(experiment)
    each = config.episodes * max(len(goals), 1)
    env = build_run_env(experiment)
    columns = (TextColumn("search"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        bar = bars.add_task("search", total=len(grid) * each, completed=len(result.tried) * each, note="")
        for weights in grid[len(result.tried) :]:
            bars.update(bar, note=" : ".join(f"{weight:g}" for weight in weights))
            policy = load_policy(replace(experiment, policy=replace(experiment.policy, weights=weights)), checkpoint)
            records = evaluate(
                env, policy, config.episodes, config.seed, [_Ticks(bars, bar)], goals=goals, phase=HELD_OUT
            )
            one = Tried(weights, tuple(record.success for record in records))
            result = replace(result, tried=(*result.tried, one))
            write_file(path, json.dumps(to_plain(result), indent=1) + "\n")
    env.close()
    return result.tried


def best(tried: Sequence[Tried]) -> Tried:
    """Most successes; of several, the nearest to equal weights; of those, the one that leans to the better parent."""
    alone = [one for one in tried if max(one.weights) == 1.0]

    def merit(one: Tried) -> tuple[int, float, float]:
        uneven = sum((weight - 1.0 / len(one.weights)) ** 2 for weight in one.weights)
        leaning = sum(parent.successes * one.weights[parent.weights.index(1.0)] for parent in alone)
        return one.successes, -round(uneven, 9), leaning

    return max(tried, key=merit)


def show(tried: Sequence[Tried], chosen: Tried, runs: Sequence[str]) -> Table:
    """Every choice with its success and 95 % interval."""
    table = Table(*(Column(run, overflow="fold") for run in runs), "success", "95 % interval", "of", "")
    for one in tried:
        successes, count = one.successes, len(one.successful)
        low, high = wilson_interval(successes, count)
        weights = [f"{weight:g}" for weight in one.weights]
        mark = "chosen" if one is chosen else ""
        table.add_row(*weights, f"{successes / count:.3f}", f"{low:.3f} to {high:.3f}", str(count), mark)
    return table


class _Ticks:
    """Subscriber that moves a progress bar on by each episode."""

    def __init__(self, bars: Progress, bar: Any) -> None:
        self._bars, self._bar = bars, bar

    def on_start(self, start: EpisodeStart) -> None:
        """Nothing is done yet."""

    def on_step(self, transition: Transition) -> None:
        """Nor now."""

    def on_end(self, end: EpisodeEnd) -> None:
        self._bars.advance(self._bar)


def begun_search(path: Path, config: SearchConfig) -> SearchResult:
    """What an interrupted search left at `path`, or nothing yet; `ConfigError` when it was another search."""
    if not path.exists():
        return SearchResult(config, ())
    try:
        result = to_dataclass(SearchResult, json.loads(path.read_text()))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if result.config != config:
        raise ConfigError(f"{path} is of another search ({asdict(result.config)}); --overwrite deletes it")
    return result
