"""The form that every benchmark shares: its arguments, a table, and one JSON file of figures."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("robot-rl", "torch", "numpy", "mujoco", "robosuite", "gymnasium", "zarr", "diffusers", "ros-rclpy")


@dataclass(frozen=True)
class Figure:
    """One measured number, with the bar it is held against."""

    name: str
    value: float
    unit: str
    bar: float | None
    """Smallest acceptable value; None for a figure that is only reported."""
    n: int
    """Episodes, runs or repetitions behind it."""
    interval: tuple[float, float] | None
    """95 % interval, or the range where the unit says so."""
    at_most: bool = False
    """Whether the bar is the largest acceptable value."""

    @property
    def holds(self) -> bool | None:
        """Whether the bar is reached; None without a bar."""
        if self.bar is None:
            return None
        return bool(self.value <= self.bar if self.at_most else self.value >= self.bar)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every benchmark takes."""
    parser.add_argument("--quick", action="store_true", help="smaller, within 30 minutes on two cores; still real")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")


def write_result(args: argparse.Namespace, figures: Sequence[Figure], extra: dict[str, Any] | None = None) -> None:
    """Print the table and, with `--out`, write the JSON (complete or not at all)."""
    table = Table("figure", "value", "95 % interval", "bar", "holds", "n", "unit")
    for figure in figures:
        interval = "" if figure.interval is None else f"{figure.interval[0]:.3g} to {figure.interval[1]:.3g}"
        bar = "" if figure.bar is None else f"{'at most ' * figure.at_most}{figure.bar:g}"
        holds = {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[figure.holds]
        table.add_row(figure.name, f"{figure.value:.4g}", interval, bar, holds, str(figure.n), figure.unit)
    Console().print(table)
    if args.out is None:
        return
    content = {
        "figures": [_plain(figure) for figure in figures],
        "versions": _versions(),
        "machine": _machine(),
        "command": shlex.join(["python", *sys.argv]),
        "seed": args.seed,
        **(extra or {}),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(args.out)


def _plain(figure: Figure) -> dict[str, Any]:
    value = figure.value if math.isfinite(figure.value) else None  # JSON knows no NaN
    return {**vars(figure), "value": value, "holds": figure.holds}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, Any]:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {"system": f"{platform.system()} {platform.machine()}", "processor": model, "cores": os.cpu_count()}


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
