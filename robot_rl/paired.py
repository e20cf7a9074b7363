"""Success of policies that were tried in the same worlds from the same starts, and how sure it is.

Worlds, scenes and starts are all drawn: a policy's trials in one world are alike, as are those in one scene and those
from one start, whose looks count as one trial by their mean. Resampling all (Owen, "The pigeonhole bootstrap", Ann.
Appl. Stat. 2007) keeps that; it errs on the wide side. Of one world of one scene there is nothing to resample, and
success there has Wilson's interval.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import DataError
from robot_rl.evaluation_table import RENAMED, EpisodeRow, checkpoints
from robot_rl.statistics import Z_95, wilson_bounds

RESAMPLES = 2000
Table = Mapping[str, NDArray]
"""Columns of an evaluation's episodes, each (N,)."""
Cell = tuple[str, str, str, int]
"""World, scene, variant, start: where policies are compared."""
Outcomes = Mapping[Cell, float]
"""Success rate in each cell, or a difference of two."""


@dataclass(frozen=True)
class Rate:
    """A mean over `trials` cells with its two-sided 95 % interval."""

    value: float
    low: float
    high: float
    trials: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def columns(rows: Sequence[EpisodeRow]) -> Table:
    """Rows as columns; `DataError` for none."""
    if not rows:
        raise DataError("the table holds no episode")
    names = {RENAMED.get(one.name, one.name): one.name for one in fields(EpisodeRow)}
    return {column: np.asarray([getattr(row, name) for row in rows]) for column, name in names.items()}


def policies(table: Table) -> dict[str, str]:
    """Hash of each policy's checkpoint by its name, "" where no row says it; `ConfigError` where one name has two."""
    return checkpoints(zip(table["policy"].tolist(), table["checkpoint"].tolist(), strict=True))


def outcomes(table: Table, policy: str, worlds: Sequence[str]) -> dict[Cell, float]:
    """Success rate in each cell of these worlds, of the policy with that name."""
    chosen = np.flatnonzero((table["policy"] == policy) & np.isin(table["world"], list(worlds)))
    cells: dict[Cell, list[float]] = {}
    for row in chosen:
        cells.setdefault(_cell(table, int(row)), []).append(float(table["success"][row]))
    return {cell: float(np.mean(values)) for cell, values in cells.items()}


def success(found: Outcomes) -> Rate:
    """Success rate with Wilson's interval in one world; of several that over worlds, scenes, starts, never narrower."""
    alone = wilson(found)
    if len({(world, scene) for world, scene, *_ in found}) < 2:
        return alone
    _, low, high = crossed_bootstrap(found)
    return Rate(alone.value, min(low, alone.low), max(high, alone.high), alone.trials)


def wilson(found: Outcomes) -> Rate:
    """Success rate as if all cells were independent, but for the looks of one start."""
    if not found:
        return Rate(math.nan, 0.0, 1.0, 0)
    trials = list(_by_start(found).values())
    mean = math.fsum(trials) / len(trials)
    return Rate(mean, *wilson_bounds(mean, len(trials)), len(trials))


def difference(first: Outcomes, second: Outcomes) -> Rate:
    """`first` less `second` where both were tried; of both intervals (paired, crossed) the farther bounds."""
    deltas = _by_start({cell: value - second[cell] for cell, value in first.items() if cell in second})
    mean, low, high = crossed_bootstrap(deltas)
    wins, losses = (sum(max(sign * delta, 0.0) for delta in deltas.values()) for sign in (1, -1))
    pairs = paired_interval(wins, losses, len(deltas))
    return Rate(mean, min(low, pairs[0]), max(high, pairs[1]), len(deltas))


def gap(single: Outcomes, many: Outcomes) -> Rate:
    """How far success in one world is above that in others, from the same starts and, where it has it, scene."""
    by_start: dict[Hashable, list[float]] = {}
    for (_, scene, variant, start), value in single.items():
        for key in ((scene, variant, start), start):
            by_start.setdefault(key, []).append(value)
    deltas: dict[Cell, float] = {}
    for cell, value in many.items():
        same = by_start.get(cell[1:], by_start.get(cell[3]))
        if same is not None:
            deltas[cell] = float(np.mean(same)) - value
    return Rate(*crossed_bootstrap(deltas), len(_by_start(deltas)))


def paired_interval(wins: float, losses: float, pairs: int, z: float = Z_95) -> tuple[float, float]:
    """Interval of a difference of paired proportions (Agresti & Min, Stat. Med. 2005: half a count to each cell)."""
    if not 0 <= wins + losses <= pairs:
        raise ValueError(f"need 0 <= wins + losses <= pairs, got {wins}, {losses}, {pairs}")
    total, won, lost = pairs + 2.0, wins + 0.5, losses + 0.5
    mean = (won - lost) / total
    spread = z * math.sqrt((won + lost - (won - lost) ** 2 / total) / total**2)
    return max(mean - spread, -1.0), min(mean + spread, 1.0)


def crossed_bootstrap(values: Outcomes, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """(mean, low, high), 95 %, with worlds (W), scenes and starts (S, of a scene each) resampled.

    Cells that were not tried are left out.
    """
    if not values:
        return math.nan, -1.0, 1.0
    values = _by_start(values)
    worlds, scenes, starts = (
        {one: row for row, one in enumerate(dict.fromkeys(cell[part] for cell in values))}
        for part in (slice(0, 1), slice(1, 2), slice(1, None))
    )
    sums, tried = np.zeros((len(worlds), len(starts))), np.zeros((len(worlds), len(starts)))
    for cell, value in values.items():
        place = worlds[cell[:1]], starts[cell[1:]]
        sums[place], tried[place] = value, 1.0
    rng = np.random.default_rng(seed)
    rows, columns, drawn = (
        rng.multinomial(n, np.full(n, 1.0 / n), resamples).astype(float) for n in (*sums.shape, len(scenes))
    )
    columns *= drawn[:, [scenes[start[:1]] for start in starts]]
    weight = ((rows @ tried) * columns).sum(1)
    whole = weight > 0.0  # a draw without a single trial says nothing
    means = ((rows @ sums) * columns).sum(1)[whole] / weight[whole]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(sums.sum() / tried.sum()), float(low), float(high)


def _by_start(found: Outcomes) -> dict[Cell, float]:
    """The mean over the looks from each start, under the nominal look."""
    looks: dict[Cell, list[float]] = {}
    for (world, scene, _, start), value in found.items():
        looks.setdefault((world, scene, "", start), []).append(value)
    return {cell: float(np.mean(values)) for cell, values in looks.items()}


def _cell(table: Table, row: int) -> Cell:
    world, scene, variant = (str(table[name][row]) for name in ("world", "scene", "variant"))
    return world, scene, variant, int(table["start"][row])
