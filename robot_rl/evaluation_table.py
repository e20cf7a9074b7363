"""Results of an evaluation in twins (or on the robot): one row per episode, in parquet.

An evaluation's folder holds `episodes.parquet`, `evaluation.json` (versions, configuration, policies, scenes) and
`films/`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

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
    """All rows; `DataError` names what is missing, empty or of another type. Further columns are left alone."""
    arrow, parquet = _arrow()
    if not path.is_file():
        raise DataError(
            f"there is no table of episodes {path}: `robot-rl evaluate --twin` writes {EPISODES} to its --out"
        )
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
    if empty := [name for name in COLUMNS if table[name].null_count]:
        raise DataError(f"{path} has rows without {', '.join(empty)}: every episode needs a value, null is none")
    rows = [EpisodeRow(*values) for values in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)]
    if odd := sorted({row.kind for row in rows} - set(KINDS)):
        raise DataError(f"{path} has worlds of kind {', '.join(odd)}; valid choices: {', '.join(KINDS)}")
    return rows


def read_trials(path: Path) -> list[EpisodeRow]:
    """Real trials: a table of episodes, or a CSV that a person wrote with the columns policy, start, success."""
    if path.suffix.lower() != ".csv":
        return [row for row in read_table(path) if row.kind == REAL]
    trials, number = [], 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # Excel begins with a byte order mark
            lines = csv.DictReader(stream)
            for line in lines:
                number = lines.line_num
                trials.append(_trial(line))
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path}, line {number}: every line needs policy, start (a number), success (0 or 1): {error!r}"
        ) from error
    return trials


def trials_of(path: Path, evaluated: Mapping[str, str]) -> tuple[list[EpisodeRow], str]:
    """Real trials of the policies in `evaluated` (name -> checkpoint), and what must be said of the others, or ""."""
    trials = read_trials(path)
    if not trials:
        raise DataError(f"{path} holds no real trial: rows of kind {REAL!r}")
    note = ""
    if unknown := sorted({one.policy for one in trials} - set(evaluated)):
        names, valid = (", ".join(map(repr, some)) for some in (unknown, sorted(evaluated)))
        count = f"{sum(one.policy in unknown for one in trials)} of {len(trials)}"
        note = f"{path}: {names} not evaluated (a misspelling?), {count} real trials left out; valid names: {valid}"
    known = [one for one in trials if one.policy in evaluated]
    if not known:
        raise DataError(f"no real trial is of a policy of this evaluation. {note}")
    checkpoints([*evaluated.items(), *((one.policy, one.checkpoint) for one in known)])
    return known, note


def checkpoints(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Hash of each policy's checkpoint by its name, "" where no pair says it; `ConfigError` where one name has two."""
    ordered = sorted(set(pairs))
    known = [name for name, digest in ordered if digest]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        hashes = ", ".join(digest[:12] for name, digest in ordered if digest and name in twice)
        raise ConfigError(f"two checkpoints go by the name {', '.join(twice)} ({hashes}): name each policy differently")
    return dict(ordered)


def _trial(line: dict[str, Any]) -> EpisodeRow:
    if missing := [name for name in ("policy", "start", "success") if line[name] is None]:
        raise ValueError(f"no {', '.join(missing)}")
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
