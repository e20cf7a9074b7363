"""Zero-shot success in hidden worlds, of policies trained in what one look at them gives.

  python benchmarks/cousins.py --quick
  python benchmarks/cousins.py --seed 0 --out benchmarks/results/cousins.json

Each world (sim/cousins/hidden.py: doors, drawers, put-in-bowl) is a process of its own. It is looked at once, by its
noisy depth camera; the scan is extracted; every arm of the comparison makes scenes of it, the same number of
demonstrations by the same scripted expert, the same policy with the same updates; the last checkpoint acts in the
hidden world from the same start states. Where extraction makes nothing of a world, all arms but the oracle fail in it.

  point_twin         the fitted twin, nominal physics
  identified_twin    its arm identified as `robot-rl twin identify` does
  physics_twin       the twin, physics drawn from the prior
  randomised_twin    geometry and physics drawn
  cousins_K          the K nearest assets; cousins_K_physics: physics drawn as well
  all_assets         any asset that has what the task needs, physics drawn
  recipe             randomised twins and 8 cousins in turn, physics drawn, arm identified: what `robot-rl cousins` does
  oracle             the hidden world's own geometry, nominal physics

Finished parts are kept in --work and not repeated. The recipe was chosen on worlds of seeds from 1000 on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _hidden import IMPOSSIBLE, Lesson, World, learn, load_learned, make_scenes, prepare
from figures import Figure, add_arguments, write_result
from learner_rate import bootstrap

from robot_rl.errors import ConfigError, DataError
from robot_rl.files import write_file
from robot_rl.statistics import wilson_interval
from robot_rl.typed import to_plain
from sim.cousins.compose import compose
from sim.cousins.folder import write_folder
from sim.cousins.geometry import Cousins, Geometry, Mixture, RandomisedTwin, Twin
from sim.cousins.hidden import FAMILIES, draw_truth
from sim.cousins.scene_task import SceneTask

POLICY = (
    "policy=score", "policy.inputs.goal=false", "policy.goal_dropout=0", "policy.network.width=256",
    "policy.execution.execute=4", "algorithm.learning_rate=0.001", "actions=proposed",
)  # fmt: skip
NOISE = 0.15


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    worlds: int
    """Of each family."""
    scenes: int
    demonstrations: int
    updates: int
    episodes: int
    """Of each arm and training seed, ..."""
    fewer: int
    """... and of the arms that are trained once."""
    seeds: Mapping[str, int]
    """Training seeds of each arm; one where nothing is said."""
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """One way to make scenes."""

    geometry: Geometry
    physics: str = "nominal"
    """nominal | identified | prior | posterior: see `_hidden.PHYSICS`."""
    scenes: int | None = None
    """How many, if not as many as the others."""


ARMS: dict[str, Arm] = {
    "point_twin": Arm(Twin(), "nominal", 1),
    "identified_twin": Arm(Twin(), "identified", 1),
    "physics_twin": Arm(Twin(), "prior"),
    "randomised_twin": Arm(RandomisedTwin(), "prior"),
    **{f"cousins_{k}": Arm(Cousins(k), "nominal") for k in (2, 4, 8, 16)},
    **{f"cousins_{k}_physics": Arm(Cousins(k), "prior") for k in (2, 4, 8, 16)},
    "all_assets": Arm(Cousins(1000), "prior"),
    "recipe": Arm(Mixture((RandomisedTwin(), Cousins(8))), "posterior"),
}
ORACLE = "oracle"
FULL = Size(
    worlds=2, scenes=32, demonstrations=100, updates=2500, episodes=100, fewer=50,
    seeds={"point_twin": 3, "randomised_twin": 3, "recipe": 3}, arms=(*ARMS, ORACLE),
)  # fmt: skip
QUICK = Size(
    worlds=1, scenes=32, demonstrations=80, updates=2000, episodes=30, fewer=30,
    seeds={}, arms=("point_twin", "randomised_twin", "recipe"),
)  # fmt: skip
BARS = {"recipe.success": 0.9, "gain_over_point_twin": 0.4}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--worlds", type=int, help="of each family (default: 2, quick: 1)")
    parser.add_argument("--arms", nargs="+", choices=(*ARMS, ORACLE), help="default: all, quick: three")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/cousins_benchmark"), help="where finished parts are kept"
    )
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    size = replace(size, worlds=args.worlds or size.worlds, arms=tuple(args.arms or size.arms))
    work = args.work / f"{size.scenes}_{size.demonstrations}_{size.updates}"
    seeds = [100 * args.seed + number for number in range(size.worlds)]
    worlds = [World(family, seed, work) for family in args.families for seed in seeds]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(prepare, worlds))
        cells = [
            (world, arm, seed, size) for arm in size.arms for seed in range(size.seeds.get(arm, 1)) for world in worlds
        ]
        results = list(pool.map(run_cell, cells))
    extra = {"runs": results, "worlds": [f"{one.family}_{one.seed}" for one in worlds], "size": to_plain(size)}
    figures = summarize(results, size)
    write_result(args, figures, extra)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def run_cell(cell: tuple[World, str, int, Size]) -> dict[str, Any]:
    """Success of one arm and training seed in one world."""
    world, arm, seed, size = cell
    size = size if arm in size.seeds else replace(size, episodes=size.fewer)
    folder = world.folder / f"{arm}_{seed}"
    path = folder / f"success_{size.episodes}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(_run_cell(world, arm, seed, size, folder)))
    return json.loads(path.read_text())


def _run_cell(world: World, arm: str, seed: int, size: Size, folder: Path) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    result: dict[str, Any] = {"world": f"{world.family}_{world.seed}", "arm": arm, "seed": seed}
    impossible = world.folder / IMPOSSIBLE
    if impossible.exists() and arm != ORACLE:
        return result | {"failure": impossible.read_text().strip(), "success": [False] * size.episodes}
    try:
        demonstrated = teach(world, arm, seed, size, folder)
        policy = load_learned(folder)
    except (DataError, ConfigError) as error:
        return result | {"failure": str(error), "success": [False] * size.episodes}
    from robot_rl.apps.evaluate import evaluate

    env = world.env()
    records = evaluate(env, policy, size.episodes, 1)
    env.close()
    steps = [one.steps for one in records if one.success]
    return result | {
        "demonstrations_succeed": demonstrated,
        "success": [bool(one.success) for one in records],
        "mean_success_steps": float(np.mean(steps)) if steps else None,
    }


def teach(world: World, arm: str, seed: int, size: Size, folder: Path) -> float:
    """Make the arm's scenes and learn in them, in folder/policy; the share of demonstrations that succeed."""
    if arm == ORACLE:
        task = _oracle(world, seed, folder / "scenes")
    else:
        how = ARMS[arm]
        task = make_scenes(world, how.geometry, how.physics, how.scenes or size.scenes, seed, folder / "scenes")
    return learn(task, Lesson(size.demonstrations, size.updates, seed, NOISE, POLICY), folder)


def _oracle(world: World, seed: int, target: Path) -> SceneTask:
    """The hidden world's own things, without what a twin cannot have."""
    truth = draw_truth(world.family, world.seed)
    spec, arm, layout = compose(truth.scene, truth.choices, name="oracle", seed=seed)
    target.mkdir(parents=True, exist_ok=True)
    write_folder(target / "scene_0000", spec, arm, layout)
    return truth.task


def summarize(results: Sequence[dict[str, Any]], size: Size) -> list[Figure]:
    """Mean success over worlds of every arm, and what the recipe gains."""
    figures, means = [], {}
    for arm in size.arms:
        own = [one for one in results if one["arm"] == arm]
        worlds = sorted({one["world"] for one in own})
        rates = [float(np.mean([one["success"] for one in own if one["world"] == world])) for world in worlds]
        means[arm] = float(np.mean(rates))
        count = sum(len(one["success"]) for one in own)
        bar = BARS.get(f"{arm}.success")
        figures.append(
            Figure(f"{arm}.success", means[arm], "share, mean over worlds", bar, count, _interval(rates, own))
        )
    if {"recipe", "point_twin"} <= set(means):
        gain = means["recipe"] - means["point_twin"]
        figures.append(Figure("gain_over_point_twin", gain, "share", BARS["gain_over_point_twin"], figures[0].n, None))
    return figures


def _interval(rates: Sequence[float], own: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Over worlds, by bootstrap; with one world, over its episodes."""
    if len(rates) > 1:
        return bootstrap(np.array(rates), np.mean)
    outcomes = np.concatenate([one["success"] for one in own])
    return wilson_interval(int(outcomes.sum()), len(outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
