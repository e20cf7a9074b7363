"""Compositions of score policies against both of their parents, with weights found on held-out start states.

  python benchmarks/composition.py --quick
  python benchmarks/composition.py --seed 0 --out benchmarks/results/composition.json

For each pair and seed the scripted person demonstrates, both parents are trained, `robot-rl compose --search` finds the
weights on start states of its own, and parents and composition are evaluated from the same other ones. Pairs:

  experience   Lift, a log of all that operators of mixed quality did, against a single demonstration by the expert
  experience_can  the same for the can, against two demonstrations: did not gain on the seed the pairs were chosen by
  processes    Stack, the same demonstrations: EDM with an MLP, flow matching with a transformer and two observations
  operators    Stack, a steady slow person against a quick shaky one, far worse: not expected to gain, reported

A gain is the difference in success from the same start states to each parent, the smaller of the two; its interval is
a bootstrap over start states within each seed. The search's own figures are of the best of many and not reported as
results. What is finished is kept in --work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, add_arguments, write_result

from robot_rl.statistics import wilson_interval
from robot_rl.types import FloatArray

RESAMPLES = 10_000
PAIRS_THAT_GAIN = 2.0
STEADY = ("person.hand_speed=0.25", "person.hand_noise=0.01")
SHAKY = ("person.hand_speed=0.5", "person.hand_noise=0.06")
PLAIN = ("policy.inputs.goal=false", "policy.goal_dropout=0", "algorithm.learning_rate=0.001", "held_out=0")
OPERATORS = ("expert=0.5", "clumsy=0.2", "wrong=0.3")
MLP = ("policy=score", "policy.network.width=256", *PLAIN)
MIXED = (*MLP, "outcomes=all")
FLOW = ("policy=flow", "policy.inputs.history=2", *PLAIN)
TRANSFORMER = (
    "policy.network._target_=policies.denoisers.TransformerConfig",
    "policy.network.width=64", "policy.network.layers=2", "policy.network.heads=4", "batch_size=64",
)  # fmt: skip


@dataclass(frozen=True)
class Parent:
    """What one policy learns from, and how."""

    demos: int
    policy: tuple[str, ...]
    person: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    """Who demonstrates (`robot-rl demonstrate`), instead of the scripted person."""


@dataclass(frozen=True)
class Pair:
    """Two parents of one task."""

    task: str
    parents: tuple[Parent, Parent]
    may_gain: bool = True
    quick: bool = True


PAIRS = {
    "experience": Pair("lift", (Parent(200, MIXED, operators=OPERATORS), Parent(1, MLP, operators=("expert",)))),
    "experience_can": Pair(
        "pick_place_can", (Parent(200, MIXED, operators=OPERATORS), Parent(2, MLP, operators=("expert",))), quick=False
    ),
    "processes": Pair("stack", (Parent(15, MLP), Parent(15, (*FLOW, *TRANSFORMER)))),
    "operators": Pair("stack", (Parent(15, MLP, STEADY), Parent(15, MLP, SHAKY)), may_gain=False),
}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    updates: int
    grid: int
    search_episodes: int
    episodes: int
    seeds: int


QUICK = Size(updates=1500, grid=4, search_episodes=10, episodes=20, seeds=1)
FULL = Size(updates=10_000, grid=5, search_episodes=50, episodes=100, seeds=3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, help="default: all (quick: without experience_can)")
    parser.add_argument("--seeds", type=int, help="training seeds (default: 3, quick: 1)")
    parser.add_argument("--updates", type=int, help="of each parent (default: 10000, quick: 1500)")
    parser.add_argument("--grid", type=int, help="of the search (default: 5, quick: 4)")
    parser.add_argument("--search-episodes", type=int, help="of each choice of weights (default: 50, quick: 10)")
    parser.add_argument("--episodes", type=int, help="of each evaluation (default: 100, quick: 20)")
    parser.add_argument("--demos", type=int, help="of each parent, instead of the pair's own")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--work", type=Path, default=Path("runs/composition"), help="where finished runs are kept")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    size = replace(size, **{name: getattr(args, name) for name in vars(size) if getattr(args, name) is not None})
    names = args.pairs or [name for name, pair in PAIRS.items() if pair.quick or not args.quick]
    jobs = [
        Job(name, _with_demos(PAIRS[name], args.demos), seed, size, args.work)
        for name in names
        for seed in range(args.seed, args.seed + size.seeds)
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(run_job, jobs))
    figures = [figure for name in names for figure in summarize(name, results)]
    gained = [name for name in names if PAIRS[name].may_gain and _gains(name, figures)]
    figures.append(
        Figure("pairs_that_gain", len(gained), "pairs above both parents", PAIRS_THAT_GAIN, len(names), None)
    )
    write_result(args, figures, {"runs": results, "size": vars(size)})
    return 0 if all(figure.holds is not False for figure in figures) else 1


@dataclass(frozen=True)
class Job:
    """One pair and seed."""

    name: str
    pair: Pair
    seed: int
    size: Size
    work: Path

    def directory(self, *parts: object) -> Path:
        """A folder in --work that names all that it depends on."""
        return self.work / "_".join(map(str, (self.name, *parts, f"seed{self.seed}")))


def run_job(job: Job) -> dict[str, Any]:
    """Train both parents, compose them, evaluate all three; the successes, start state by start state."""
    runs = [train(job, number) for number in (0, 1)]
    size, demos = job.size, [parent.demos for parent in job.pair.parents]
    out = job.directory("composed", *demos, size.updates, size.grid, size.search_episodes)
    if not (out / "experiment.json").exists():
        how = ("--search", "--grid", str(size.grid), "--episodes", str(size.search_episodes))
        _robot_rl("compose", *map(str, runs), *how, "--seed", str(job.seed), "--out", str(out), "--threads", "1")
    policy = json.loads((out / "experiment.json").read_text())["policy"]
    successes = [evaluate(job, run) for run in (*runs, out)]
    return {"pair": job.name, "seed": job.seed, "weights": policy["weights"], "successes": successes}


def train(job: Job, number: int) -> Path:
    """Demonstrations and the policy of one parent; returns its run's directory."""
    parent, threads = job.pair.parents[number], ("--threads", "1")
    task = (f"task={job.pair.task}", f"seed={job.seed}")
    shown = [(one.demos, one.person, one.operators) for one in job.pair.parents]
    demos = job.directory("demos", shown.index(shown[number]), parent.demos)
    policy = job.directory("parent", number, parent.demos, job.size.updates)
    episodes = demos if parent.operators else demos / "episodes"
    if parent.operators:
        who = ("--operators", *parent.operators, "--episodes", str(parent.demos), "--jobs", "1")
        _robot_rl("demonstrate", job.pair.task, *who, "--seed", str(job.seed), "--out", str(demos))
    elif not (demos / "report.html").exists():
        schedule = (f"schedule.demos={parent.demos}", "schedule.learn_steps=0", "schedule.evaluate_episodes=0")
        _robot_rl("train", *task, *parent.person, *schedule, "--run-dir", str(demos), "--overwrite", *threads)
    if not (policy / "checkpoints" / f"step_{job.size.updates:09d}").exists():
        words = (*task, *parent.policy, f"data={episodes}", f"algorithm.updates={job.size.updates}")
        _robot_rl("imitate", *words, "--run-dir", str(policy), "--overwrite", *threads)
    return policy


def evaluate(job: Job, run: Path) -> list[bool]:
    """Success of each episode, with the evaluation's start states of the seed."""
    out = run / f"evaluation_{job.size.episodes}.json"
    if not out.exists():
        _robot_rl(
            "evaluate", str(run), "--episodes", str(job.size.episodes), "--seed", str(job.seed), "--out", str(out)
        )
    return [one["success"] for one in json.loads(out.read_text())["episodes"]]


def summarize(name: str, results: Sequence[dict[str, Any]]) -> list[Figure]:
    """Success of both parents and of the composition, pooled over the seeds, and the gain over each parent."""
    successes = np.array([one["successes"] for one in results if one["pair"] == name], float)  # (seeds, 3, episodes)
    figures = []
    for number, arm in enumerate(("first", "second", "composed")):
        count, total = int(successes[:, number].sum()), successes[:, number].size
        interval = wilson_interval(count, total)
        figures.append(Figure(f"{name}.success.{arm}", count / total, "share", None, total, interval))
    for number, arm in enumerate(("first", "second")):
        gains = successes[:, 2] - successes[:, number]
        figures.append(
            Figure(f"{name}.gain_over.{arm}", float(gains.mean()), "difference", None, gains.size, bootstrap(gains))
        )
    weight = float(np.mean([one["weights"][0] for one in results if one["pair"] == name]))
    return [*figures, Figure(f"{name}.weight.first", weight, "mean over seeds", None, len(successes), None)]


def bootstrap(values: FloatArray) -> tuple[float, float]:
    """95 % interval of the mean of `values` (seeds, episodes): episodes drawn anew within each seed."""
    rng = np.random.default_rng(0)
    seeds, episodes = values.shape
    drawn = rng.integers(episodes, size=(RESAMPLES, seeds, episodes))
    means = np.take_along_axis(values[None], drawn, -1).mean((1, 2))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _gains(name: str, figures: Sequence[Figure]) -> bool:
    """Whether the interval of the gain lies above zero for both parents."""
    intervals = [figure.interval for figure in figures if figure.name.startswith(f"{name}.gain_over.")]
    return all(interval is not None and interval[0] > 0.0 for interval in intervals)


def _with_demos(pair: Pair, demos: int | None) -> Pair:
    if demos is None:
        return pair
    first, second = (replace(parent, demos=demos) for parent in pair.parents)
    return replace(pair, parents=(first, second))


def _robot_rl(*words: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "robot_rl.apps.cli", *words], env=environment, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
