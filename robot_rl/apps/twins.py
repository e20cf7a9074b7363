"""The twins of a scene that `robot-rl cousins` extracted: one point twin, one identified, an ensemble.

WORK/twins/point         the fitted assets where they were seen, the assets' own physics
WORK/twins/identified    the same with the posterior's middle
WORK/twins/ensemble      reconstruction x posterior: each member's geometry and physics are one draw of both

Made anew only when the scene, the task, the posterior or the recipe has changed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robot_rl.apps.config import positive
from robot_rl.apps.twin_identify import POSTERIOR, read_posterior
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.evaluation_table import KINDS, REAL
from robot_rl.files import digest, renew
from robot_rl.typed import to_dataclass
from sim.cousins.generate import Order, Recipe, Run, generate, scene_folder
from sim.cousins.geometry import Geometry, RandomisedTwin, Twin
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior
from sim.cousins.scene import read_scene
from sim.cousins.scene_task import SceneTask

TWINS = "twins"
SCENE, TASK = "extraction/scene.json", "task.json"
TWIN_KINDS = tuple(kind for kind in KINDS if kind != REAL)


@dataclass(frozen=True)
class TwinsConfig:
    """Which twins a scene has."""

    kinds: tuple[str, ...] = TWIN_KINDS
    """point, identified (needs a posterior), ensemble."""
    members: int = 4
    """Of the ensemble."""
    geometry: Geometry = field(default_factory=RandomisedTwin)
    """What the reconstruction may have wrong: each member's geometry."""
    seed: int = 7000
    """Of the members' draws: none that scenes to learn in are drawn from."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in TWIN_KINDS:
                raise UnknownNameError("kind of twin", kind, TWIN_KINDS)
        if self.members < 1 or self.seed < 0 or not self.kinds:
            raise ConfigError(f"need a kind of twin, members at least 1, a seed not negative; got {self}")


@dataclass(frozen=True)
class TwinScene:
    """One world of one scene."""

    world: str
    """point, identified, ensemble_00, ..."""
    kind: str
    """See `TWIN_KINDS`."""
    scene: str
    """Name of the work folder."""
    folder: Path
    """Of the generated scene."""
    task: SceneTask
    """What is to be done there."""


def add_twin(parser: argparse.ArgumentParser) -> None:
    """Of `robot-rl evaluate`, for twins."""
    group = parser.add_argument_group("in twins")
    group.add_argument(
        "--twin", type=Path, action="append", metavar="WORK", help="a scene of `robot-rl cousins`; may be repeated"
    )
    group.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes (default: all cores)")
    group.add_argument("--ray", action="store_true", help="on Ray: the cluster of RAY_ADDRESS, else this machine")
    group.add_argument("--real", type=Path, help="real trials: .parquet, or a .csv with policy,start,success")


def ranked_by(kind: str, worlds: int) -> str:
    """What must be said of a ranking by so many worlds of this kind; "" for an ensemble of several."""
    if kind != "ensemble":
        return f"no ensemble was evaluated: the ranking is by the {kind} twin alone, and says nothing of other worlds"
    if worlds == 1:
        return "the ensemble has one member: the ranking says nothing of other worlds (twins.members)"
    return ""


def make_all_twins(works: Sequence[Path], config: TwinsConfig, run: Run = map) -> list[TwinScene]:
    """The twins of several scenes, each with a name of its own."""
    named: dict[str, Path] = {}
    for work in works:
        name = work.resolve().name
        if name in named:
            raise ConfigError(
                f"two scenes are called {name}: {named[name]} and {work}; results go by the names of the folders: "
                "rename one of them (or name it once)"
            )
        named[name] = work
    return [scene for work in works for scene in make_twins(work, config, run)]


def make_twins(work: Path, config: TwinsConfig, run: Run = map) -> list[TwinScene]:
    """The twins of the scene in `work`, generated where they are missing."""
    try:
        scene, text = read_scene(work / SCENE), (work / TASK).read_text()
        task = to_dataclass(SceneTask, json.loads(text))
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{work} is no work folder of `robot-rl cousins` (extract) with a task: {error}") from error
    path = work / POSTERIOR
    posterior = read_posterior(path) if path.exists() else None
    found = []
    for kind in config.kinds:
        if kind == "identified" and posterior is None:
            continue
        recipe = RECIPES[kind](config, posterior)
        target = work / TWINS / kind
        renew(target, digest((work / SCENE).read_text(), text, recipe))
        order = Order(scene, {}, task, recipe, target)
        for _ in generate(order, run):
            pass
        names = (
            [kind] if recipe.scenes == 1 and kind != "ensemble" else [f"{kind}_{i:02d}" for i in range(recipe.scenes)]
        )
        found += [
            TwinScene(name, kind, work.resolve().name, scene_folder(order, i), task) for i, name in enumerate(names)
        ]
    return found


def _ensemble(config: TwinsConfig, posterior: PhysicsPosterior | None) -> Recipe:
    physics = posterior or PhysicsPrior()
    return Recipe(config.geometry, physics, config.members, appearance=False, seed=config.seed)


RECIPES: dict[str, Callable[[TwinsConfig, PhysicsPosterior | None], Recipe]] = {
    "point": lambda config, posterior: Recipe(Twin(), Physics(), 1, appearance=False),
    "identified": lambda config, posterior: Recipe(Twin(), _nominal(posterior), 1, appearance=False),
    "ensemble": _ensemble,
}


def _nominal(posterior: PhysicsPosterior | None) -> Physics:
    return posterior.nominal() if posterior is not None else Physics()
