"""Human-in-the-loop RL in simulation: success, steps to 95 %, cycle time, and the data duty cycle over ROS 2.

  python benchmarks/hil_rl.py --quick                 # one seed, within 30 minutes on two cores
  python benchmarks/hil_rl.py --seed 0 --out benchmarks/results/hil_rl.json

Every arm of the comparison gets the same demonstrations (same person, same start states), the same networks
and, where it learns by RL, the same number of environment steps and updates. The policy evaluated is the
final one; its start states were never trained on and are common to all arms. Behaviour cloning gets as many
updates as RL had. Runs are processes of their own with one thread each, `--jobs` at a time; finished ones are
kept in --work and not repeated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, add_arguments, write_result
from learning_run import Job, Plan, run_job, steps_to

from robot_rl.statistics import wilson_interval

MODES = ("hil", "no_intervention", "bc")
THIRD = "pick_place_can"
DUTY_MINUTES = 4.0
BARS = {"lift": 0.98, "door": 0.98, "third": 0.90, "cycle_time_ratio": 1.8, "duty_cycle": 0.90}
PLANS = (Plan("lift", 5000, 1000), Plan("door", 8000, 1000), Plan(THIRD, 12000, 2000, ("algorithm=rlpd_long",)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5, quick: 1)")
    parser.add_argument("--tasks", nargs="+", choices=[plan.task for plan in PLANS], help="default: all")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default: all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/hil_rl"), help="where finished runs are kept")
    parser.add_argument("--no-duty-cycle", action="store_true", help="leave out the run over ROS 2")
    args = parser.parse_args()
    jobs = plan_jobs(args)
    args.work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda job: run_job(job, args.work), jobs))
    figures = summarize(results)
    if not args.no_duty_cycle:
        figures.append(duty_cycle(args.seed, args.work))
    write_result(args, figures, extra={"runs": results})


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """Interventions first: those carry the figures with a bar."""
    seeds = range(args.seed, args.seed + (args.seeds or (1 if args.quick else 5)))
    plans = [plan for plan in PLANS if not args.tasks or plan.task in args.tasks]
    modes = args.modes or (("hil", "bc") if args.quick else MODES)
    episodes = 50 if args.quick else 100
    return [Job(plan, mode, seed, episodes) for mode in modes for plan in plans for seed in seeds]


def summarize(results: list[dict[str, Any]]) -> list[Figure]:
    """Pooled success with Wilson intervals, steps to 95 % and the cycle time."""
    figures = []
    for plan in PLANS:
        name = "third" if plan.task == THIRD else plan.task
        for mode in MODES:
            runs = [run for run in results if (run["task"], run["mode"]) == (plan.task, mode)]
            if not runs:
                continue
            successes, episodes = (sum(run[key] for run in runs) for key in ("successes", "episodes"))
            suffix = "" if mode == "hil" else f".{mode}"
            bar = BARS[name] if mode == "hil" else None
            interval = wilson_interval(successes, episodes)
            figures.append(Figure(f"{name}.success{suffix}", successes / episodes, "share", bar, episodes, interval))
            if mode != "bc":
                figures.append(_steps_figure(f"{name}.steps_to_95{suffix}", runs))
    hil = [run for run in results if run["mode"] == "hil"]
    return figures + _cycle_time(hil)


def _steps_figure(name: str, runs: list[dict[str, Any]]) -> Figure:
    steps = [steps_to(run["curve"], 0.95) for run in runs]
    reached = [one for one in steps if one is not None]
    value = float(np.median(reached)) if reached else float("nan")
    interval = (float(min(reached)), float(max(reached))) if reached else None
    return Figure(
        name,
        value,
        f"environment steps, median and range of {len(reached)} of {len(runs)} seeds",
        None,
        len(reached),
        interval,
    )


def _cycle_time(runs: list[dict[str, Any]]) -> list[Figure]:
    """Demonstrations' mean length over the policy's, both of successful episodes; worst task, as the bar asks each."""
    figures = []
    for task in dict.fromkeys(run["task"] for run in runs):
        ratios = [
            float(np.mean(run["demonstration_steps"]) / np.mean(run["success_steps"]))
            for run in runs
            if run["task"] == task and run["success_steps"]
        ]
        if ratios:
            name = "third" if task == THIRD else task
            figures.append(
                Figure(
                    f"{name}.cycle_time_ratio",
                    float(np.mean(ratios)),
                    "x",
                    None,
                    len(ratios),
                    (min(ratios), max(ratios)),
                )
            )
    if figures:
        worst = min(figures, key=lambda figure: figure.value)
        figures.append(replace(worst, name="cycle_time_ratio", bar=BARS["cycle_time_ratio"]))
    return figures


def duty_cycle(seed: int, directory: Path) -> Figure:
    """Share of learning wall clock, resets excluded, in which the robot collects data: the real graph, over DDS."""
    from robot_rl.records import duty_cycle as share
    from robot_rl.records import find_records

    run_dir = directory / f"duty_cycle_{seed}_{int(time.time())}"
    overrides = f"schedule.demos=3 schedule.learn_minutes={DUTY_MINUTES} schedule.evaluate_episodes=1"
    arguments = ["headless=true", f"seed={seed}", f"run_dir={run_dir}", f"overrides={overrides}"]
    command = [sys.executable, "-m", "robot_rl.apps.cli", "up", "graph=demo", "--quiet", *arguments]
    environment = os.environ | {"ROS_DOMAIN_ID": str(100 + os.getpid() % 100)}
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr, timeout=1200)
    records = find_records(run_dir)
    learned = sum(record.phase == "learn" for record in records)
    return Figure(
        "duty_cycle",
        share(records, 10.0),
        "share of wall clock without resets",
        BARS["duty_cycle"],
        learned,
        None,
    )


if __name__ == "__main__":
    main()
