"""Check this machine: versions, GL, ROS 2, cameras, permissions; what is not well says how to mend it.

Exit code 0 when all that the simulator and learning need is there; warnings are for real arms and comfort.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from robot_rl import __version__
from robot_rl.apps.checks import CHECKS, Result, Status

COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable, for bug reports")


def run(args: argparse.Namespace) -> int:
    results = examine()
    healthy = all(result.status is not Status.FAIL for result in results)
    if args.json:
        rows = [{**vars(result), "status": result.status.value} for result in results]
        print(json.dumps({"version": __version__, "healthy": healthy, "checks": rows}, indent=2))
        return 0 if healthy else 1
    console = Console(highlight=False)
    console.print(_table(results))
    failed = [result.name for result in results if result.status is Status.FAIL]
    console.print(f"not ready: {', '.join(failed)}" if failed else "ready: the essentials are in order")
    return 0 if healthy else 1


def examine() -> list[Result]:
    """All checks, in the table's order; the slow ones wait for processes, so they overlap."""
    with ThreadPoolExecutor(max_workers=max(2, len(os.sched_getaffinity(0)))) as pool:
        return [result for results in pool.map(_guarded, CHECKS) for result in results]


def _guarded(check: Callable[[], Result | Iterator[Result]]) -> list[Result]:
    """A check that cannot even look (no /proc, no permission) is a line of the table, not the end of it."""
    try:
        found = check()
        return [found] if isinstance(found, Result) else list(found)
    except OSError as error:
        name = check.__name__.removeprefix("check_")
        return [Result(name, Status.WARN, f"could not be checked: {error}", "see the message")]


def _table(results: list[Result]) -> Table:
    table = Table(title=f"robot-rl {__version__}", title_justify="left")
    for heading in ("", "check", "found", "to mend"):
        table.add_column(heading, overflow="fold")
    for result in results:
        mark = f"[{COLOURS[result.status]}]{result.status.value}[/]"
        table.add_row(mark, result.name, *(_plain(text) for text in (result.found, result.mend)))
    return table


def _plain(text: str) -> str:
    """Square brackets as they are, not as colours."""
    return text.replace("[", r"\[")
