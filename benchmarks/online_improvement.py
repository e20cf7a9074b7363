"""EXPO and Q-chunking against RLPD: environment steps to 90 % from the same demonstrations, without a person's help.

  python benchmarks/online_improvement.py --quick
  python benchmarks/online_improvement.py --seed 0 --out benchmarks/results/online_improvement.json

Sparse reward, twenty demonstrations, two updates a step; before the first step all learn from the demonstrations
(`learner.pretrain_updates`; Q-chunking's policy imitates them first). All arms of a seed have the same demonstrations
and probes from the same start states; the level counts from the first probe after which none is below it. Arms:

  rlpd         as published (2302.02948): ten critics, no imitation beside them
  rlpd_ours    as `robot-rl train` learns by default: two critics, imitation that decays, its own successes
  expo         2507.07986, as algorithm=expo policy=expo
  q_chunking   2507.07969, as algorithm=q_chunking policy=q_chunking

A seed that never gets there counts with all of its steps: for RLPD that makes the ratio smaller than it is. Runs are
processes of their own with one thread each, `--jobs` at a time; finished ones are kept in --work and not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, add_arguments, write_result
from learning_run import Job, Plan, run_job, steps_to

from robot_rl.statistics import wilson_interval

LEVEL = 0.9
FASTER = 2.0
PUBLISHED = ("algorithm.num_critics=10", "algorithm.bc_weight=0", "own_successes=false")
ARMS: dict[str, tuple[str, ...]] = {
    "rlpd": PUBLISHED,
    "rlpd_ours": (),
    "expo": ("algorithm=expo", "policy=expo"),
    "q_chunking": ("algorithm=q_chunking", "policy=q_chunking"),
}
BASELINES = ("rlpd", "rlpd_ours")
PLANS = (Plan("lift", 3000, 250), Plan("door", 4000, 250))
QUICK = Plan("lift", 1500, 250)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5, quick: 1)")
    parser.add_argument("--tasks", nargs="+", choices=[plan.task for plan in PLANS], help="default: all (quick: lift)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="default: all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/online_improvement"), help="where finished runs are kept"
    )
    args = parser.parse_args()
    plans = [QUICK] if args.quick else [plan for plan in PLANS if not args.tasks or plan.task in args.tasks]
    seeds = range(args.seed, args.seed + (args.seeds or (1 if args.quick else 5)))
    episodes = 50 if args.quick else 100
    jobs = [
        (arm, Job(replace(plan, overrides=ARMS[arm]), "no_intervention", seed, episodes))
        for plan in plans
        for seed in seeds
        for arm in args.arms or ARMS
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda job: _run(args.work, *job), jobs))
    write_result(args, summarize(results, plans), {"runs": results})


def _run(work: Path, arm: str, job: Job) -> dict[str, Any]:
    (work / arm).mkdir(parents=True, exist_ok=True)
    return run_job(job, work / arm) | {"arm": arm, "learn_steps": job.plan.learn_steps}


def summarize(results: Sequence[dict[str, Any]], plans: Sequence[Plan]) -> list[Figure]:
    """Steps and final success of each arm, and how many times sooner the better of both is there than each RLPD."""
    figures, slowest = [], []
    for task in (plan.task for plan in plans):
        steps: dict[str, list[int]] = {}
        for arm in ARMS:
            runs = [one for one in results if (one["task"], one["arm"]) == (task, arm)]
            if runs:
                steps[arm] = [steps_to(one["curve"], LEVEL) or one["learn_steps"] for one in runs]
                figures += _of_arm(f"{task}.{{}}.{arm}", runs, steps[arm])
        better = min((float(np.median(steps[arm])) for arm in steps if arm not in BASELINES), default=np.nan)
        for arm in (one for one in BASELINES if one in steps and np.isfinite(better)):
            ratio = float(np.median(steps[arm])) / better
            bar = FASTER if arm == "rlpd" else None
            figures.append(
                Figure(f"{task}.times_sooner_than.{arm}", ratio, "median steps over those of the better", bar, 1, None)
            )
            slowest += [ratio] if arm == "rlpd" else []
    if slowest:
        figures.append(Figure("times_sooner_than_rlpd", min(slowest), "worst task", FASTER, len(slowest), None))
    return figures


def _of_arm(name: str, runs: Sequence[dict[str, Any]], steps: Sequence[int]) -> list[Figure]:
    there = sum(steps_to(one["curve"], LEVEL) is not None for one in runs)
    unit = f"environment steps, median and range; {there} of {len(runs)} seeds get there"
    successes, episodes = (sum(one[key] for one in runs) for key in ("successes", "episodes"))
    return [
        Figure(name.format("steps_to_90"), float(np.median(steps)), unit, None, len(runs), (min(steps), max(steps))),
        Figure(
            name.format("success"),
            successes / episodes,
            "share",
            None,
            episodes,
            wilson_interval(successes, episodes),
        ),
    ]


if __name__ == "__main__":
    main()
