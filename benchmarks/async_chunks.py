"""Chunks sampled while the arm moves: success, gaps and jerk in the node graph at 20 Hz, with a slow sampler.

  python benchmarks/async_chunks.py --quick
  python benchmarks/async_chunks.py --seed 0 --out benchmarks/results/async_chunks.json

Scripted demonstrations of Lift at 20 Hz, a score policy of 16 actions a chunk trained on them (with prefixes of up
to 6), then the graph `deploy` in real time over DDS: simulated robot, guard, policy. Sampling is made to take at
least 0 to 200 ms. Jerk is the second difference of the executed translations (velocities, but for the period):
its mean where the three steps span a joint of two chunks over its mean within chunks. What is finished is kept in
--work. Wants a quiet machine: the graph runs in real time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figures import Figure, add_arguments, write_result

from data.store import EpisodeStore
from robot_rl.statistics import wilson_interval

RATE_HZ = 20.0
TASK = ("task=lift", f"task.env.rate_hz={RATE_HZ}", "task.env.max_steps=300", "task.env.translation_m=0.0125")
DEMOS, UPDATES = 100, 8000
POLICY = (
    "policy.inputs.goal=false", "policy.goal_dropout=0", "policy.network.width=256", "policy.max_prefix=6",
    f"algorithm.updates={UPDATES}", "algorithm.learning_rate=0.001",
)  # fmt: skip
DELAYS_S = (0.0, 0.05, 0.1, 0.15, 0.2)
LATE_PERIODS = 2.0  # the guard holds the arm when a command is older
BARS = {"success_lost": -0.05, "jerk": 1.0 / 1.5, "gaps": 1.0}


@dataclass(frozen=True)
class Played:
    """One setting's episodes."""

    successes: int
    episodes: int
    steps: int
    late_steps: int
    held: int
    border_jerk: float
    inner_jerk: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--episodes", type=int, help="of each setting (default: 50, quick: 12)")
    parser.add_argument("--work", type=Path, default=Path("runs/async_chunks"), help="where finished parts are kept")
    args = parser.parse_args()
    episodes = args.episodes or (12 if args.quick else 50)
    work = args.work / f"seed{args.seed}"
    policy = train(work, args.seed)
    delays = (0.0, 0.1) if args.quick else DELAYS_S
    played = {delay: play(work, policy, args.seed, episodes, delay, True) for delay in delays}
    waiting = {delay: play(work, policy, args.seed, episodes, delay, False) for delay in delays if delay in (0.0, 0.1)}
    figures = summarize(played, waiting)
    write_result(args, figures)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def train(work: Path, seed: int) -> Path:
    """Demonstrations and the policy; returns its run's directory."""
    demos, policy = work / "demos", work / "policy"
    if not (demos / "summary.json").exists():
        schedule = (f"schedule.demos={DEMOS}", "schedule.learn_steps=0", "schedule.evaluate_episodes=0")
        _robot_rl("train", *TASK, *schedule, f"seed={seed}", "--run-dir", str(demos), "--overwrite", "--threads", "1")
    if not (policy / "summary.json").exists():
        where = (f"data={demos / 'episodes'}", f"seed={seed}", "--run-dir", str(policy), "--overwrite")
        _robot_rl("imitate", *TASK, *POLICY, *where, "--threads", "1", "--evaluate", "20")
    return policy


def play(work: Path, policy: Path, seed: int, episodes: int, delay_s: float, asynchronous: bool) -> Played:
    """Run the graph, unless it was run before, and look at what it recorded."""
    kind = "asynchronous" if asynchronous else "waiting"
    run_dir = work / f"{kind}_{round(delay_s * 1000)}ms_{episodes}"
    result = run_dir / "actor" / "result.json"
    if not result.exists():
        execution = {"asynchronous": str(asynchronous).lower(), "min_delay_s": delay_s}
        overrides = " ".join(f"policy.execution.{name}={value}" for name, value in execution.items())
        words = ["graph=deploy", "headless=true", f"policy={policy}", f"run_dir={run_dir}", f"episodes={episodes}"]
        os.environ["ROS_DOMAIN_ID"] = str(100 + (os.getpid() + int(time.time())) % 100)
        _robot_rl("up", *words, f"seed={seed}", f"overrides={overrides}", "--quiet")
    return measure(run_dir)


def measure(run_dir: Path) -> Played:
    """Figures of one setting, from the recorded episodes and the notes on their chunks."""
    lines = (run_dir / "actor" / "chunks.jsonl").read_text().splitlines()
    notes = {line["episode_id"]: line for line in map(json.loads, lines)}
    store = EpisodeStore(run_dir / "episodes")
    border: list[float] = []
    inner: list[float] = []
    successes = steps = late = held = count = 0
    for index, info in enumerate(store.infos):
        if not info.usable or info.episode_id not in notes:
            continue
        arrays = store.episode(index).arrays
        note = notes[info.episode_id]
        jerk = np.linalg.norm(np.diff(arrays["executed_action"][:, :3], 2, axis=0), axis=1)  # at steps 1 ... T - 2
        joints = {step for step in note["joints"] if step}
        at_border = np.array([bool({step, step + 1} & joints) for step in range(1, len(jerk) + 1)], bool)
        border += list(jerk[at_border])
        inner += list(jerk[~at_border])
        periods = np.diff(arrays["stamp_s"]) * RATE_HZ
        late += int((periods > LATE_PERIODS).sum())
        successes, steps, held, count = successes + info.success, steps + info.steps, held + note["held"], count + 1
    return Played(successes, count, steps, late, held, float(np.mean(border)), float(np.mean(inner)))


def summarize(played: dict[float, Played], waiting: dict[float, Played]) -> list[Figure]:
    figures = []
    for name, group in (("asynchronous", played), ("waiting", waiting)):
        for delay_s, one in group.items():
            label = f"{name}.{round(delay_s * 1000)}ms"
            interval = wilson_interval(one.successes, one.episodes)
            figures.append(
                Figure(f"{label}.success", one.successes / one.episodes, "share", None, one.episodes, interval)
            )
            moving = 1.0 - (one.late_steps + one.held) / one.steps
            bar = BARS["gaps"] if name == "asynchronous" and delay_s <= 0.1 else None
            figures.append(Figure(f"{label}.steps_in_time", moving, "share", bar, one.steps, None))
            ratio = one.inner_jerk / one.border_jerk
            bar = BARS["jerk"] if name == "asynchronous" and delay_s <= 0.1 else None
            figures.append(Figure(f"{label}.jerk_inside_to_border", ratio, "ratio", bar, one.episodes, None))
    base = played[0.0].successes / played[0.0].episodes
    worst = min(one.successes / one.episodes - base for delay_s, one in played.items() if delay_s <= 0.1)
    figures.append(Figure("success_lost_up_to_100ms", worst, "difference", BARS["success_lost"], len(played), None))
    return figures


def _robot_rl(*words: str) -> None:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "robot_rl.apps.cli", *words], env=environment, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
