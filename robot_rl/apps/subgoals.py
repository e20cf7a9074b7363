"""Learn in which order to change things, so that a policy is told one change at a time.

  robot-rl imitate task=puzzle-3x3 goals.next_change=1 goals.future=0     the policy: told the scene after one change
  robot-rl subgoals runs/imitate/puzzle-3x3_score_seed0                   values over changes, from the same play
  robot-rl evaluate runs/imitate/puzzle-3x3_score_seed0 --subgoals
  robot-rl subgoals RUN values.updates=20000 planner.patience=20 seed=3

For goals that are several changes away: a pattern of buttons, a block in a drawer that is locked. Changes are found in
the play that the policy learned from, in what its goals speak of (policy.inputs.goal_elements); the table tells which.
What is learned is kept in the policy's run, where `robot-rl evaluate --subgoals` and the deploy graph find it. Takes
minutes; nothing moves. Ctrl-C leaves what was there before.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from data.cache import open_cache
from data.store import EpisodeStore
from policies.chunking import ChunkPolicy
from policies.parameters import load_parameters
from policies.sources import as_many
from policies.subgoals import ChangeValueNet, Memory, SubgoalConfig, SubgoalPlanner, SubgoalSource
from robot_rl.algorithms import change_values
from robot_rl.algorithms.change_values import ChangeValuesConfig, Places
from robot_rl.apps.changes import Changes, find_changes
from robot_rl.apps.config import add_overrides, check_writable, compose, positive
from robot_rl.apps.held_out import choose_episodes
from robot_rl.apps.imitation import ImitationExperiment
from robot_rl.apps.runs import find_checkpoint, read_run
from robot_rl.changes import ChangeConfig, Rows, Things
from robot_rl.errors import ConfigError, DataError, RobotRlError, SpecError
from robot_rl.protocols import Policy
from robot_rl.spec_difference import difference
from robot_rl.typed import to_dataclass
from robot_rl.types import STATE_KEY, FloatArray

SUBGOALS = "subgoals.safetensors"
"""In the policy's run: what was learned."""
VALUES = "values."
MOST_KINDS = 20
PAIRS = 2000


@dataclass(frozen=True)
class SubgoalsConfig:
    """What is learned, and how it is used."""

    values: ChangeValuesConfig = field(default_factory=ChangeValuesConfig)
    """How values over changes are learned."""
    planner: SubgoalConfig = field(default_factory=SubgoalConfig)
    """How the next change is chosen."""
    seed: int = 0
    """Of weights and batches."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="the policy: a run of `robot-rl imitate`")
    add_overrides(parser, "values.updates=20000 planner.patience=20")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="torch threads")


def run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    console = Console()
    config = compose("subgoals", args.overrides, SubgoalsConfig)
    run_dir, _ = find_checkpoint(args.path)
    experiment = read_run(run_dir)
    if not isinstance(experiment, ImitationExperiment):
        raise ConfigError(f"{run_dir} was learned by robot-rl train, and is told no goals; robot-rl imitate learns one")
    check_writable(run_dir / SUBGOALS)  # written last
    store = EpisodeStore(experiment.data)
    if found := difference(store.observation_spec, experiment.task.observation_spec, ("data", "task")):
        raise SpecError(f"{store.path} is not what {run_dir} learned from: {found}")
    cache = open_cache(store)
    changes = find_changes(experiment, store, cache)
    states: Any = cache.arrays[f"observation/{STATE_KEY}"]
    learned, held_out = (
        [_told(changes, states, rows) for rows, one in zip(changes.rests, chosen, strict=True) if one]
        for chosen in choose_episodes(cache, experiment)
    )
    places = Places.of(learned)
    console.print(_table(changes, places, experiment.changes))
    net = _learn(config, changes, places, experiment.changes, console)
    if held_out and any(len(one) > 2 for one in held_out):
        share = _closer(net, Places.of(held_out), config.seed)
        console.print(f"held-out episodes: in {share:.0%} of their changes the value of what came later rose")
    path = run_dir / SUBGOALS
    _save(path, config.planner, experiment.changes, changes, net, places)
    console.print(f"{path}; use it: robot-rl evaluate {run_dir} --subgoals")
    return 0


def _told(changes: Changes, states: FloatArray, rows: Rows) -> FloatArray:
    """What goals speak of at `rows` (P, E), in standard deviations."""
    mean, std = _scale(changes)
    return ((states[rows][:, changes.things.elements] - mean) / std).astype(np.float32)


def _scale(changes: Changes) -> tuple[FloatArray, FloatArray]:
    chosen = changes.things.elements
    return changes.normalizer.mean.numpy()[chosen], changes.normalizer.std.numpy()[chosen]


def _learn(
    config: SubgoalsConfig, changes: Changes, places: Places, what: ChangeConfig, console: Console
) -> ChangeValueNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = ChangeValueNet(config.planner, len(changes.things.elements))
    drawn = change_values.batches(places, changes.things, what.moved, config.values, config.seed)
    updates = change_values.learn(net, drawn, config.values)
    for _ in track(updates, "values", total=config.values.updates, console=console):
        pass
    if not all(bool(one.isfinite().all()) for one in net.parameters()):
        raise DataError("learning has diverged: lower values.learning_rate, or look for values far off in the data")
    return net


def _table(changes: Changes, places: Places, what: ChangeConfig) -> Table:
    left = places.left
    moved = changes.things.apart(places.told[left], places.told[left + 1]) > what.moved
    kinds = Counter(tuple(np.array(changes.things.names)[one].tolist()) for one in moved)
    table = Table("what one change moves", "changes", title=f"{len(left)} changes")
    for kind, count in kinds.most_common(MOST_KINDS):
        table.add_row(", ".join(kind) or "(little by little)", str(count))
    if rest := kinds.most_common()[MOST_KINDS:]:
        table.add_row(f"{len(rest)} more kinds", str(sum(count for _, count in rest)))
    return table


@torch.no_grad()
def _closer(net: ChangeValueNet, places: Places, seed: int) -> float:
    """Share of changes after which the value of a place that came at least two changes later had risen."""
    random = np.random.default_rng(seed)
    here = random.choice(places.left, PAIRS)
    goal = np.minimum(here + random.integers(2, 6, PAIRS), places.last[here])
    value, following = (
        net(torch.from_numpy(places.told[rows]), torch.from_numpy(places.told[goal])).mean(0)
        for rows in (here, here + 1)
    )
    return float((following > value)[torch.from_numpy(goal > here + 1)].float().mean())


def _save(
    path: Path, config: SubgoalConfig, what: ChangeConfig, changes: Changes, net: ChangeValueNet, places: Places
) -> None:
    """For `load_planner`; replaced as a whole."""
    left, (mean, std) = places.left, _scale(changes)
    arrays = {"before": places.told[left], "after": places.told[left + 1], "mean": mean, "std": std}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in arrays.items()}
    tensors |= {VALUES + name: value.contiguous() for name, value in net.state_dict().items()}
    tensors["elements"] = torch.from_numpy(changes.things.elements)
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, partial, {"planner": json.dumps(asdict(config)), "changes": json.dumps(asdict(what))})
    except SafetensorError as error:
        raise DataError(f"{partial} cannot be written: {error}; make room, or make the folder writable") from error
    partial.replace(path)


def load_planner(run_dir: Path, experiment: Any) -> SubgoalPlanner:
    """What `robot-rl subgoals` kept in a policy's run; `ConfigError` where it was not run, `DataError` if damaged."""
    path = run_dir / SUBGOALS
    if not path.exists():
        raise ConfigError(f"{run_dir} holds no values over changes: robot-rl subgoals {run_dir} learns them")
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            config, what = (
                to_dataclass(kind, json.loads(told[name]))
                for name, kind in (("planner", SubgoalConfig), ("changes", ChangeConfig))
            )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        names = experiment.task.observation_spec.arrays[STATE_KEY].names
        elements = tensors.pop("elements").numpy()
        things = Things.of(names, np.isin(np.arange(len(names)), elements))
        memory = Memory(*(tensors.pop(name).numpy() for name in ("before", "after", "mean", "std")))
        _check(memory, elements, things)
        net = ChangeValueNet(cast(SubgoalConfig, config), len(things.elements))
        load_parameters(net, {name.removeprefix(VALUES): value for name, value in tensors.items()})
    except (OSError, ValueError, KeyError, IndexError, TypeError, SafetensorError, RobotRlError) as error:
        raise DataError(f"{path} cannot be read: {error}; robot-rl subgoals {run_dir} makes it anew") from error
    return SubgoalPlanner(cast(SubgoalConfig, config), cast(ChangeConfig, what), things, net, memory)


def _check(memory: Memory, elements: Rows, things: Things) -> None:
    """`DataError` unless the numbers are of these things, and are numbers."""
    if not np.array_equal(elements, things.elements):
        raise DataError("its elements are not some of the state's, in order")
    size, count = len(elements), len(memory.before)
    shapes = [one.shape for one in (memory.before, memory.after, memory.mean, memory.std)]
    if shapes != [(count, size), (count, size), (size,), (size,)]:
        raise DataError(f"its changes do not fit: {shapes}")
    numbers = np.concatenate([memory.before, memory.after, memory.mean[None], memory.std[None]])
    if not np.isfinite(numbers).all() or not (memory.std > 0.0).all():
        raise DataError("its changes hold what is no number, or no spread")


def plan_by_subgoals(policy: Policy, experiment: Any, run_dir: Path) -> SubgoalPlanner:
    """Let `policy` of the run in `run_dir` be told one change at a time, from now on."""
    if not isinstance(policy, ChunkPolicy):
        raise ConfigError("subgoals are of policies that are told goals; robot-rl imitate learns one")
    planner = load_planner(run_dir, experiment)
    policy.source = SubgoalSource(as_many(policy.source), planner)
    return planner
