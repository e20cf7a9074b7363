"""What benchmarks do with a hidden world (sim/cousins/hidden.py): one look, then scenes and policies from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from robot_rl.apps.twin_identify import excite, identify
from robot_rl.errors import ConfigError, DataError
from robot_rl.files import write_file
from robot_rl.typed import to_dataclass, to_plain
from sim.assets.library import Library, LibraryConfig
from sim.cousins.asking import is_liftable
from sim.cousins.extraction import ExtractionConfig, extract
from sim.cousins.family import cousin_task
from sim.cousins.generate import Order, Recipe, generate
from sim.cousins.geometry import Cousins, Geometry, Mixture
from sim.cousins.hidden import draw_truth, hidden_arm_env, hidden_env
from sim.cousins.matching import Candidate, load_seen, match
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior
from sim.cousins.registration import registered
from sim.cousins.scan import capture_scan, write_scan
from sim.cousins.scene import Scene, write_scene
from sim.cousins.scene_task import SceneTask
from sim.cousins.tasks import OpenPart, PutIn
from sim.cousins.world import CousinWorldConfig
from sim.process_env import ProcessEnv
from sim.sysid.log import MOTION_ENV
from sim.sysid.motion import MotionLimits

STARTS = CousinWorldConfig(pose_noise_m=0.001)
IMPOSSIBLE = "impossible.txt"
ROBOT = "panda"


@dataclass(frozen=True)
class World:
    """A hidden world, and where what was made of it is kept."""

    family: str
    seed: int
    work: Path

    @property
    def folder(self) -> Path:
        return self.work / f"{self.family}_{self.seed}"

    def env(self) -> ProcessEnv:
        """The hidden world, in its process."""
        task = draw_truth(self.family, self.seed).task
        return ProcessEnv(partial(hidden_env, self.family, self.seed), task.env)


def prepare(world: World) -> None:
    """Look at the world, extract, say what the task is there, and identify its arm; all kept in files."""
    folder = world.folder
    if (folder / "posterior.json").exists() or (folder / IMPOSSIBLE).exists():
        return
    env = world.env()
    try:
        env.reset(seed=0)
        meant = env.snapshot().task.poses
        frame, pose, joint_pos_rad = env.look(world.seed)
        write_scan(folder / "scan", capture_scan([frame], [pose], ROBOT, [joint_pos_rad]))
    finally:
        env.close()
    try:
        scene = extract(folder / "scan", folder / "extraction", ExtractionConfig())
        task = task_of(world, scene, meant)
        scene = with_axes(scene, task, meant)
        write_scene(folder / "extraction" / "scene.json", scene)
    except (DataError, ConfigError) as error:
        write_file(folder / IMPOSSIBLE, f"{error}\n")
        return
    write_json(folder / "task.json", task)
    _identify(world)


def look_at(family: str, worlds: Sequence[World], count: int, pool: Executor) -> list[World]:
    """The first `count` worlds of the family that extraction makes something of; others are looked at if needed."""
    left, found = [one for one in worlds if one.family == family], []
    while left and len(found) < count:
        now, left = left[: count - len(found)], left[count - len(found) :]
        list(pool.map(prepare, now))
        found += [one for one in now if not is_impossible(one)]
    if len(found) < count:
        raise DataError(f"extraction makes something of {len(found)} of the {len(worlds)} worlds tried of {family}")
    return found


def is_impossible(world: World) -> bool:
    """Whether extraction made nothing of it."""
    return (world.folder / IMPOSSIBLE).exists()


def _identify(world: World) -> None:
    """Excite the world's arm on its cleared bench, and fit the twin's to what it did."""
    env = ProcessEnv(partial(hidden_arm_env, world.seed, ROBOT, world.family), MOTION_ENV)
    try:
        log = excite(env, ROBOT, MotionLimits(), world.seed)
    finally:
        env.close()
    identify(log, world.folder, Console(file=sys.stderr, quiet=True))


def task_of(world: World, scene: Scene, meant: Mapping[str, Any]) -> SceneTask:
    """The hidden world's task in the extracted scene: a person points at the handle, or at the two things."""

    def nearest(point: Any, among: Sequence[Any]) -> Any:
        if not among:
            raise DataError(f"nothing that the task needs was found in {world.family}_{world.seed}")
        return min(among, key=lambda one: float(np.linalg.norm(np.asarray(one.box.pose_base[:3]) - point[:3])))

    if "handle" in meant:
        thing = nearest(meant["object"], [one for one in scene.objects if any(part.handle for part in one.parts)])
        x, y, z = (float(one) for one in meant["handle"][:3])
        return OpenPart(thing.name, handle_base=(x, y, z))
    container = nearest(meant["target"], [one for one in scene.objects if one.category in ("bowl", "mug")])
    others = [one for one in scene.objects if one is not container and is_liftable(one)]
    return PutIn(nearest(meant["item"], others).name, container.name)


def with_axes(scene: Scene, task: SceneTask, meant: Mapping[str, Any]) -> Scene:
    """The scene with the objects' axes as the tracker has them: extracted models are registered to it.

    The task's things come first, as in the hidden worlds, so that a start's number places them alike in both.
    """
    if not isinstance(task, PutIn):
        return scene
    readings = {task.item: meant["item"], task.container: meant["target"]}
    named = {one.name: one for one in scene.objects}
    first = [registered(named[name], reading[3:]) for name, reading in readings.items()]
    return replace(scene, objects=(*first, *(one for one in scene.objects if one.name not in readings)))


PHYSICS: dict[str, Callable[[PhysicsPosterior], Any]] = {
    "nominal": lambda posterior: Physics(),
    "identified": lambda posterior: posterior.nominal(),
    "prior": lambda posterior: PhysicsPrior(),
    "posterior": lambda posterior: posterior,
}


def make_scenes(world: World, geometry: Geometry, physics: str, count: int, seed: int, target: Path) -> SceneTask:
    """Write scenes of what one look at the world gave; returns the task in them. `physics` names one of `PHYSICS`."""
    base = world.folder
    scene = extract(base / "scan", base / "extraction", ExtractionConfig())
    task = to_dataclass(SceneTask, json.loads((base / "task.json").read_text()))
    candidates: dict[str, list[Candidate]] = {}
    if isinstance(geometry, Cousins | Mixture):
        assets = Library.index(LibraryConfig(per_category=16)).assets
        kept = {one.name: [asset for asset in assets if task.suits(one.name, asset)] for one in scene.objects}
        candidates = {
            one.name: match(load_seen(base / "extraction", scene, one.name), kept[one.name]) for one in scene.objects
        }
    posterior = to_dataclass(PhysicsPosterior, json.loads((base / "posterior.json").read_text()))
    recipe = Recipe(geometry, PHYSICS[physics](posterior), count, seed=seed)
    for _ in generate(Order(scene, candidates, task, recipe, target)):
        pass
    return task


@dataclass(frozen=True)
class Lesson:
    """What a policy learns from."""

    demonstrations: int
    """By the scripted expert, in the scenes."""
    updates: int
    seed: int
    """Of demonstrations and training."""
    noise: float
    """Of the expert's hand."""
    words: Sequence[str]
    """Overrides of conf/imitate.yaml."""


def learn(task: SceneTask, lesson: Lesson, folder: Path) -> float:
    """Demonstrate in the scenes of `folder` and learn in folder/policy; the share of demonstrations that succeed.

    Where none does there is nothing to learn.
    """
    from robot_rl.apps.config import compose as compose_configuration
    from robot_rl.apps.gathering import Order as EpisodeOrder
    from robot_rl.apps.gathering import gather
    from robot_rl.apps.imitate import ImitationRun
    from robot_rl.apps.imitation import ImitationExperiment
    from robot_rl.apps.players import make_cousin_demonstrations
    from robot_rl.apps.train import prepare_run_dir

    console = Console(file=sys.stderr, quiet=True)
    family = cousin_task(folder / "scenes", task, STARTS)
    make = partial(make_cousin_demonstrations, family, lesson.noise)
    store = gather(make, EpisodeOrder(lesson.demonstrations, lesson.seed), folder / "episodes", {}, console)
    share = float(np.mean([info.success for info in store.infos]))
    if share == 0.0:
        return share
    learned = ("task=lift", f"seed={lesson.seed}", f"data={folder / 'episodes'}", f"algorithm.updates={lesson.updates}")
    experiment = compose_configuration("imitate", [*learned, *lesson.words], ImitationExperiment)
    experiment = replace(experiment, task=family)
    training = ImitationRun(experiment, folder / "policy")
    prepare_run_dir(folder / "policy", experiment, resume=True, overwrite=False)
    training.run(console)
    return share


def load_learned(folder: Path) -> Any:
    """The policy that was learned in `folder`."""
    from robot_rl.apps.runs import find_checkpoint, load_policy, read_run

    return load_policy(read_run(folder / "policy"), find_checkpoint(folder / "policy")[1])


def write_json(path: Path, value: Any) -> None:
    """Dataclasses as `robot_rl.typed.to_plain` has them."""
    write_file(path, json.dumps(to_plain(value), indent=1) + "\n")
