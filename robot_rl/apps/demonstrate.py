"""Gather demonstrations of mixed quality in simulation, by scripted operators, into an episode store.

  robot-rl demonstrate lift --episodes 200                                        the expert alone
  robot-rl demonstrate lift --operators expert=0.4 clumsy=0.3 wrong=0.3 --out runs/mixed/lift

Successes end with reward 1, everything else is truncated at the task's horizon; each episode's description names its
operator (`robot-rl data info`). The rules that operators keep to: sim/operators.py. Ctrl-C keeps what is whole; the
same command goes on from there. Episode i is the same whatever --jobs and --episodes are.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rich.console import Console

from data.store import EpisodeStore
from robot_rl.apps.data import episode_table
from robot_rl.apps.gathering import Order, add_order, gather, gathered
from robot_rl.apps.players import make_demonstrations, operator_of, read_shares
from robot_rl.errors import ConfigError
from sim.operators import ERRANDS, OPERATORS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(OPERATORS)
    parser.add_argument("task", choices=ERRANDS)
    parser.add_argument("--out", type=Path, help="the episode store (default: runs/demonstrate/<task>)")
    parser.add_argument(
        "--operators",
        nargs="+",
        default=["expert"],
        metavar="NAME=SHARE",
        help=f"who demonstrates, and which share of the episodes: {names} (default: expert)",
    )
    add_order(parser, episodes=100)


def run(args: argparse.Namespace) -> int:
    console = Console()
    path = args.out or Path("runs/demonstrate") / args.task
    shares = read_shares(args.operators)
    _check_operators(path, args.seed, shares)
    configuration = {"demonstrate": args.task, "operators": shares, "seed": args.seed, "cameras": list(args.cameras)}
    make = partial(make_demonstrations, args.task, shares, tuple(args.cameras))
    store = gather(make, Order(args.episodes, args.seed, args.jobs), path, configuration, console)
    console.print(episode_table(store))
    return 0


def _check_operators(path: Path, seed: int, shares: Mapping[str, float]) -> None:
    """`ConfigError` when the store was begun with other shares."""
    if not (path / "zarr.json").exists():
        return
    for index, info in sorted(gathered(EpisodeStore(path), seed).items()):
        if info.operator != (wanted := operator_of(index, shares)):
            raise ConfigError(
                f"episode {index} of {path} is by {info.operator or 'nobody known'}, with these shares it would be by "
                f"{wanted}; give the shares that it was begun with, another --seed or another folder"
            )
