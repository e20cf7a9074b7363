"""From cousins to a world that no one has modelled: how many real steps fine-tuning saves, and how many H2O saves.

  python benchmarks/cousins_finetune.py --quick
  python benchmarks/cousins_finetune.py --seed 0 --out benchmarks/results/cousins_finetune.json

The real world is `sim.cousins.hidden`'s of that seed, in a process of its own. It is looked at once; from what
extraction makes of that, and from the identified arm, a family of scenes is made as `robot-rl cousins` does, and RLPD
learns in them with a scripted person. Then, in the hidden world, five arms with the same twenty demonstrations (same
person, same start states), interventions, networks and number of updates a step:

  scratch          RLPD
  finetune         RLPD that begins with the policy and critics that were learned in the cousins
  mixing           RLPD from scratch, half of each batch from the experience in the cousins
  finetune_mixing  both: what docs/cousins.md recommends
  h2o              mixing with H2O's weights

Figures are environment steps after the first 20 learning episodes in a row of which 95 % succeeded without the person,
median over seeds, each seed another world; learning ends there. An arm that is divided by, and never got there, counts
with all its steps, so that the ratio is a bound from above; one that is divided, has no figure then. Runs are processes
of their own with one thread each; finished ones are kept in --work and not repeated. A world of which extraction makes
nothing is counted, and the next seed takes its place.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _finetune_run import ARMS, COUSINS, Job, run_job, steps_to
from _hidden import World, is_impossible, look_at
from figures import Figure, add_arguments, write_result

from robot_rl.statistics import wilson_interval

FAMILIES = ("door", "drawer")
RATIOS = {
    "steps_ratio_to_scratch": ("finetune_mixing", "scratch", 1.0 / 3.0),
    "steps_ratio_to_scratch.policy_alone": ("finetune", "scratch", None),
    "steps_ratio_to_scratch.mixing": ("mixing", "scratch", None),
    "steps_ratio_h2o_to_mixing": ("h2o", "mixing", 1.0 / 1.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, help="number of seeds, and so of worlds (default: 3, quick: 1)")
    parser.add_argument("--family", choices=FAMILIES, default="door", help="of the hidden worlds (door)")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="default: all")
    parser.add_argument("--cousin-steps", type=int, help="of learning in the cousins (default: 12000, quick: 4000)")
    parser.add_argument("--steps", type=int, help="of learning in the hidden world (default: 8000, quick: 3000)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/cousins_finetune"), help="where finished runs are kept")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    count = args.seeds or (1 if args.quick else 3)
    tried = [World(args.family, args.seed + index, args.work / "worlds") for index in range(3 * count)]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        seeds = [world.seed for world in look_at(args.family, tried, count, pool)]
    with ThreadPoolExecutor(args.jobs) as pool:
        before = list(pool.map(run_job, [_in_cousins(args, seed) for seed in seeds]))
        jobs = [_in_reality(args, arm, seed) for arm in args.arms for seed in seeds]
        runs = list(pool.map(run_job, jobs))
    figures = [*ratios(runs), *(one for arm in args.arms for one in of_arm(runs, arm)), *successes(before, COUSINS)]
    impossible = [one.folder.name for one in tried if is_impossible(one)]
    write_result(args, figures, extra={"runs": runs, "cousins": before, "impossible": impossible})


def _in_cousins(args: argparse.Namespace, seed: int) -> Job:
    steps = args.cousin_steps or (4000 if args.quick else 12000)
    scenes, episodes = (8, 20) if args.quick else (64, 50)
    return Job(COUSINS, args.family, seed, steps, episodes, scenes, str(args.work.resolve()))


def _in_reality(args: argparse.Namespace, arm: str, seed: int) -> Job:
    cousins = _in_cousins(args, seed)
    steps = args.steps or (3000 if args.quick else 8000)
    run = "" if arm == "scratch" else str(Path(cousins.work) / cousins.name)
    return replace(cousins, arm=arm, steps=steps, episodes=20 if args.quick else 100, run=run)


def ratios(runs: list[dict[str, Any]]) -> list[Figure]:
    """Medians of steps, divided; not a number where the arm that is divided did not get there in half the worlds."""
    figures = []
    for name, (arm, other, bar) in RATIOS.items():
        above = [np.inf if one is None else one for one in _steps(runs, arm)]
        below = [run["episodes"][-1]["env_steps"] if at is None else at for run, at in _with_steps(runs, other)]
        if above and below:
            value = float(np.median(above) / np.median(below))
            value = value if np.isfinite(value) else float("nan")
            figures.append(Figure(name, value, "x, of medians over seeds", bar, len(above), None, at_most=True))
    return figures


def of_arm(runs: list[dict[str, Any]], arm: str) -> list[Figure]:
    """Steps of those that got there, and success at the end."""
    steps = _steps(runs, arm)
    reached = [float(one) for one in steps if one is not None]
    value = float(np.median(reached)) if reached else float("nan")
    interval = (min(reached), max(reached)) if reached else None
    unit = f"environment steps, median and range of {len(reached)} of {len(steps)} seeds"
    return [Figure(f"{arm}.steps_to_95", value, unit, None, len(reached), interval), *successes(runs, arm)]


def successes(runs: list[dict[str, Any]], arm: str) -> list[Figure]:
    mine = [run for run in runs if run["arm"] == arm]
    done, tested = (sum(run[key] for run in mine) for key in ("successes", "tested"))
    interval = wilson_interval(done, tested)
    return [Figure(f"{arm}.success", done / max(tested, 1), "share, the policy at the end", None, tested, interval)]


def _steps(runs: list[dict[str, Any]], arm: str) -> list[int | None]:
    return [at for _, at in _with_steps(runs, arm)]


def _with_steps(runs: list[dict[str, Any]], arm: str) -> list[tuple[dict[str, Any], int | None]]:
    return [(run, steps_to(run["episodes"])) for run in runs if run["arm"] == arm]


if __name__ == "__main__":
    main()
