"""Results of an evaluation in twins (or on the robot): one row per episode, in parquet.

An evaluation's folder holds `episodes.parquet`, `evaluation.json` (versions, configuration, policies, scenes) and
`films/`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError, DataError

EPISODES, DESCRIPTION, FILMS = "episodes.parquet", "evaluation.json", "films"
KINDS = ("point", "identified", "ensemble", "real")
REAL = "real"
TYPES = {"str": "string", "int": "int64", "bool": "bool", "float": "double"}
RENAMED = {"earned": "return"}
"""Field -> column, where a word of Python stands in the way."""


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One episode of one policy."""

    policy: str
    """Its name."""
    checkpoint: str
    """sha256, in hexadecimal, of the checkpoint's policy.safetensors; "" where it is not known."""
    world: str
    """point, identified, ensemble_00, ..., real."""
    kind: str
    """One of `KINDS`."""
    scene: str
    """Name of the scene's folder."""
    variant: str
    """Of the appearance; "" for the nominal one."""
    start: int
    """Number of the start state; the same number is the same start for every policy in every world."""
    seed: int
    """That the start was drawn from."""
    success: bool
    """Whether the task was done."""
    steps: int
    """Control steps."""
    earned: float
    """Sum of rewards (column `return`)."""
    limited_steps: int
    """Steps whose command the guard's limits changed."""
    refused_steps: int
    """Steps whose command the guard refused."""
    tcp_x_m: float
    """Where the TCP was at the end, in the base frame."""
    tcp_y_m: float
    """See `tcp_x_m`."""
    tcp_z_m: float
    """See `tcp_x_m`."""
    object_x_m: float
    """Where the task's first object was at the start, in the base frame."""
    object_y_m: float
    """See `object_x_m`."""
    object_yaw_rad: float
    """And how it was turned about the vertical."""
    film: str
    """Path relative to the evaluation's folder; "" for none."""


COLUMNS = {RENAMED.get(one.name, one.name): TYPES[str(one.type)] for one in fields(EpisodeRow)}
"""Column -> arrow type, in the order of the file."""


def write_table(path: Path, rows: Iterable[EpisodeRow]) -> None:
    """Replace `path` as a whole."""
    arrow, parquet = _arrow()
    rows = list(rows)
    for row in rows:
        if row.kind not in KINDS:
            raise ConfigError(f"unknown kind of world {row.kind!r}; valid choices: {', '.join(KINDS)}")
    columns = [[getattr(row, one.name) for row in rows] for one in fields(EpisodeRow)]
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    arrays = [arrow.array(column, one.type) for column, one in zip(columns, schema, strict=True)]
    parquet.write_table(arrow.Table.from_arrays(arrays, schema=schema), partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def read_table(path: Path) -> list[EpisodeRow]:
    """All rows; `DataError` names what is missing or of another type. Further columns are left alone."""
    arrow, parquet = _arrow()
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is no table of episodes: {error}") from error
    found = {one.name: str(one.type) for one in table.schema}
    wrong = [
        f"{name} is {found.get(name, 'missing')}, not {kind}"
        for name, kind in COLUMNS.items()
        if found.get(name) != kind
    ]
    if wrong:
        raise DataError(f"{path} is no table of episodes: {'; '.join(wrong)}")
    rows = [EpisodeRow(*values) for values in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)]
    if odd := sorted({row.kind for row in rows} - set(KINDS)):
        raise DataError(f"{path} has worlds of kind {', '.join(odd)}; valid choices: {', '.join(KINDS)}")
    return rows


def read_trials(path: Path) -> list[EpisodeRow]:
    """Real trials: a table of episodes, or a CSV that a person wrote with the columns policy, start, success."""
    if path.suffix != ".csv":
        return [row for row in read_table(path) if row.kind == REAL]
    try:
        with path.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        return [_trial(line) for line in lines]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: every line needs policy, start (a number), success (0 or 1): {error!r}") from error


def outcomes(rows: Iterable[EpisodeRow], policies: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Success (E,) of each of `policies` in the episodes that all of them have, and the worlds (E,) of these."""
    found = {name: {} for name in policies}
    for row in rows:
        if row.policy in found:
            found[row.policy][row.world, row.scene, row.variant, row.start] = row.success
    shared = sorted(set.intersection(*(set(one) for one in found.values()))) if found else []
    return {name: np.array([one[key] for key in shared], bool) for name, one in found.items()}, [k[0] for k in shared]


def _trial(line: dict[str, Any]) -> EpisodeRow:
    success = {"1": True, "0": False, "true": True, "false": False}[line["success"].strip().lower()]
    start, name, no = int(line["start"]), line["policy"].strip(), float("nan")
    return EpisodeRow(
        name, "", REAL, REAL, "", "", start, start, success, 0, float(success), 0, 0, no, no, no, no, no, no, ""
    )


def _arrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("tables of episodes need pyarrow: pip install 'robot-rl[twin]'") from error
    return pyarrow, pyarrow.parquet
