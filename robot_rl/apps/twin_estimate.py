"""Success of policies from recorded episodes that others acted in: off-policy estimates; nothing moves.

  robot-rl twin estimate runs/real/door runs/imitate/door_score runs/imitate/door_act
  robot-rl twin estimate runs/real/door RUN --out runs/evaluations/kitchen       shown beside the success in twins
  robot-rl twin estimate runs/mixed/lift RUN fqe.updates=50000 critic.members=20

Fitted Q evaluation (FQE), with an interval; importance sampling where the policy has a density; and how far either can
be trusted. The episodes must hold successes and failures of the policies' task. Results lie in --out: estimates.json.
After Ctrl-C the policies that are done are kept, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from data.cache import fingerprint
from data.store import EpisodeStore
from robot_rl.apps.config import compose, make_folder, positive
from robot_rl.apps.estimates import ESTIMATES, read_estimates
from robot_rl.apps.estimation import Estimation, Report, estimate
from robot_rl.apps.evaluate_twin import find_candidates
from robot_rl.apps.recorded import Recorded, open_recorded
from robot_rl.apps.runs import read_run
from robot_rl.apps.twin_cells import Candidate
from robot_rl.errors import ConfigError
from robot_rl.evaluation_description import EXPERIMENT
from robot_rl.files import digest, write_file
from robot_rl.identity import experiment_hash
from robot_rl.typed import to_plain

PACKAGES = ("robot-rl", "numpy", "torch", "scipy")
MADE_BY = 1
"""Number of this way to estimate: raised where the same order would give other results."""
FEW_EPISODES = 10.0
"""Importance estimates that rest on fewer are called so."""
HALF = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, help="recorded episodes, with successes and failures")
    parser.add_argument("words", nargs="+", metavar="RUN | key=value", help="policies, and settings of Estimation")
    parser.add_argument("--out", type=Path, help="folder of estimates.json (default: runs/estimates/<store>)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="torch threads")


def run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    console = Console(markup=False, emoji=False)  # names may hold square brackets
    runs = [Path(word) for word in args.words if "=" not in word]
    if not runs:
        raise ConfigError("robot-rl twin estimate STORE RUN [RUN ...]: name a policy's run")
    config = compose("twin_estimate", [word for word in args.words if "=" in word], Estimation)
    candidates = find_candidates(runs)
    recorded = [open_recorded(args.store, read_run(one.run_dir).task, config.phases) for one in candidates]
    results = Results(args.out or Path("runs") / "estimates" / args.store.resolve().name, args.store, config)
    try:
        _estimate_all(candidates, recorded, config, results, console)
    except KeyboardInterrupt:
        kept = sum(results.has(one) for one in candidates)
        console.print(f"{kept} of {len(candidates)} policies are kept in {results.out}; the same command goes on")
        raise
    found = {one.name: results.policies[one.name] for one in candidates}
    console.print(_table(found))
    for name, one in found.items():
        for line in words(one):
            console.print(f"{name}: {line}", soft_wrap=True, highlight=False)
    console.print(f"{results.out / ESTIMATES}", soft_wrap=True)
    return 0


class Results:
    """The folder's estimates; those of other episodes or settings are not kept."""

    def __init__(self, out: Path, store: Path, config: Estimation) -> None:
        self.out, before = out, read_estimates(out)
        self._head = {
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "store": str(store.resolve()),
            "made_from": digest(fingerprint(EpisodeStore(store)), config, MADE_BY),
            "configuration": to_plain(config),
        }
        is_same = before.get("made_from") == self._head["made_from"]
        self.policies: dict[str, Any] = before["policies"] if is_same else {}
        make_folder(out)

    def has(self, candidate: Candidate) -> bool:
        """Whether this policy is estimated already."""
        kept = self.policies.get(candidate.name, {})
        return (kept.get("sha256"), kept.get(EXPERIMENT)) == (candidate.digest, experiment_hash(candidate.run_dir))

    def add(self, candidate: Candidate, found: dict[str, Any]) -> None:
        """Keep it."""
        of = {"run_dir": candidate.run_dir, "checkpoint": candidate.checkpoint, "sha256": candidate.digest}
        of |= {EXPERIMENT: experiment_hash(candidate.run_dir)}
        self.policies[candidate.name] = {**{key: str(value) for key, value in of.items()}, **found}
        content = self._head | {"policies": self.policies}
        write_file(self.out / ESTIMATES, json.dumps(content, indent=1, allow_nan=False, default=str) + "\n")


def _estimate_all(
    candidates: Sequence[Candidate],
    recorded: Sequence[Recorded],
    config: Estimation,
    results: Results,
    console: Console,
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        for one, episodes in zip(candidates, recorded, strict=True):
            if not results.has(one):
                results.add(one, estimate(one, episodes, config, _bars_of(one.name, bars)))


def _bars_of(name: str, bars: Progress) -> Report:
    """One bar for each thing that is done."""
    shown: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in shown:
            shown[what] = bars.add_task(f"{name}: {what}")
        bars.update(shown[what], completed=done, total=total)

    return report


def words(found: Mapping[str, Any]) -> list[str]:
    """How far the estimates of one policy can be trusted."""
    near, importance = found["near"], found["importance"]
    lines = [f"nearness: {near['words']}"] if near["words"] else []
    if near["share"] is not None and near["share"] < HALF:
        lines.append(
            f"{near['share']:.0%} of what it would do lies near what was recorded: FQE's value is an extrapolation"
        )
    if importance is None:
        lines.append(f"no importance estimate: {found['importance_words']}")
    elif importance["effective_episodes"] < FEW_EPISODES:
        lines.append(f"importance sampling rests on {importance['effective_episodes']:.1f} episodes: do not rely on it")
    return lines


def _table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    heads = ("policy", "FQE", "spread", "importance sampling", "effective episodes", "actions near recorded ones")
    table = Table(*heads, title="success, 95 % intervals")
    for name, one in found.items():
        importance, share = one["importance"], one["near"]["share"]
        weighed = ("none", "") if importance is None else (_told(importance), f"{importance['effective_episodes']:.1f}")
        near = "not known" if share is None else f"{share:.0%}"
        table.add_row(name, _told(one["fqe"]), f"{one['fqe']['spread']:.2f}", *weighed, near)
    return table


def _told(found: Mapping[str, Any]) -> str:
    low, high = found["interval_95"]
    return f"{found['value']:.2f} [{low:.2f}, {high:.2f}]"
