"""Films of an evaluation, side by side: several policies from the same start in the same world."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robot_rl.apps import page
from robot_rl.paired import Table

GROUPS = 6
"""Starts that are shown."""
MEGABYTES = 64
"""Of films in one page."""


def section(table: Table, folder: Path) -> Iterator[str]:
    """The films, those starts first from which some succeed and some fail."""
    yield page.heading("Films from the same start")
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in np.flatnonzero(table["film"] != ""):
        key = tuple(str(table[name][row]) for name in ("world", "scene", "variant", "start"))
        groups.setdefault(key, []).append(int(row))
    paired = {key: rows for key, rows in groups.items() if len({table["policy"][row] for row in rows}) > 1}
    if not paired:
        yield "<p>No two policies were filmed from the same start.</p>"
        return
    telling = sorted(paired, key=lambda key: len(set(table["success"][paired[key]])) == 1)
    left = MEGABYTES * 2**20
    for key in telling[:GROUPS]:
        figures = []
        for row in paired[key]:
            path = film_of(folder, table["film"][row])
            if path is None or path.stat().st_size > left:
                continue
            left -= path.stat().st_size
            figures.append(_figure(table, row, path))
        world, scene, variant, start = key
        yield page.heading(f"{world}, {scene} {variant}, start {start}".replace(" ,", ","), 3)
        yield f"<div class='grid'>{''.join(figures)}</div>"


def film_of(folder: Path, film: str) -> Path | None:
    """The file of a row's film; None where the evaluation's folder holds none by that name."""
    path = folder / film
    return path if path.resolve().is_relative_to(folder.resolve()) and path.is_file() else None


def _figure(table: Table, row: int, path: Path) -> str:
    kind, told = ("good", "success") if table["success"][row] else ("bad", "failure")
    name = html.escape(str(table["policy"][row]))
    caption = f"{name}: <span class='{kind}'>{told}</span> after {table['steps'][row]} steps"
    return f"<figure>{page.movie(path)}<figcaption>{caption}</figcaption></figure>"
