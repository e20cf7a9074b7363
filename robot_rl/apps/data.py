"""Look at recorded episodes, check them and repair them.

robot-rl data info runs/demo/episodes
robot-rl data verify runs/demo/episodes            changes nothing
robot-rl data verify runs/demo/episodes --repair   mends; what cannot be mended goes to quarantine/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data.store import EpisodeStore
from data.verify import verify

EXIT_FAULTY = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="info | verify")
    info = commands.add_parser("info", help="what a store holds")
    info.add_argument("path", type=Path)
    check = commands.add_parser("verify", help="read everything and report what is wrong")
    check.add_argument("path", type=Path)
    check.add_argument("--repair", action="store_true", help="mend what is found; nothing good is deleted")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if args.action == "info":
        _info(args.path, console)
        return 0
    report = verify(args.path, repair=args.repair)
    console.print(report.table())
    return 0 if report.ok else EXIT_FAULTY


def _info(path: Path, console: Console) -> None:
    store = EpisodeStore(path)
    table = Table("phase", "episodes", "successful", "steps", "steps by the person", title=str(path))
    for phase in sorted({info.phase for info in store.infos}):
        infos = [info for info in store.infos if info.phase == phase and info.usable]
        person = sum(end - begin for info in infos for begin, end in info.intervention_spans)
        numbers = (len(infos), sum(info.success for info in infos), sum(info.steps for info in infos), person)
        table.add_row(phase, *map(str, numbers))
    console.print(table)
    for key, array in store.arrays.items():
        console.print(f"  {key}: {array.shape} {array.dtype}")
