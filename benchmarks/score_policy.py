"""Score policies on OGBench's play: BESO in three steps against cloning on the same data, and how long a chunk takes.

  python benchmarks/score_policy.py --quick --lerobot-python runs/peer/bin/python      # cube-single, one seed
  python benchmarks/score_policy.py --seed 0 --jobs 2 --out benchmarks/results/score_policy.json
  python benchmarks/score_policy.py --tasks scene --arms beso gcbc --out /tmp/scene.json       # a part of it
  python benchmarks/score_policy.py --play-episodes 1000 --updates 300000 --width 512 --seeds 5 --device cuda

Play by OGBench's own oracles, gathered here (300 episodes of 1001 steps a task; the same for every arm and seed).
Every policy is trained for a fixed number of updates on the same windows and its last weights are evaluated at the
five goals, from start states that are the same for all arms. Goals in training lie at most `GOAL_STEPS` ahead and
speak of what OGBench judges (and of what its own oracle representation holds): places, not how the arm stands. Where
there are several things, beso and gcbc are told the goal of one after the other, in the order `ONE_BY_ONE`: in scene,
buttons lock drawer and window, and so come last. Arms:

  beso     policy=score, three steps, at `TEMPERATURE`
  beso50   the same weights in fifty steps, as cold
  gcbc     OGBench's GCBC on the same goals, inputs and statistics as beso
  gcbc_ogbench   OGBench's GCBC with its goals (anywhere ahead), inputs and one action at a time; for calibration

Play hesitates and errs, and at a temperature of 1 a policy does so as often. TEMPERATURE was chosen by
`benchmarks/score_sweeps.py` on cube-single with start states of another seed (1000) than those of this benchmark, what
is special to cube-double and scene with networks of another seed (100), too.
Finished runs are kept in --work and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chunk_latency import measure
from figures import Figure, add_arguments, write_result

from robot_rl.statistics import wilson_interval

TASKS = ("cube-single", "cube-double", "scene")
BARS = {"cube-single": 0.53, "cube-double": 0.36, "scene": 0.42}
PUBLISHED_GCBC = {"cube-single": 0.06, "cube-double": 0.01, "scene": 0.05}  # 2410.20092, table 2
TEMPERATURE = 0.25
COLD = f"policy.temperature={TEMPERATURE}"
SAMPLING = {"beso": (COLD,), "beso50": (COLD, "policy.steps=50")}
"""Arms of the same weights -> overrides of their evaluation."""
GOAL_STEPS = {"cube-single": 120, "cube-double": 100, "scene": 100, "puzzle-3x3": 180}  # play's tasks take 30 to 90
ONE_BY_ONE = {"cube-double": ("block_*",), "scene": ("block_*", "drawer", "window", "button_*")}
ACTING = {"scene": ("policy.inputs.goal_reached=0.5",)}
"""Task -> overrides of the evaluation of beso and gcbc."""
UPDATES_FACTOR = {"scene": 2}
"""Task -> so many times the updates."""
BLOCKS = "block_*.[xyz]"
GOAL_ELEMENTS = {
    "cube-single": (BLOCKS,),
    "cube-double": (BLOCKS,),
    "scene": (BLOCKS, "button_*.on", "button_*.off", "drawer.pos", "window.pos"),
    "puzzle-3x3": ("button_*.on", "button_*.off"),
}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    play_episodes: int
    updates: int
    episodes: int
    seeds: int
    width: int | None = None
    """Of beso's network."""


QUICK = Size(play_episodes=100, updates=8000, episodes=4, seeds=1)
FULL = Size(play_episodes=300, updates=20_000, episodes=20, seeds=3, width=256)
ARMS = ("beso", "gcbc", "gcbc_ogbench")


def elements(task: str, of: str = "policy") -> tuple[str, ...]:
    """Overrides of what the `policy` or `critic` sees of goals, and from where it sees things."""
    origin = "tcp" if BLOCKS in GOAL_ELEMENTS[task] else ""
    return f"{of}.inputs.goal_elements={_words(GOAL_ELEMENTS[task])}", f"{of}.inputs.offsets_from={origin}"


def arms(task: str, width: int | None) -> dict[str, tuple[str, ...]]:
    """Overrides of each arm that is trained."""
    several = ONE_BY_ONE.get(task, ())
    sees = (
        *elements(task),
        f"goals.max_steps={GOAL_STEPS[task]}",
        f"policy.inputs.goal_noise={0.05 if BLOCKS in GOAL_ELEMENTS[task] else 0.0}",
        f"policy.inputs.goal_offsets={bool(several)}",
        f"policy.inputs.goal_one_by_one={_words(several)}",
    )
    cloning = ("policy=gcbc", "algorithm.ema_decay=0", "algorithm.final_rate=1", "algorithm.warmup_updates=0")
    size = () if width is None else (f"policy.network.width={width}",)
    return {
        "beso": ("policy=score", *sees, "algorithm.learning_rate=0.001", *size),
        "gcbc": (*cloning, *sees, "policy.normalize=true", "policy.inputs.goal_difference=true"),
        "gcbc_ogbench": cloning,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    add_run_arguments(parser, TASKS, ARMS)
    parser.add_argument("--play-episodes", type=int, help=f"of each task (default: {FULL.play_episodes}, quick: 100)")
    parser.add_argument("--width", type=int, help=f"of beso (default: {FULL.width}, quick: as policy=score)")
    parser.add_argument("--no-latency", action="store_true", help="leave out what chunk_latency.py measures alone")
    parser.add_argument("--lerobot-python", help="interpreter of an environment with LeRobot 0.4.4, for the latency")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    size = replace(size, play_episodes=args.play_episodes or size.play_episodes, width=args.width or size.width)
    tasks = args.tasks or (("cube-single",) if args.quick else TASKS)
    seeds = range(args.seed, args.seed + (args.seeds or size.seeds))
    updates = args.updates or size.updates
    jobs = [
        Job(task, arm, overrides, seed, updates * UPDATES_FACTOR.get(task, 1), size, args.device, args.work)
        for task in tasks
        for arm, overrides in arms(task, size.width).items()
        for seed in seeds
        if arm in args.arms
    ]
    for job in {job.data: job for job in jobs}.values():
        gather(job, args.jobs)
    with ThreadPoolExecutor(args.jobs) as threads:
        results = [one for group in threads.map(run_job, jobs) for one in group]
    figures = [figure for task in tasks for figure in summarize(task, results)]
    if not args.no_latency:
        figures += measure(args.seed, args.lerobot_python, 1, turns=10 if args.quick else 30)
    extra = {"runs": results, "updates": updates, "play_episodes": size.play_episodes, "width": size.width}
    write_result(args, figures, extra)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def add_run_arguments(parser: argparse.ArgumentParser, tasks: Collection[str], arms: Sequence[str]) -> None:
    """Which runs, how long, and where."""
    parser.add_argument("--seeds", type=int, help=f"number of seeds (default: {FULL.seeds}, quick: 1)")
    parser.add_argument("--tasks", nargs="+", choices=tasks, help="default: all (quick: cube-single)")
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms, help="default: all")
    parser.add_argument("--updates", type=int, help=f"of each policy (default: {FULL.updates}, quick: {QUICK.updates})")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/score_policy"), help="where finished runs are kept")


@dataclass(frozen=True)
class Job:
    """One policy to train and evaluate."""

    task: str
    arm: str
    overrides: tuple[str, ...]
    seed: int
    updates: int
    size: Size
    device: str
    work: Path

    @property
    def data(self) -> Path:
        return self.work / "play" / f"{self.task}_{self.size.play_episodes}"

    @property
    def run_dir(self) -> Path:
        width = self.size.width
        arm = f"{self.arm}_width{width}" if width and self.arm == "beso" else self.arm
        return self.work / f"{self.task}_{self.size.play_episodes}_{arm}_{self.updates}_seed{self.seed}"


def gather(job: Job, processes: int) -> None:
    """The play that it learns from, unless it is there already."""
    words = ("--episodes", str(job.size.play_episodes), "--out", str(job.data), "--jobs", str(processes))
    robot_rl("play", job.task, *words)


def train(job: Job, command: str = "imitate") -> None:
    """Train, or go on, or do nothing where that is done."""
    words = [f"task={job.task}", f"data={job.data}", f"seed={job.seed}", *job.overrides]
    words += [f"algorithm.updates={job.updates}", f"algorithm.device={job.device}"]
    if not (job.run_dir / "checkpoints" / f"step_{job.updates:09d}").exists():
        robot_rl(command, *words, "--run-dir", str(job.run_dir), "--resume", "--threads", "1")


def run_job(job: Job) -> list[dict[str, Any]]:
    """Train and evaluate one policy; BESO in all manners of `SAMPLING`."""
    train(job)
    sampling = SAMPLING if job.arm == "beso" else {job.arm: ()}
    acting = () if job.arm == "gcbc_ogbench" else ACTING.get(job.task, ())
    return [evaluate(job, arm, (*overrides, *acting)) for arm, overrides in sampling.items()]


def evaluate(job: Job, arm: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Success of the last weights (or what was found before), from start states that are the same for all arms."""
    out = job.run_dir / f"{arm}_{job.size.episodes}.json"
    if not out.exists():
        words = [str(job.run_dir), "--episodes", str(job.size.episodes), "--seed", str(job.seed), "--out", str(out)]
        robot_rl("evaluate", *words, *overrides)
    content = json.loads(out.read_text())
    episodes = content.pop("episodes")
    successes = sum(one["success"] for one in episodes)
    return {"task": job.task, "arm": arm, "seed": job.seed, "n": len(episodes), "successes": successes, **content}


def pool(task: str, results: Sequence[dict[str, Any]], bars: Mapping[str, float], plain: str = "") -> dict[str, Figure]:
    """Each arm's success over all seeds, with the `bars` of arms that have one; arm `plain` is not named."""
    pooled: dict[str, Figure] = {}
    for arm in dict.fromkeys(one["arm"] for one in results if one["task"] == task):
        runs = [one for one in results if (one["task"], one["arm"]) == (task, arm)]
        successes, episodes = (sum(one[key] for one in runs) for key in ("successes", "n"))
        name = f"{task}.success" + ("" if arm == plain else f".{arm}")
        interval = wilson_interval(successes, episodes)
        pooled[arm] = Figure(name, successes / episodes, "share", bars.get(arm), episodes, interval)
    return pooled


def summarize(task: str, results: Sequence[dict[str, Any]]) -> list[Figure]:
    """Pooled success of each arm, and what is asked of their differences."""
    pooled = pool(task, results, {"beso": BARS[task]}, plain="beso")
    figures = list(pooled.values())
    beso, cloning, published = (pooled.get(arm) for arm in ARMS)
    if beso and cloning and beso.interval and cloning.interval:
        apart = beso.interval[0] - cloning.interval[1]
        figures.append(Figure(f"{task}.beso_above_gcbc", apart, "between the 95 % intervals", 0.0, 1, None))
    if beso:
        lost = beso.value - pooled["beso50"].value
        figures.append(Figure(f"{task}.three_steps_minus_fifty", lost, "difference", -0.02, beso.n, None))
    if published:
        off = published.value - PUBLISHED_GCBC[task]
        figures.append(Figure(f"{task}.gcbc_minus_published", off, "difference", None, published.n, None))
    return figures


def _words(names: Sequence[str]) -> str:
    return "[" + ",".join(f"'{one}'" for one in names) + "]"


def robot_rl(*words: str) -> None:
    """One command of `robot-rl`, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "robot_rl.apps.cli", *words], env=environment, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
