"""Lift from two small cameras and proprioception, without the state of the object: success, curve, where time goes.

  python benchmarks/lift_pixels.py --quick            # one seed
  python benchmarks/lift_pixels.py --seed 10 --out benchmarks/results/lift_pixels.json

The same harness, person and algorithm as `hil_rl.py`, in one process and thread per seed; 100 evaluation episodes of
the final policy from start states of their own.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, add_arguments, write_result
from learning_run import PROBE_EPISODES, Job, Plan, run_job, steps_to

from robot_rl.statistics import wilson_interval

PLAN = Plan(
    "lift",
    6000,
    1000,
    (
        "policy=gaussian_pixels",
        "task.env.objects=[]",
        "task.env.cameras=[front,wrist]",
        "learner.batch_size=128",
        "learner.utd=1.0",
    ),
)
BAR = 0.90


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 3, quick: 1)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/lift_pixels"), help="where finished runs are kept")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    count = args.seeds or (1 if args.quick else 3)
    jobs = [Job(PLAN, "hil", args.seed + index, 50 if args.quick else 100) for index in range(count)]
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = list(pool.map(lambda job: run_job(job, args.work), jobs))
    successes, episodes = (sum(run[key] for run in runs) for key in ("successes", "episodes"))
    steps = [run["env_steps"] if (at := steps_to(run["curve"], BAR)) is None else at for run in runs]
    minutes = [run["seconds"]["all"] / 60 for run in runs]
    seconds = sum((Counter(run["seconds"]) for run in runs), Counter())
    whole = seconds.pop("all")
    figures = [
        Figure("pixels.success", successes / episodes, "share", BAR, episodes, wilson_interval(successes, episodes)),
        Figure("pixels.steps_to_90", *_median(steps, "environment steps, median and range; the end if never")),
        Figure("pixels.wall_clock", *_median(minutes, "min a seed, one core, evaluation included; median and range")),
        *(
            Figure(f"pixels.time.{name.replace(' ', '_')}", value / whole, "share of the wall clock", None, count, None)
            for name, value in sorted(seconds.items(), key=lambda item: -item[1])
        ),
    ]
    write_result(args, figures, extra={"runs": runs})
    if args.out:
        plot(runs, {name: value / whole for name, value in seconds.items()}, args.out.with_suffix(".png"))


def plot(runs: Sequence[dict[str, Any]], shares: dict[str, float], path: Path) -> None:
    """Success over environment steps, a line per seed, and where the time goes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), constrained_layout=True)
    for run in runs:
        steps, success = ([point[key] for point in run["curve"]] for key in ("env_steps", "success"))
        label = f"seed {run['seed']}: {run['success_rate']:.2f} of {run['episodes']} at the end"
        left.plot(steps, success, "o-", label=label)
    left.axhline(BAR, color="grey", linestyle=":")
    left.set(xlabel="environment steps", ylabel=f"success of {PROBE_EPISODES} episodes", ylim=(-0.02, 1.02))
    left.set_title("Lift from two 64x64 images")
    left.legend()
    names = sorted(shares, key=lambda name: shares[name])
    right.barh(names, [shares[name] for name in names])
    right.set(xlabel="share of the wall clock", title="Where the time goes")
    figure.savefig(path, dpi=110)


def _median(values: Sequence[float], unit: str) -> tuple[float, str, None, int, tuple[float, float]]:
    return float(np.median(values)), unit, None, len(values), (float(min(values)), float(max(values)))


if __name__ == "__main__":
    main()
