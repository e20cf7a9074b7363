"""Success of a score policy over the strength of guidance, the steps and the temperature, as figures and plots.

  python benchmarks/score_sweeps.py runs/score_policy/cube-single_300_beso_width256_20000_seed0 --quick
  python benchmarks/score_sweeps.py RUN [RUN ...] --out benchmarks/results/score_sweeps.json --plots docs/images

Every RUN is a directory of `robot-rl imitate`; runs of one task are pooled. The weights are the same everywhere,
and so are start states and goals.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from figures import Figure, add_arguments, write_result

from robot_rl.statistics import wilson_interval

SWEEPS: dict[str, tuple[float, ...]] = {
    "guidance": (0, 1, 1.5, 2, 3),
    "steps": (1, 2, 3, 5, 10, 50),
    "temperature": (0, 0.25, 0.5, 0.75, 1),
}
QUICK: dict[str, tuple[float, ...]] = {"guidance": (0, 1, 2), "steps": (1, 3, 10), "temperature": (0, 0.5, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--episodes", type=int, help="of each goal (default: 20, quick: 4)")
    parser.add_argument("--plots", type=Path, help="write <sweep>.png into this folder")
    args = parser.parse_args()
    episodes = args.episodes or (4 if args.quick else 20)
    counts: dict[tuple[str, str, float], list[int]] = defaultdict(lambda: [0, 0])
    for run_dir in args.runs:
        task = json.loads((run_dir / "experiment.json").read_text())["task"]["name"]
        for sweep, values in (QUICK if args.quick else SWEEPS).items():
            for value in values:
                successes, total = evaluate(run_dir, f"policy.{sweep}={value:g}", episodes, args.seed)
                counts[task, sweep, value][0] += successes
                counts[task, sweep, value][1] += total
    figures = [
        Figure(f"{task}.success.{sweep}_{value:g}", hits / total, "share", None, total, wilson_interval(hits, total))
        for (task, sweep, value), (hits, total) in counts.items()
    ]
    write_result(args, figures, {"runs": [one.name for one in args.runs]})
    if args.plots:
        for sweep in SWEEPS:
            plot(sweep, [key for key in counts if key[1] == sweep], dict(zip(counts, figures, strict=True)), args.plots)
    return 0


def evaluate(run_dir: Path, override: str, episodes: int, seed: int) -> tuple[int, int]:
    """Successes and episodes; kept beside the run."""
    out = run_dir / f"sweep_{override}_{episodes}_seed{seed}.json"
    if not out.exists():
        words = [
            "evaluate",
            str(run_dir),
            "--episodes",
            str(episodes),
            "--seed",
            str(seed),
            "--out",
            str(out),
            override,
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "robot_rl.apps.cli", *words]
        subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    records = json.loads(out.read_text())["episodes"]
    return sum(one["success"] for one in records), len(records)


def plot(
    sweep: str, keys: Sequence[tuple[str, str, float]], figures: dict[tuple[str, str, float], Figure], folder: Path
) -> None:
    """One line per task, with 95 % intervals."""
    drawing, axis = plt.subplots(figsize=(5.5, 3.4), constrained_layout=True)
    for task in dict.fromkeys(key[0] for key in keys):
        points = [(key[2], figures[key]) for key in keys if key[0] == task]
        places, values = [place for place, _ in points], [one.value for _, one in points]
        bounds = [one.interval or (one.value, one.value) for _, one in points]
        errors = [[v - low for v, (low, _) in zip(values, bounds, strict=True)],
                  [high - v for v, (_, high) in zip(values, bounds, strict=True)]]  # fmt: skip
        axis.errorbar(places, values, yerr=errors, marker="o", capsize=3, label=task)
    if sweep == "steps":
        axis.set_xscale("log")
        axis.set_xticks(SWEEPS[sweep], [f"{value:g}" for value in SWEEPS[sweep]])
    axis.set(xlabel=f"policy.{sweep}", ylabel="success", ylim=(-0.02, 1.02))
    axis.grid(alpha=0.3)
    axis.legend()
    folder.mkdir(parents=True, exist_ok=True)
    drawing.savefig(folder / f"sweep_{sweep}.png", dpi=110)
    plt.close(drawing)


if __name__ == "__main__":
    raise SystemExit(main())
