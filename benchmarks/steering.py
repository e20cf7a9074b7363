"""Value-guided steering on demonstrations of mixed quality: a diffusion policy with and without a critic's choice.

  python benchmarks/steering.py --quick
  python benchmarks/steering.py --seed 0 --out benchmarks/results/steering.json

An expert, a clumsy and a wrong operator demonstrate (sim/operators.py); the policy imitates all of it, failures
included, and a critic (IQL on the success alone) learns from the same episodes. All arms of a seed are evaluated from
the same start states. Arms:

  base              the policy as it is
  steered           candidates and temperature as `robot-rl steer` finds them on held-out episodes
  k1 ... k100       the best of so many, by the lower bound over the critic's ensemble
  mean_k1 ...       the same by the ensemble's mean: what over-optimisation does
  random            one of 32 at random
  shuffled          the best of 32 by the critic's values of another moment of the data

Finished parts are kept in --work and not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, add_arguments, write_result
from learner_rate import bootstrap

from robot_rl.files import write_file
from robot_rl.statistics import wilson_interval

TASK = "lift"
OPERATORS = ("expert=0.5", "clumsy=0.2", "wrong=0.3")
COUNTS = (1, 5, 10, 30, 50, 100)
CONTROL_COUNT = 32
BASE = (
    "policy=score", "policy.inputs.goal=false", "policy.goal_dropout=0", "policy.network.width=256",
    "algorithm.learning_rate=0.001", "outcomes=all",
)  # fmt: skip
BARS = {"relative_gain": 0.8, "failures_removed": 0.5}
PAIRS = 400


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    demonstrations: int
    updates: int
    episodes: int
    seeds: int


QUICK = Size(demonstrations=100, updates=4000, episodes=25, seeds=1)
FULL = Size(demonstrations=200, updates=8000, episodes=100, seeds=5)


@dataclass(frozen=True)
class Arm:
    """How candidates are chosen in one evaluation; none of it: as found on held-out episodes."""

    name: str
    samples: int | None = None
    pessimism: float = 1.0
    control: str = ""
    """A key of `CONTROLS`."""


ARMS = (
    Arm("base", 1),
    Arm("steered"),
    *(Arm(f"k{count}", count) for count in COUNTS[1:]),
    *(Arm(f"mean_k{count}", count, 0.0) for count in COUNTS[1:]),
    Arm("random", CONTROL_COUNT, control="random"),
    Arm("shuffled", CONTROL_COUNT, control="shuffled"),
)


class RandomCritic:
    """Values that mean nothing."""

    told = False

    def __init__(self, critic: Any, seed: int, states: Any) -> None:
        self.horizon, self._random = critic.horizon, np.random.default_rng(seed)

    def values(self, observation: Any, goal: Any, chunks: Any) -> Any:
        return self._random.random((1, len(chunks)))


class ShuffledCritic:
    """The critic's values of the same candidates at another moment of the data."""

    told = False

    def __init__(self, critic: Any, seed: int, states: Any) -> None:
        self._critic, self.horizon = critic, critic.horizon
        self._states, self._random = states, np.random.default_rng(seed)

    def values(self, observation: Any, goal: Any, chunks: Any) -> Any:
        other = self._states[self._random.integers(len(self._states))]
        return self._critic.values({"state": np.array(other[None])}, goal, chunks)


CONTROLS: dict[str, Callable[[Any, int, Any], Any]] = {"random": RandomCritic, "shuffled": ShuffledCritic}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 5, quick: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--work", type=Path, default=Path("runs/steering"), help="where finished parts are kept")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    size = replace(size, seeds=args.seeds or size.seeds)
    seeds = range(args.seed, args.seed + size.seeds)
    work = args.work / f"{size.demonstrations}_{size.updates}"
    data = work / "data"
    _robot_rl(
        "demonstrate", TASK, "--operators", *OPERATORS, "--episodes", str(size.demonstrations), "--out", str(data),
        "--jobs", str(args.jobs),
    )  # fmt: skip
    with ThreadPoolExecutor(args.jobs) as threads:
        list(threads.map(partial(learn, work, size), seeds))
    cells = [(work, size.episodes, seed, arm) for seed in seeds for arm in ARMS]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(evaluate_cell, cells))
    figures = [*summarize(results), *latency(work, seeds[0])]
    write_result(args, figures, {"runs": results, "size": vars(size), "operators": OPERATORS})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def learn(work: Path, size: Size, seed: int) -> None:
    """Train policy and critic of one seed, and find the setting; what is there already is kept."""
    base, critic = work / f"base_{seed}", work / f"critic_{seed}"
    common = (f"task={TASK}", f"data={work / 'data'}", f"seed={seed}", f"algorithm.updates={size.updates}")
    for command, run_dir, words in (("imitate", base, BASE), ("offline", critic, ())):
        if not (run_dir / "checkpoints" / f"step_{size.updates:09d}").exists():
            _robot_rl(command, *common, *words, "--run-dir", str(run_dir), "--resume", "--threads", "1")
    if not (base / "steering.json").exists():
        _robot_rl("steer", str(base), str(critic), "--seed", str(seed))


def evaluate_cell(cell: tuple[Path, int, int, Arm]) -> dict[str, Any]:
    """Success of one arm and seed."""
    work, episodes, seed, arm = cell
    path = work / f"base_{seed}" / f"{arm.name}_{episodes}.json"
    if not path.exists():
        write_file(path, json.dumps(_evaluate(work, episodes, seed, arm)))
    return json.loads(path.read_text())


def _evaluate(work: Path, episodes: int, seed: int, arm: Arm) -> dict[str, Any]:
    import torch

    from robot_rl.apps.evaluate import evaluate
    from robot_rl.apps.runs import build_run_env

    torch.set_num_threads(1)
    experiment, policy, config = _steered(work, seed, arm)
    env = build_run_env(experiment)
    records = evaluate(env, policy, episodes, seed + 1000)
    env.close()
    successes = [record.steps for record in records if record.success]
    return {
        "arm": arm.name,
        "seed": seed,
        "samples": config.samples,
        "temperature": config.temperature,
        "episodes": len(records),
        "success": [bool(record.success) for record in records],
        "mean_success_steps": float(np.mean(successes)) if successes else None,
    }


def _steered(work: Path, seed: int, arm: Arm) -> tuple[Any, Any, Any]:
    """Experiment, steered policy and its setting."""
    from data.cache import open_cache
    from data.store import EpisodeStore
    from policies.steered import SteeredPolicy
    from robot_rl.apps.runs import find_checkpoint, load_policy, read_run
    from robot_rl.apps.steering import load_critic, read_setting

    base, critic_run = work / f"base_{seed}", work / f"critic_{seed}"
    run_dir, checkpoint = find_checkpoint(base)
    experiment = read_run(run_dir)
    config = read_setting(run_dir, critic_run)
    if arm.samples is not None:
        config = replace(config, samples=arm.samples, temperature=0.0, pessimism=arm.pessimism)
    critic: Any = load_critic(critic_run, experiment.task)
    if arm.control:
        states = open_cache(EpisodeStore(work / "data")).arrays["observation/state"]
        critic = CONTROLS[arm.control](critic, seed, states)
    return experiment, SteeredPolicy(load_policy(experiment, checkpoint), critic, config, seed), config


def summarize(results: Sequence[dict[str, Any]]) -> list[Figure]:
    """Pooled success of each arm, and what steering gained."""
    figures, pooled = [], {}
    for arm in ARMS:
        outcomes = np.concatenate([one["success"] for one in results if one["arm"] == arm.name])
        pooled[arm.name] = float(outcomes.mean())
        interval = wilson_interval(int(outcomes.sum()), len(outcomes))
        figures.append(Figure(f"success.{arm.name}", pooled[arm.name], "share", None, len(outcomes), interval))
    base, steered = pooled["base"], pooled["steered"]
    count = figures[0].n
    gains = {
        "relative_gain": (steered - base) / base if base else float("nan"),
        "failures_removed": (steered - base) / (1.0 - base) if base < 1.0 else float("nan"),
    }
    # either of the two will do
    is_enough = any(value >= BARS[name] for name, value in gains.items())
    for name, value in gains.items():
        bar = None if is_enough and value < BARS[name] else BARS[name]
        figures.append(Figure(name, value, f"{name.replace('_', ' ')} by steering", bar, count, None))
    largest = pooled[f"k{COUNTS[-1]}"] - max(pooled[f"k{one}"] for one in COUNTS[1:-1])
    figures.append(Figure("k100_minus_best_of_fewer", largest, "difference under the lower bound", None, count, None))
    return figures


def latency(work: Path, seed: int) -> list[Figure]:
    """Time of a chunk with 32 candidates and the critic, and of the policy's own, in turns; batch one, one thread."""
    import torch

    torch.set_num_threads(1)
    experiment, steered, _ = _steered(work, seed, Arm("k32", CONTROL_COUNT))
    source = steered.base.source
    base = source.base
    seen = {key: np.zeros((base.history, *one.shape), one.dtype) for key, one in _arrays(experiment).items()}
    noise = np.random.default_rng(0).standard_normal((base.horizon, experiment.task.action_spec.dim), np.float32)
    seconds = {"steered": [], "base": []}
    for _ in range(PAIRS):
        for name, one in (("steered", source), ("base", base)):
            began_s = time.perf_counter()
            one.sample(seen, None, noise, 0, None)
            seconds[name].append(time.perf_counter() - began_s)
    steered_s, base_s = (np.array(seconds[name][PAIRS // 10 :]) for name in ("steered", "base"))  # the first warm up
    overhead = steered_s / base_s - 1.0
    figures = [
        Figure(f"latency_{name}", float(np.median(one)) * 1e3, "ms", None, len(one), None)
        for name, one in (("base", base_s), ("steered_k32", steered_s))
    ]
    value, interval = float(np.median(overhead)), bootstrap(overhead, np.median)
    bar = Figure("latency_overhead_k32", value, "of the policy's own", 0.6, len(overhead), interval, at_most=True)
    return [*figures, bar]


def _arrays(experiment: Any) -> Any:
    return experiment.task.observation_spec.arrays


def _robot_rl(*words: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "robot_rl.apps.cli", *words], env=environment, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
