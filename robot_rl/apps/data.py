"""Look at recorded episodes, check them and repair them.

robot-rl data info runs/demo/episodes
robot-rl data verify runs/demo/episodes            changes nothing
robot-rl data verify runs/demo/episodes --repair   mends; what cannot be mended goes to quarantine/
robot-rl data label runs/play/scene                words for what was done (OGBench's tasks), into labels.jsonl
robot-rl data label runs/play/lift --episode 12 --begin 40 --end 90 --text "lift the cube"      by hand
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from data.episode import OBSERVATION
from data.labels import add_labels, labelled_episodes, read_labels
from data.store import EpisodeStore
from data.verify import verify
from robot_rl.apps.config import not_negative, positive
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY, Label
from sim import ogbench_words

EXIT_FAULTY = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="info | verify | label")
    info = commands.add_parser("info", help="what a store holds")
    info.add_argument("path", type=Path)
    check = commands.add_parser("verify", help="read everything and report what is wrong")
    check.add_argument("path", type=Path)
    check.add_argument("--repair", action="store_true", help="mend what is found; nothing good is deleted")
    words = commands.add_parser("label", help="say in words what was done in parts of episodes")
    words.add_argument("path", type=Path)
    words.add_argument("--episode", help="id or number of one episode, to label a part of it by hand")
    words.add_argument("--begin", type=not_negative, help="first step of the part (default: 0)")
    words.add_argument("--end", type=positive, help="step after its last one (default: the episode's end)")
    words.add_argument("--text", help="what was done there; an empty text takes a label back")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if args.action == "label":
        return _label(args, console)
    if args.action == "info":
        _info(args.path, console)
        return 0
    report = verify(args.path, repair=args.repair)
    console.print(report.table())
    return 0 if report.ok else EXIT_FAULTY


def _label(args: argparse.Namespace, console: Console) -> int:
    store = EpisodeStore(args.path)
    if (args.episode is None) != (args.text is None) or (
        args.episode is None and (args.begin, args.end) != (None, None)
    ):
        raise ConfigError("by hand: --episode and --text, and --begin and --end unless it is all of the episode")
    if args.episode is not None:
        number = store.number_of(args.episode)
        info = store.infos[number]
        one = Label(args.begin or 0, info.steps if args.end is None else args.end, args.text)
        if not one.begin < one.end <= info.steps:
            raise ConfigError(f"need begin < end <= {info.steps}, the episode's steps; got {one.begin} and {one.end}")
        there = [(label.begin, label.end) for label in read_labels(args.path).get(info.episode_id, ())]
        if not one.text.strip() and (one.begin, one.end) not in there:
            raise ConfigError(f"there is no label to take back at {one.begin} to {one.end}; labels are at {there}")
        found = {info.episode_id: [one]}
    else:
        found = _describe(store)
    added = add_labels(args.path, found)
    table = Table("text", "parts", title=f"{args.path}: {added} labels added")
    counts = Counter(one.text for labels in read_labels(args.path).values() for one in labels)
    for text, count in sorted(counts.items()):
        table.add_row(text, str(count))
    console.print(table)
    return 0


def _describe(store: EpisodeStore) -> dict[str, list[Label]]:
    """Labels for what has none yet, in hindsight, where the state tells what was done."""
    state = store.observation_spec.arrays.get(STATE_KEY)
    if state is None or not ogbench_words.instructions(state.names):
        raise ConfigError("only OGBench's worlds are described by themselves; label parts by hand: --episode, --text")
    known, found = labelled_episodes(store.path), {}
    for number, info in enumerate(track(store.infos, "label")):
        if info.usable and info.episode_id not in known:
            states = store.episode(number).arrays[OBSERVATION + STATE_KEY]
            found[info.episode_id] = ogbench_words.label(state.names, states, seed=number)
    return found


def _info(path: Path, console: Console) -> None:
    store = EpisodeStore(path)
    console.print(episode_table(store))
    names = {OBSERVATION + key: one.names for key, one in store.observation_spec.arrays.items()}
    names |= dict.fromkeys(("proposed_action", "executed_action"), store.action_spec.names)
    for key, array in store.arrays.items():
        told = f": {', '.join(names[key])}" if names.get(key) else ""
        console.print(f"  {key}: {array.shape} {array.dtype}{told}")


def episode_table(store: EpisodeStore) -> Table:
    """The usable episodes by phase and operator, synthetic ones apart."""
    columns = ("phase", "operator", "episodes", "successful", "steps", "steps by the person", "synthetic")
    table = Table(*columns, title=str(store.path))
    kinds = [(one.phase, one.operator, one.synthetic) for one in store.infos]
    for phase, operator, synthetic in sorted(set(kinds)):
        same = zip(store.infos, kinds, strict=True)
        infos = [one for one, kind in same if kind == (phase, operator, synthetic) and one.usable]
        person = sum(end - begin for info in infos for begin, end in info.intervention_spans)
        numbers = (len(infos), sum(info.success for info in infos), sum(info.steps for info in infos), person)
        table.add_row(phase, operator, *map(str, numbers), "yes" if synthetic else "")
    return table
