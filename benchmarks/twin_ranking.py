"""How well twins rank policies before the arm does: correlation with hidden worlds, rank violations, real trials saved.

  python benchmarks/twin_ranking.py --quick
  python benchmarks/twin_ranking.py --seed 0 --jobs 2 --out benchmarks/results/twin_ranking.json

Each world (sim/cousins/hidden.py: a bowl and something to put into it, physics that a twin cannot say) is a process of
its own, and is looked at once. On the doors and drawers there (--families) policies hardly differ: with three
demonstrations 15 to 20 of 20 episodes succeed. Twelve policies are trained for each world independently: scenes,
demonstrations, algorithms and seeds of their own, from 10 to 60 demonstrations, in the point twin, in randomised twins,
in cousins. Every policy then runs from the same start states in the point twin, in the identified one, in an ensemble
(geometry and physics drawn; none of its scenes was trained in), and in the hidden world.

  T.pearson_r     mean over worlds of Pearson's r of the policies' success rates in twins T and in the hidden world;
                  0 where a twin gives all policies the same
  T.pearson_low   lower end of Fisher's 95 % interval of that r for one world's number of policies: as if the worlds
                  repeated each other
  T.mmrv          mean over worlds; see robot_rl/correlation.py
  gain_over_point ensemble.pearson_r - point.pearson_r
  ppi.*           a policy's success over all worlds from a quarter of the real trials and the ensemble: trials saved,
                  and how often the interval holds the rate of the other three quarters' trials and these

A world of which extraction makes nothing is counted, and the next seed takes its place. Finished parts are kept in
--work, and the episodes of finished worlds, a table each, in --tables; those are not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _hidden import Lesson, World, is_impossible, learn, load_learned, look_at, make_scenes
from figures import Figure, add_arguments, write_result
from rich.console import Console

from robot_rl.actor import episode_seed
from robot_rl.apps.evaluate import evaluate
from robot_rl.apps.evaluate_twin import Evaluation, TwinEvaluation, find_candidates
from robot_rl.apps.twin_cells import cells_of
from robot_rl.apps.twin_ranking import agreement, paired_with_real
from robot_rl.apps.twins import TwinsConfig, make_twins
from robot_rl.correlation import fisher
from robot_rl.evaluation_table import EPISODES, REAL, EpisodeRow, read_table, write_table
from robot_rl.files import write_file
from robot_rl.prediction_powered import prediction_powered
from robot_rl.typed import to_plain
from sim.cousins.generate import in_processes
from sim.cousins.geometry import Cousins, Geometry, Mixture, RandomisedTwin, Twin
from sim.cousins.hidden import FAMILIES

COMMON = (
    "policy.inputs.goal=false", "policy.execution.execute=4", "algorithm.learning_rate=0.001", "actions=proposed",
)  # fmt: skip
SCORE = ("policy=score", "policy.goal_dropout=0", "policy.network.width=256", *COMMON)
FLOW = ("policy=flow", "policy.goal_dropout=0", "policy.network.width=256", *COMMON)
CLONED = ("policy=regression", "policy.horizon=8", "policy.hidden=[256,256]", *COMMON)
ACT = ("policy=act", "policy.width=96", "policy.heads=4", "policy.encoder_layers=1", *COMMON)
BARS = {"ensemble.pearson_r": 0.85, "ensemble.pearson_low": 0.5, "gain_over_point": 0.3, "ppi.trials_saved": 0.2}
MMRV_BAR = 0.10
KINDS = ("point", "identified", "ensemble")
REAL_SHARE = 0.25


@dataclass(frozen=True)
class Origin:
    """Where a policy's demonstrations come from."""

    geometry: Geometry
    physics: str
    scenes: int


POINT, RANDOMISED = Origin(Twin(), "nominal", 1), Origin(RandomisedTwin(), "prior", 24)
COUSINS = Origin(Mixture((RandomisedTwin(), Cousins(8))), "posterior", 24)


@dataclass(frozen=True)
class Recipe:
    """How a policy comes about."""

    origin: Origin
    demonstrations: int
    words: tuple[str, ...]
    noise: float = 0.15


POLICIES: dict[str, Recipe] = {
    "point_score_60": Recipe(POINT, 60, SCORE),
    "point_score_10": Recipe(POINT, 10, SCORE, 0.1),
    "point_flow_30": Recipe(POINT, 30, FLOW),
    "point_cloned_20": Recipe(POINT, 20, CLONED, 0.05),
    "point_act_40": Recipe(POINT, 40, ACT, 0.1),
    "random_score_60": Recipe(RANDOMISED, 60, SCORE),
    "random_score_40_noisy": Recipe(RANDOMISED, 40, (*SCORE, "actions=executed"), 0.3),
    "random_flow_20": Recipe(RANDOMISED, 20, FLOW, 0.1),
    "random_cloned_60": Recipe(RANDOMISED, 60, CLONED, 0.1),
    "cousins_score_60": Recipe(COUSINS, 60, SCORE),
    "cousins_act_40": Recipe(COUSINS, 40, ACT),
    "cousins_flow_12": Recipe(COUSINS, 12, FLOW),
}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    worlds: int
    """Of each family."""
    episodes: int
    members: int
    updates: int
    share: float
    """Of the demonstrations and scenes that the recipes name."""
    policies: tuple[str, ...] = tuple(POLICIES)


FULL = Size(worlds=6, episodes=50, members=4, updates=1000, share=1.0)
QUICK = Size(worlds=1, episodes=12, members=2, updates=400, share=0.25, policies=tuple(POLICIES)[::2])
TINY = Size(worlds=1, episodes=4, members=2, updates=20, share=0.05, policies=tuple(POLICIES)[:4])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--tiny", action="store_true", help="to see that it runs; its figures mean nothing")
    parser.add_argument("--families", nargs="+", default=["put_in_bowl"], choices=FAMILIES)
    parser.add_argument("--worlds", type=int, help="of each family (default: 6, quick: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--work", type=Path, default=Path("runs/twin_ranking"), help="where finished parts are kept")
    parser.add_argument("--tables", type=Path, help="folder of finished worlds' episodes (default: in --work)")
    args = parser.parse_args()
    size = TINY if args.tiny else QUICK if args.quick else FULL
    size = replace(size, worlds=args.worlds or size.worlds)
    work = args.work / f"{size.episodes}_{size.updates}_{size.share:g}"
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        tried = [World(family, 100 * args.seed + n, work) for family in args.families for n in range(3 * size.worlds)]
        possible = [one for family in args.families for one in look_at(family, tried, size.worlds, pool)]
        tables = [(args.tables or work) / f"{world.folder.name}.parquet" for world in possible]
        for world, table in zip(possible, tables, strict=True):
            if not table.exists():
                run_world(world, size, pool, args.jobs, table)
    rows = [row for table in tables for row in read_table(table)]
    figures, by_world = summarize(rows, [world.folder.name for world in possible], size)
    extra = {
        "worlds": by_world,
        "impossible": [one.folder.name for one in tried if is_impossible(one)],
        "size": to_plain(size),
    }
    write_result(args, figures, extra)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def run_world(world: World, size: Size, pool: Executor, jobs: int, table: Path) -> None:
    """Train all policies of a world, run them there and in its twins, and write their episodes."""
    cells = [(world, name, size) for name in size.policies]
    list(pool.map(train, cells))
    real = [row for rows in pool.map(run_real, cells) for row in rows]
    table.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, [*real, *run_twins(world, size, jobs)])


def train(cell: tuple[World, str, Size]) -> None:
    """One policy of one world."""
    import torch

    torch.set_num_threads(1)
    world, name, size = cell
    folder, recipe = world.folder / name, POLICIES[name]
    done = folder / "learned.json"
    if done.exists():
        return
    number = list(POLICIES).index(name)
    origin, seed = recipe.origin, 1 + 100 * world.seed + number
    scenes = max(round(origin.scenes * size.share), 1)
    task = make_scenes(world, origin.geometry, origin.physics, scenes, seed, folder / "scenes")
    demonstrations = max(round(recipe.demonstrations * size.share), 3)
    lesson = Lesson(demonstrations, size.updates, seed, recipe.noise, recipe.words)
    write_file(done, json.dumps({"demonstrations_succeed": learn(task, lesson, folder)}))


def has_learned(world: World, name: str) -> bool:
    """Whether there was a demonstration to learn from."""
    return json.loads((world.folder / name / "learned.json").read_text())["demonstrations_succeed"] > 0.0


def run_real(cell: tuple[World, str, Size]) -> list[EpisodeRow]:
    """A policy in its hidden world, from the start states of the twins."""
    world, name, size = cell
    path = world.folder / name / f"real_{size.episodes}.parquet"
    if not has_learned(world, name):
        return []
    if not path.exists():
        env = world.env()
        try:
            records = evaluate(env, load_learned(world.folder / name), size.episodes, 0)
        finally:
            env.close()
        digest, nan = find_candidates([world.folder / name / "policy"])[0].digest, float("nan")
        rows = [
            EpisodeRow(
                name, digest, REAL, REAL, world.folder.name, "", start, episode_seed(0, "evaluate", start),
                one.success, one.steps, float(one.success), 0, 0, nan, nan, nan, nan, nan, nan, "",
            )
            for start, one in enumerate(records)
        ]  # fmt: skip
        write_table(path, rows)
    return read_table(path)


def run_twins(world: World, size: Size, jobs: int) -> list[EpisodeRow]:
    """All policies of a world in its twins; nobody guards the hidden worlds, so nobody guards these."""
    config = TwinEvaluation(TwinsConfig(KINDS, size.members), episodes=size.episodes, guarded=False)
    scenes = make_twins(world.folder, config.twins)
    names = [name for name in size.policies if has_learned(world, name)]
    runs = [find_candidates([world.folder / name / "policy"])[0] for name in names]
    candidates = [replace(one, name=name) for one, name in zip(runs, names, strict=True)]
    cells = cells_of(candidates, scenes, config.episodes, config.together)
    evaluation = Evaluation(config, candidates, scenes, cells, world.folder / "evaluation")
    console = Console(file=sys.stderr)
    evaluation.begin(console)
    try:
        evaluation.run(in_processes(jobs), console)
    finally:
        evaluation.write()
    return read_table(evaluation.out / EPISODES)


def summarize(rows: Sequence[EpisodeRow], worlds: Sequence[str], size: Size) -> tuple[list[Figure], dict[str, Any]]:
    """Agreement of every kind of twin with the hidden worlds, and what the ensemble saves."""
    by_world: dict[str, Any] = {}
    for world in worlds:
        here = [row for row in rows if row.scene == world]
        rates = {kind: _rates(here, kind, size.policies) for kind in (*KINDS, REAL)}
        by_world[world] = {"success": {kind: dict(zip(size.policies, rates[kind], strict=True)) for kind in rates}}
        by_world[world] |= {kind: agreement(rates[REAL], rates[kind]) for kind in KINDS}
    figures: list[Figure] = []
    means: dict[str, float] = {}
    count = len(size.policies) * len(worlds)
    for kind in KINDS:
        each = [by_world[world][kind] for world in worlds]
        means[kind] = float(np.mean([one["pearson"] or 0.0 for one in each]))
        _, low, high = fisher(means[kind], len(size.policies))
        figures += [
            _figure(f"{kind}.pearson_r", means[kind], "mean over worlds", count, (low, high)),
            _figure(f"{kind}.pearson_low", low, "r", count),
            _figure(f"{kind}.spearman", float(np.mean([one["spearman"] or 0.0 for one in each])), "rho", count),
            _mmrv(f"{kind}.mmrv", [one["mmrv"] for one in each], count, kind),
        ]
    figures.append(_figure("gain_over_point", means["ensemble"] - means["point"], "r", count))
    return figures + _powered(rows, worlds, size), by_world


def _powered(rows: Sequence[EpisodeRow], worlds: Sequence[str], size: Size) -> list[Figure]:
    ensemble = [row for row in rows if row.kind == "ensemble"]
    saved, covered = [], []
    for name in size.policies:
        real = [row for row in rows if row.kind == REAL and row.policy == name]
        some = [row for row in real if row.start < max(round(REAL_SHARE * size.episodes), 1)]
        y, paired, alone = paired_with_real(ensemble, some, name)
        if not len(y) or not len(alone):
            continue
        estimate = prediction_powered(y, paired, alone)
        saved.append(estimate.trials_saved)
        covered.append(estimate.rate.low <= np.mean([row.success for row in real]) <= estimate.rate.high)
    return [
        _figure("ppi.trials_saved", float(np.mean(saved)), "share, mean over policies", len(saved)),
        _figure("ppi.covered", float(np.mean(covered)), "share of policies", len(covered)),
    ]


def _rates(rows: Sequence[EpisodeRow], kind: str, policies: Sequence[str]) -> list[float]:
    """Success of each policy; 0 of one that learned nothing."""
    own = [[row.success for row in rows if row.policy == name and row.kind == kind] for name in policies]
    return [float(np.mean(one)) if one else 0.0 for one in own]


def _figure(name: str, value: float, unit: str, count: int, interval: tuple[float, float] | None = None) -> Figure:
    return Figure(name, value, unit, BARS.get(name), count, interval)


def _mmrv(name: str, values: Sequence[float], count: int, kind: str) -> Figure:
    bar = MMRV_BAR if kind == "ensemble" else None
    interval = (min(values), max(values))
    return Figure(name, float(np.mean(values)), "success, range over worlds", bar, count, interval, at_most=True)


if __name__ == "__main__":
    raise SystemExit(main())
