"""Gather play: a scripted player moves things about in simulation, without a task, into an episode store.

  robot-rl play cube-single --episodes 1000                    OGBench's scripted oracles (about 1M steps)
  robot-rl play lift --episodes 200 --out runs/play/lift       robosuite
  robot-rl play scene --episodes 100 --cameras front --jobs 4

Ctrl-C keeps what is whole; the same command goes on from there. Episode i is the same whatever --jobs is.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console

from robot_rl.apps.config import positive
from robot_rl.apps.gathering import Order, add_order, gather
from robot_rl.apps.players import CHOICES, make_play


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=CHOICES)
    parser.add_argument("--out", type=Path, help="the episode store (default: runs/play/<task>)")
    parser.add_argument("--steps", type=positive, help="length of an episode (default: 1001 in OGBench, 500 elsewhere)")
    add_order(parser, episodes=1000)


def run(args: argparse.Namespace) -> int:
    console = Console()
    path = args.out or Path("runs/play") / args.task
    configuration = {"play": args.task, "seed": args.seed, "cameras": list(args.cameras)}
    make = partial(make_play, args.task, tuple(args.cameras), args.steps)
    store = gather(make, Order(args.episodes, args.seed, args.jobs), path, configuration, console)
    console.print(f"{path}: {len(store)} episodes, {store.steps} steps")
    return 0
