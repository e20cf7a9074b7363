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

from data.episode import EpisodeInfo
from data.store import EpisodeStore
from robot_rl.apps.config import positive
from robot_rl.apps.gathering import Order, add_order, gather
from robot_rl.apps.players import CHOICES, make_play, usual_steps
from robot_rl.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=CHOICES)
    parser.add_argument("--out", type=Path, help="the episode store (default: runs/play/<task>)")
    parser.add_argument("--steps", type=positive, help="length of an episode (default: 1001 in OGBench, 500 elsewhere)")
    add_order(parser, episodes=1000)


def run(args: argparse.Namespace) -> int:
    console = Console()
    path = args.out or Path("runs/play") / args.task
    steps = args.steps or usual_steps(args.task)
    _check_steps(path, steps)
    configuration = {"play": args.task, "seed": args.seed, "cameras": list(args.cameras), "steps": steps}
    make = partial(make_play, args.task, tuple(args.cameras), steps)
    store = gather(make, Order(args.episodes, args.seed, args.jobs), path, configuration, console)
    whole = _whole(store)
    console.print(f"{path}: {len(whole)} episodes, {sum(one.steps for one in whole)} steps")
    return 0


def _check_steps(path: Path, steps: int) -> None:
    """`ConfigError` when the store's play has episodes of another length."""
    if not (path / "zarr.json").exists():
        return
    lengths = {one.steps for one in _whole(EpisodeStore(path))}
    if lengths - {steps}:
        there = ", ".join(map(str, sorted(lengths)))
        raise ConfigError(
            f"{path} has play of {there} steps an episode, not {steps}: give the length that it was begun with "
            "(--steps), or another folder (--out)"
        )


def _whole(store: EpisodeStore) -> list[EpisodeInfo]:
    """The play that is there; what a kill cut short is made again."""
    found = [one for one in store.infos if one.usable and one.phase == "play"]
    return [one for one in found if not one.recovered and not one.synthetic]
