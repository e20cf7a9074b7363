"""From one RGB-D look at a scene to a policy that works in it, by digital cousins.

  robot-rl cousins make SCAN WORK                     everything, one stage after the other
  robot-rl cousins make SCAN WORK --task open:object_0 recipe.scenes=128 demonstrations=500
  robot-rl cousins assets                             what the library holds
  robot-rl cousins capture SCAN --camera front --pose front.json --robot fr3     a scan from the camera's node
  robot-rl cousins scan SCAN WORK                     one stage: scan, extract, match, generate,
  robot-rl cousins generate WORK --jobs 2             demonstrate, train, evaluate, gallery

SCAN is a folder of colour, depth and intrinsics (rgb.png, depth.png, intrinsics.json; pose.json with the camera in the
arm's base frame; excitation.npz with a log of the arm in motion), or one with views.json. Every stage's files lie in
WORK: look at them, correct one by hand (boxes in extraction/boxes.json, parts in extraction/parts.json, the scene in
extraction/scene.json, matches.json, task.json), and the same command makes anew what rests on it, and nothing else.
Ctrl-C keeps what is whole. Settings (key=value, CousinsConfig in robot_rl/apps/cousins_config.py) are kept in
WORK/settings.json for the commands that follow.

Tasks: open:OBJECT[:PART], put:ITEM:CONTAINER, stack:ITEM:BASE, insert:ITEM:SOCKET; without --task the first that the
scene suggests, which is said. Doors and drawers that were not seen, or wrongly: --parts object_0:doors=1,drawers=2
(what is opened: see extraction/overlay.png for names).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from data.journal import lock_file
from robot_rl.apps.config import compose, make_folder, positive
from robot_rl.apps.cousins_config import CousinsConfig
from robot_rl.apps.cousins_files import FAMILY, POLICY
from robot_rl.apps.cousins_gallery import write_gallery
from robot_rl.apps.cousins_matching import read_library
from robot_rl.apps.cousins_work import STAGES, CousinsWork
from robot_rl.errors import ConfigError, DataError
from robot_rl.files import write_file
from sim.cousins.generate import in_processes, on_ray

SETTINGS, LOCK = "settings.json", ".lock"
PATHS = {"make": ("SCAN", "WORK"), "scan": ("SCAN", "WORK"), "capture": ("SCAN",), "assets": ()}
"""Which folders a stage is given; WORK alone where nothing else is said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stages = ("make", "capture", "scan", *(name for name, _ in STAGES), "gallery", "assets")
    parser.add_argument("stage", choices=stages, help="see above")
    parser.add_argument("words", nargs="*", metavar="[SCAN] WORK [key=value ...]", help="folders, then settings")
    parser.add_argument("--task", default="", help="open:OBJECT[:PART], put:ITEM:CONTAINER, stack:..., insert:...")
    parser.add_argument(
        "--parts", nargs="+", default=(), metavar="OBJECT:doors=1", help="moving parts as you count them, kept in WORK"
    )
    capture = parser.add_argument_group("capture")
    capture.add_argument("--camera", default="front", help="name of the camera on its topics (default: front)")
    capture.add_argument("--pose", type=Path, help="file with the camera's pose in the arm's base frame")
    capture.add_argument("--robot", default="", help="robot in sight, by its name in conf/robot (fr3, ur5e)")
    capture.add_argument("--frames", type=positive, default=10, help="frames whose median is taken (default: 10)")
    capture.add_argument("--timeout", type=float, default=20.0, dest="timeout_s", help="longest wait, seconds")
    capture.add_argument("--namespace", default="", help="of the camera's and the arm's topics")
    capture.add_argument("--add", action="store_true", help="one more view of the scene that SCAN has already")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--ray", action="store_true", help="on Ray: the cluster of RAY_ADDRESS, else this machine")


def run(args: argparse.Namespace) -> int:
    console = Console()
    paths = [Path(word) for word in args.words if "=" not in word]
    words = [word for word in args.words if "=" in word]
    wanted = PATHS.get(args.stage, ("WORK",))
    if len(paths) != len(wanted):
        raise ConfigError(
            f"robot-rl cousins {args.stage} {' '.join(wanted)}: {len(wanted)} folder(s), got {len(paths)}"
        )
    if args.stage == "capture":
        return _capture(paths[0], args, console)
    if args.stage == "assets":
        console.print(_listing(compose("cousins", words, CousinsConfig), console))
        return 0
    folder = paths[-1]
    if args.stage in ("make", "scan"):
        make_folder(folder)
    elif not folder.is_dir():
        raise ConfigError(f"no folder {folder}; begin with: robot-rl cousins scan SCAN {folder}")
    if args.stage == "gallery" and not (words or args.parts or args.task):  # reads alone, so also while others write
        console.print(f"gallery: {write_gallery(folder)}")
        return 0
    with _alone(folder):
        _work(args, paths, words, console)
    return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process makes stages in `folder` meanwhile; `DataError` when one does."""
    lock = lock_file(folder / LOCK)
    try:
        yield
    finally:
        os.close(lock)


def _work(args: argparse.Namespace, paths: Sequence[Path], words: Sequence[str], console: Console) -> None:
    """The stage (or all) that is asked for."""
    folder = paths[-1]
    places = on_ray if args.ray else in_processes(args.jobs)
    words = _settings(folder, words)
    work = CousinsWork(folder, compose("cousins", words, CousinsConfig), console, args.jobs, places)
    if args.stage in ("make", "scan"):
        work.scan(paths[0])
    if words:
        write_file(folder / SETTINGS, json.dumps(words, indent=1) + "\n")
        console.print(f"settings: {' '.join(words)}", markup=False, highlight=False)
    if args.parts:
        work.parts(args.parts)
    if args.task:
        work.task(args.task)
    stages: dict[str, Callable[[CousinsWork], object]] = dict(STAGES)
    if args.stage in stages:
        stages[args.stage](work)
    if args.stage == "make":
        work.results()
    if args.stage in ("make", "gallery"):
        console.print(f"gallery: {write_gallery(folder)}")
    if args.stage == "make":
        policy, family = folder / POLICY, folder / FAMILY
        console.print(f"the policy: robot-rl evaluate {policy}")
        console.print(f"behind the guard, in real time: robot-rl up graph=deploy policy={policy} task={family}")


def _settings(folder: Path, words: Sequence[str]) -> list[str]:
    """What was set in this work folder before and is not set anew, then `words`."""
    path = folder / SETTINGS
    try:
        before = json.loads(path.read_text()) if path.exists() else []
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; mend it, or delete it to begin with the defaults") from error
    if not isinstance(before, list) or not all(isinstance(one, str) and "=" in one for one in before):
        raise DataError(f'{path} must be a list of "key=value"; mend it, or delete it to begin with the defaults')
    keys = [word.partition("=")[0] for word in words]
    kept = [one for one in before if not any(f"{one.partition('=')[0]}.".startswith(f"{key}.") for key in keys)]
    return [*kept, *words]


def _capture(target: Path, args: argparse.Namespace, console: Console) -> int:
    try:
        from hardware.nodes.scan import CaptureConfig, capture
    except ImportError as error:
        raise ConfigError(f"capture listens to ROS 2: install robot-rl[ros], or source a ROS 2 ({error})") from error
    names = [one.name for one in fields(CaptureConfig)]
    taken = capture(target, CaptureConfig(**{name: getattr(args, name) for name in names}))
    for assumption in taken.assumptions:
        console.print(f"[yellow]assumed:[/yellow] {assumption}")
    console.print(f"{target}: {len(taken.views)} view(s) of {taken.views[0].view.image_hw}")
    return 0


def _listing(config: CousinsConfig, console: Console) -> Table:
    library = read_library(config.library, console)
    table = Table(Column("asset", no_wrap=True, min_width=24), "category", "size (cm)", "opens", "affordances")
    for row in library.rows():
        size = " x ".join(f"{100 * one:.1f}" for one in row.size_m)
        table.add_row(row.name, row.category, size, ", ".join(row.joints), ", ".join(row.affordances))
    table.caption = "; ".join(library.notes())
    return table
