"""Offline RL's policy extractions and regularisers side by side, on demonstrations of mixed quality.

  python benchmarks/offline_regularisers.py --quick
  python benchmarks/offline_regularisers.py --seed 0 --out benchmarks/results/offline_regularisers.json

An expert, a clumsy and a wrong operator demonstrate lift (sim/operators.py); every algorithm learns from all of it with
the same critic, policy network, updates and batches; its last checkpoint is evaluated from the same start states.
Arms: cloning, IQL with AWR, IQL with DDPG+BC, TD3+BC, PRDC, A2PR, FamO2O, Uni-O4; at the defaults of conf/algorithm,
none tuned on this task. Finished parts are kept in --work and not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from figures import Figure, add_arguments, write_result

from robot_rl.statistics import wilson_interval

TASK = "lift"
OPERATORS = ("expert=0.5", "clumsy=0.2", "wrong=0.3")
EVALUATION_SEED = 1000


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    demonstrations: int
    updates: int
    episodes: int
    seeds: int


QUICK = Size(demonstrations=60, updates=2000, episodes=20, seeds=1)
FULL = Size(demonstrations=200, updates=20_000, episodes=100, seeds=3)

ARMS: dict[str, tuple[str, ...]] = {
    "cloning": ("imitate", "outcomes=all", "policy=regression", "policy.horizon=8", "policy.inputs.goal=false",
                "policy.execution.execute=8"),
    "iql_awr": ("offline", "algorithm=iql"),
    "iql_ddpg_bc": ("offline", "algorithm=iql", "algorithm.extraction._target_=robot_rl.algorithms.offline.DDPGBC"),
    "td3_bc": ("offline", "algorithm=td3_bc"),
    "prdc": ("offline", "algorithm=prdc"),
    "a2pr": ("offline", "algorithm=a2pr"),
    "famo2o": ("offline", "algorithm=famo2o", "policy=family"),
    "uni_o4": ("offline", "algorithm=uni_o4", "algorithm.cloning_updates={half}"),
}  # fmt: skip
"""Command and overrides of each; `half` is half of the updates."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 3, quick: 1)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="only these")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--demonstrations", type=int, help="episodes to learn from")
    parser.add_argument("--updates", type=int, help="of every arm")
    parser.add_argument("--episodes", type=int, help="of every evaluation")
    parser.add_argument("--work", type=Path, default=Path("runs/offline_regularisers"), help="keeps finished parts")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in vars(FULL) if getattr(args, name)}
    size = replace(QUICK if args.quick else FULL, **given)
    work = args.work / f"{size.demonstrations}_{size.updates}"
    _robot_rl(
        "demonstrate", TASK, "--operators", *OPERATORS, "--episodes", str(size.demonstrations), "--out",
        str(work / "data"), "--jobs", str(args.jobs),
    )  # fmt: skip
    cells = [(work, size, seed, arm) for seed in range(args.seed, args.seed + size.seeds) for arm in args.arms]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(measure, cells))
    write_result(args, summarize(results, args.arms), {"runs": results, "size": vars(size), "operators": OPERATORS})
    return 0


def measure(cell: tuple[Path, Size, int, str]) -> dict[str, Any]:
    """Train one arm with one seed, and evaluate it."""
    work, size, seed, arm = cell
    run_dir = work / f"{arm}_{seed}"
    result = run_dir / f"evaluation_{size.episodes}.json"
    command, *overrides = (word.format(half=size.updates // 2) for word in ARMS[arm])
    if not (run_dir / "checkpoints" / f"step_{size.updates:09d}").exists():
        common = (f"task={TASK}", f"data={work / 'data'}", f"seed={seed}", f"algorithm.updates={size.updates}")
        _robot_rl(command, *common, *overrides, "--run-dir", str(run_dir), "--resume", "--threads", "1")
    if not result.exists():
        chosen = ("--episodes", str(size.episodes), "--seed", str(EVALUATION_SEED), "--out", str(result))
        _robot_rl("evaluate", str(run_dir), *chosen)
    episodes = json.loads(result.read_text())["episodes"]
    return {"arm": arm, "seed": seed, "success": [bool(one["success"]) for one in episodes]}


def summarize(results: Sequence[dict[str, Any]], arms: Sequence[str]) -> list[Figure]:
    """Success of each arm over all its seeds, and of its worst seed."""
    figures = []
    for arm in arms:
        each = [one["success"] for one in results if one["arm"] == arm]
        count, episodes = sum(map(sum, each)), sum(map(len, each))
        interval = wilson_interval(count, episodes)
        figures.append(Figure(f"success.{arm}", count / episodes, "share", None, episodes, interval))
        worst = min(sum(one) / len(one) for one in each)
        figures.append(Figure(f"worst_seed.{arm}", worst, "share", None, len(each), None))
    return figures


def _robot_rl(*words: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "robot_rl.apps.cli", *words], env=environment, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
