"""Policies of the recipe in hidden worlds over ROS 2 in real time, beside the same policies in lockstep.

  python benchmarks/cousins_real_time.py --quick
  python benchmarks/cousins_real_time.py --seed 0 --out benchmarks/results/cousins_real_time.json

One hidden world of each family, and in it the policy that benchmarks/cousins.py calls `recipe`: what that has finished
in --work is taken, what it has not is made. Then the graph `deploy` in real time over DDS: a process that is the hidden
world, the guard, the policy. Success is what the world says on `task/state`; an episode that is broken off (a fault of
the guard, a silent node) is a failure. In lockstep the same policy begins from the same start states, there is no
guard, and sampling takes no time.

A step is late when it took more than two periods: the guard holds the arm when a command is older. `guard_limited` is
the number of times a filter of the guard changed a target, over the guard's ticks in episodes; `guard_refused` counts
requests (by reason in the JSON). What is finished is kept in --work. Wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from _graph_ear import GraphEar, deploy
from _hidden import IMPOSSIBLE, World, load_learned, prepare
from async_chunks import LATE_PERIODS
from cousins import BARS, FULL, QUICK, Size, teach
from figures import Figure, add_arguments, write_result

from data.store import EpisodeStore
from hardware.guard_config import GuardConfig
from hardware.nodes.sim_robot_config import SimRobotConfig
from robot_rl.apps.config import positive
from robot_rl.apps.evaluate import evaluate
from robot_rl.apps.runs import checkpoint_version, find_checkpoint
from robot_rl.errors import ConfigError, DataError
from robot_rl.files import write_file
from robot_rl.statistics import wilson_interval
from robot_rl.typed import to_dataclass
from sim.cousins.hidden import FAMILIES, draw_truth

ARM, ROBOT = "recipe", "sim_panda"
EPISODES, QUICK_EPISODES = 50, 8
START_SEED = 1
"""Of the start states, as in benchmarks/cousins.py."""
SUCCESS_BAR, REAL_TIME_BAR = BARS["recipe.success"], 0.99


@dataclass(frozen=True)
class Played:
    """A policy's episodes in real time."""

    success: tuple[bool, ...]
    """Of each episode; one that was broken off is a failure."""
    broken_off: int
    """Episodes that ended because the guard disarmed or somebody was silent."""
    faults: tuple[str, ...]
    """Why the guard was in fault."""
    steps: int
    rate_hz: float
    """Of the control loop, over all steps."""
    late_steps: int
    rejected: dict[str, int]
    """Requests that the guard refused, by reason."""
    clipped: dict[str, int]
    """How often a filter of the guard changed a target, by filter."""
    real_time_factor: float
    """Simulated over real time, mean of the robot's reports."""
    worst_real_time_factor: float
    """The lowest of them; each is of about a second."""


@dataclass(frozen=True)
class Run:
    """One world."""

    lockstep: list[bool]
    """Success of each episode ..."""
    played: Played | None = None
    """None where nothing could be learned, ..."""
    impossible: str = ""
    """... and why not."""

    @property
    def real_time(self) -> Sequence[bool]:
        """Success of each episode."""
        return [False] * len(self.lockstep) if self.played is None else self.played.success[: len(self.lockstep)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument(
        "--episodes", type=positive, help=f"in each world (default: {EPISODES}, quick: {QUICK_EPISODES})"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/cousins_benchmark"), help="that of benchmarks/cousins.py"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    size = QUICK if args.quick else FULL
    episodes = args.episodes or (QUICK_EPISODES if args.quick else EPISODES)
    work = args.work / f"{size.scenes}_{size.demonstrations}_{size.updates}"
    runs = {family: run_world(World(family, 100 * args.seed, work), size, episodes) for family in args.families}
    figures = summarize(runs)
    write_result(args, figures, {"runs": {family: asdict(run) for family, run in runs.items()}})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def run_world(world: World, size: Size, episodes: int) -> Run:
    """The same policy in real time and in lockstep."""
    folder = world.folder / f"{ARM}_0"
    if why := make_policy(world, size, folder):
        return Run([False] * episodes, impossible=why)
    played = play(world, folder, episodes)
    return Run(lockstep(world, folder, episodes), played)


def make_policy(world: World, size: Size, folder: Path) -> str:
    """Learn it, unless it is there, in folder/policy; returns why there can be none, or an empty text."""
    try:
        if checkpoint_version(find_checkpoint(folder / "policy")[1]) == size.updates:
            return ""
    except DataError:
        pass  # nothing has been learned yet
    prepare(world)
    mark = world.folder / IMPOSSIBLE
    if mark.exists():
        return mark.read_text().strip()
    try:
        teach(world, ARM, 0, size, folder)
    except (DataError, ConfigError) as error:
        return str(error)
    return ""


def play(world: World, folder: Path, episodes: int) -> Played:
    """Run the graph, unless it was run before."""
    run_dir = folder / f"real_time_{episodes}"
    result = run_dir / "played.json"
    if not result.exists():
        shutil.rmtree(run_dir, ignore_errors=True)  # the guard's counts of a part of the episodes are lost
        period_s = 1.0 / SimRobotConfig.rate_hz
        options = {"family": world.family, "seed": world.seed, "interpolation_s": period_s}
        robot = {"world": "sim.cousins.hidden:hidden_world", "world_options": options, "cameras": []}
        words = [f"policy={folder / 'policy'}", f"run_dir={run_dir}", f"episodes={episodes}", f"seed={START_SEED}"]
        ear = deploy([*words, f"robot={ROBOT}", f"sim_config={json.dumps(robot)}"])
        rate_hz = draw_truth(world.family, world.seed).task.env.rate_hz
        write_file(result, json.dumps(asdict(measure(EpisodeStore(run_dir / "episodes"), ear, rate_hz))))
    return to_dataclass(Played, json.loads(result.read_text()))


def measure(store: EpisodeStore, ear: GraphEar, rate_hz: float) -> Played:
    """From the recorded episodes and what was heard."""
    stamps_s = [store.episode(index).arrays["stamp_s"] for index in range(len(store))]
    periods_s = np.concatenate([np.diff(one) for one in stamps_s])
    factors = [float(report["real_time_factor"]) for report in ear.robot]
    return Played(
        tuple(info.success and not info.discarded for info in store.infos),
        sum(info.discarded for info in store.infos),
        tuple(ear.faults),
        store.steps,
        1.0 / float(periods_s.mean()),
        int((periods_s * rate_hz > LATE_PERIODS).sum()),
        ear.counts("rejected"),
        ear.counts("clipped"),
        float(np.mean(factors)),
        min(factors),
    )


def lockstep(world: World, folder: Path, episodes: int) -> list[bool]:
    """Success from the same start states, the world in its process."""
    path = folder / f"lockstep_{episodes}.json"
    if not path.exists():
        env = world.env()
        try:
            records = evaluate(env, load_learned(folder), episodes, START_SEED)
        finally:
            env.close()
        write_file(path, json.dumps([one.success for one in records]))
    return json.loads(path.read_text())


def summarize(runs: dict[str, Run]) -> list[Figure]:
    """Success in each world and in all; then how well time was kept, and what the guard did."""
    figures = []
    for family, run in runs.items():
        figures.append(_share(f"{family}.real_time.success", run.real_time))
        figures.append(_share(f"{family}.lockstep.success", run.lockstep))
    figures.append(_share("real_time.success", [one for run in runs.values() for one in run.real_time], SUCCESS_BAR))
    figures.append(_share("lockstep.success", [one for run in runs.values() for one in run.lockstep]))
    for family, run in runs.items():
        figures += [] if run.played is None else _keeping_time(family, run.played)
    return figures


def _share(name: str, outcomes: Sequence[bool], bar: float | None = None) -> Figure:
    count = len(outcomes)
    return Figure(name, sum(outcomes) / count, "share", bar, count, wilson_interval(sum(outcomes), count))


def _keeping_time(family: str, played: Played) -> list[Figure]:
    ticks = played.steps / played.rate_hz / GuardConfig.tick_period_s
    limited, refused = sum(played.clipped.values()), sum(played.rejected.values())
    return [
        Figure(f"{family}.rate", played.rate_hz, "Hz", None, played.steps, None),
        Figure(f"{family}.broken_off", played.broken_off, "episodes", None, len(played.success), None),
        Figure(f"{family}.late_steps", played.late_steps, "steps", None, played.steps, None),
        Figure(f"{family}.guard_limited", limited / ticks, "per tick", None, round(ticks), None),
        Figure(f"{family}.guard_refused", refused, "requests", None, played.steps, None),
        Figure(f"{family}.simulation", played.real_time_factor, "x real time", REAL_TIME_BAR, played.steps, None),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
