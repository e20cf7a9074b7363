"""Combine score policies that were learned apart: at each denoising step the weighted mean of what they estimate (GPC).

  robot-rl compose runs/imitate/stack_steady runs/imitate/stack_quick --weights 0.3 0.7 --out runs/compose/stack
  robot-rl compose RUN_A RUN_B --search --episodes 50 --out OUT    try weights on held-out start states
  robot-rl evaluate OUT                                            on those of the evaluation, as any run
  robot-rl evaluate OUT "policy.weights=[1, 0]"                    the first parent alone, by the same sampler

The first run leads: its noise process, sampler, steps and execution are the composition's, and their task is one
that shows all that any of them sees. The parents' weights are copied: OUT stands alone.

--search runs every combination of weights in steps of 1 / --grid, the parents alone included, from the same start
states; they are of the range that `robot-rl train` learns in, which no evaluation has, whatever its seed. Most
successes win; then the weights nearest to equal ones; then those that lean to the better parent. The winner's
success is that of the best of many: evaluate it anew. OUT/search.json keeps everything, and an interrupted search
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save_file

from policies.composed import ComposedConfig, ComposedModel, ParentConfig, check_weights
from policies.score import ScoreConfig
from robot_rl.apps.config import not_negative, positive
from robot_rl.apps.imitation import ImitationExperiment, build_model
from robot_rl.apps.runs import SEARCH_FILE, find_checkpoint, read_policy, read_run
from robot_rl.apps.weight_search import SearchConfig, begun_search, best, search, show
from robot_rl.errors import ConfigError, SpecError
from robot_rl.files import write_file
from robot_rl.typed import to_plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="the parents: runs of `robot-rl imitate`, or checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="the composition's run directory")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--weights", nargs="+", type=float, metavar="W", help="of the parents; of sum 1")
    how.add_argument("--search", action="store_true", help="find the weights by running them")
    parser.add_argument("--grid", type=positive, default=10, help="search: parts that the weight is dealt in (10)")
    parser.add_argument("--episodes", type=positive, default=50, help="search: for each choice and goal (50)")
    parser.add_argument("--seed", type=not_negative, default=0, help="search: of the start states (0)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="torch threads")
    parser.add_argument("--overwrite", action="store_true", help="delete the run found in --out first")


def run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    console = Console()
    members = [read_member(path) for path in args.runs]
    equal = (1.0 / len(members),) * len(members)
    if args.weights:
        check_weights(args.weights, len(members))
    experiment = build_composition(members, tuple(args.weights or equal))
    tensors = gather_weights(experiment, members)
    _make_room(args.out, members, search=args.search, overwrite=args.overwrite)
    config = SearchConfig(tuple(str(one.checkpoint) for one in members), args.grid, args.episodes, args.seed)
    begun = begun_search(args.out / SEARCH_FILE, config)
    checkpoint = args.out / "checkpoints" / max(one.checkpoint.name for one in members)
    checkpoint.mkdir(parents=True, exist_ok=True)
    save_file(tensors, checkpoint / "policy.safetensors")
    if args.search:
        tried = search(experiment, checkpoint, begun, args.out / SEARCH_FILE, console)
        chosen = best(tried)
        console.print(show(tried, chosen, [Path(one.run).name for one in members]))
        experiment = replace(experiment, policy=replace(experiment.policy, weights=chosen.weights))
    # last: only with it is the directory a run
    write_file(args.out / "experiment.json", json.dumps(to_plain(experiment), indent=2) + "\n")
    console.print(f"weights {list(experiment.policy.weights)}; run it with: robot-rl evaluate {args.out}")
    return 0


@dataclass(frozen=True)
class Member:
    """A run that becomes a parent."""

    run: str
    checkpoint: Path
    experiment: ImitationExperiment


def read_member(path: Path) -> Member:
    """The run or checkpoint at `path`; `ConfigError` when it does not hold a score policy."""
    run_dir, checkpoint = find_checkpoint(path)
    experiment = read_run(run_dir)
    if not (isinstance(experiment, ImitationExperiment) and isinstance(experiment.policy, ScoreConfig)):
        hint = "give its parents instead; " if isinstance(experiment.policy, ComposedConfig) else ""
        raise ConfigError(
            f"{path} holds a policy of {type(experiment.policy).__name__}; {hint}"
            "score policies can be composed (ScoreConfig: policy=score, beso, flow, diffusion_policy and the like)"
        )
    return Member(str(path), checkpoint, experiment)


def build_composition(members: Sequence[Member], weights: tuple[float, ...]) -> ImitationExperiment:
    """The first member's experiment with the policy composed; `ConfigError` names what does not fit."""
    lead = members[0].experiment
    task = common_task(members)
    parents = []
    for one in members:
        seen = one.experiment.task.observation_spec
        sees = {key: array.names for key, array in seen.arrays.items()}
        parents.append(ParentConfig(one.run, one.experiment.policy, sees))
        if parents[-1].view(task.observation_spec) != seen:
            raise SpecError(f"{one.run} sees {seen}, which is not part of what all see: {task.observation_spec}")
    leading = lead.policy
    policy = ComposedConfig(tuple(parents), weights, leading.process, leading.sampler, leading.steps, leading.execution)
    return replace(lead, task=task, policy=policy)


def common_task(members: Sequence[Member]) -> Any:
    """The one task of all members, showing what any of them sees; `ConfigError` when there are several."""
    lead = members[0]
    task = lead.experiment.task
    for one in members[1:]:
        other = one.experiment.task
        if type(other) is not type(task) or one.experiment.robot != lead.experiment.robot:
            raise ConfigError(
                f"{lead.run} is of {task.name} with {lead.experiment.robot}, "
                f"{one.run} of {other.name} with {one.experiment.robot}"
            )
        try:
            task = task.seeing(other)
        except ConfigError as error:
            raise ConfigError(f"{lead.run} and {one.run} are of different tasks: {error}") from error
    return task


def gather_weights(experiment: ImitationExperiment, members: Sequence[Member]) -> dict[str, torch.Tensor]:
    """The composed network's parameters; errors unless every parent's fit and its words are understood here."""
    model = build_model(experiment, experiment.task.observation_spec, experiment.task.action_spec)
    assert isinstance(model, ComposedModel)
    model.load_parents([read_policy(one.checkpoint) for one in members])
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def _make_room(out: Path, members: Sequence[Member], *, search: bool, overwrite: bool) -> None:
    """Refuse a directory with a run in it, or delete that; what an interrupted search left, a search goes on with."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; a run needs a directory")
    if any(one.checkpoint.is_relative_to(out.resolve()) for one in members):
        raise ConfigError(f"{out} is where a parent lies; choose another --out")
    found = [name for name in ("experiment.json", SEARCH_FILE) if (out / name).exists()]
    if found and overwrite:
        shutil.rmtree(out)
    elif found and not (search and found == [SEARCH_FILE]):
        raise ConfigError(f"{out} holds a run; add --overwrite to delete it, or choose another --out")
