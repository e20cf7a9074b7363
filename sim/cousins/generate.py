"""Families of scenes by a recipe: geometry and physics drawn anew for each, in parallel, resumable.

Scene i of a seed is the same whatever the number of processes, so what is there is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError, DataError, UnknownNameError
from sim.cousins.compose import Appearance, compose, draw_appearance
from sim.cousins.folder import LAYOUT, write_folder
from sim.cousins.geometry import Cousins, Geometry, Mixture, RandomisedTwin
from sim.cousins.matching import Candidate
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior
from sim.cousins.scene import Scene
from sim.cousins.scene_task import SceneTask
from sim.pools import process_pool
from sim.robosuite_arm import ROBOTS

ATTEMPTS = 8
"""Draws for one scene: some combinations fly apart."""


@dataclass(frozen=True)
class Recipe:
    """How many scenes, and what is drawn for each."""

    geometry: Geometry = field(default_factory=lambda: Mixture((RandomisedTwin(), Cousins())))
    """Where assets come from (`sim.cousins.geometry`)."""
    physics: PhysicsPrior | PhysicsPosterior | Physics = field(default_factory=PhysicsPrior)
    """Drawn for each scene; a `Physics` is the same for all."""
    scenes: int = 64
    """How many."""
    appearance: bool = True
    """Whether colours and light are drawn, too."""
    robot: str = "panda"
    """Whose arm is in them."""
    robot_faces: int = 0
    """Triangles that its decimated visual meshes are drawn by (12000 look like it); 0 draws its collision hulls."""
    seed: int = 0
    """Of all draws."""

    def __post_init__(self) -> None:
        if self.robot not in ROBOTS:
            raise UnknownNameError("robot of the scenes", self.robot, ROBOTS)
        if self.scenes < 1 or min(self.seed, self.robot_faces) < 0:
            raise ConfigError(
                "scenes must be positive, seed and robot_faces not negative; got "
                f"{self.scenes}, {self.seed}, {self.robot_faces}"
            )


@dataclass(frozen=True)
class Order:
    """What every process of a generation knows."""

    scene: Scene
    """As extracted (and corrected)."""
    candidates: Mapping[str, Sequence[Candidate]]
    """Each object's assets, nearest first."""
    task: SceneTask
    """What shall be possible in the scenes."""
    recipe: Recipe
    """See there."""
    target: Path
    """Folder of the scenes' folders."""


Run = Callable[[Callable[[int], Path], Sequence[int]], Iterator[Path]]
"""Maps a function over numbers: in this process, in several (`in_processes`), or on a cluster (`on_ray`)."""


def generate(order: Order, run: Run = map) -> Iterator[Path]:
    """Write the scenes that are missing; yields each folder when it is there."""
    order.target.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(order.recipe.scenes) if not (scene_folder(order, index) / LAYOUT).exists()]
    yield from run(partial(generate_one, order), missing)


def scene_folder(order: Order, index: int) -> Path:
    return order.target / f"scene_{index:04d}"


def generate_one(order: Order, index: int) -> Path:
    """Draw, compose, settle and write scene number `index`; `DataError` when no draw of it stands."""
    recipe, folder, failure = order.recipe, scene_folder(order, index), ""
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([recipe.seed, index, attempt])
        suits = order.task.suits
        try:
            choices = order.task.fit(recipe.geometry.choose(order.scene, order.candidates, suits, index, rng))
            physics = recipe.physics if isinstance(recipe.physics, Physics) else recipe.physics.sample(rng)
            appearance = draw_appearance(rng) if recipe.appearance else Appearance()
            spec, arm, layout = compose(
                order.scene,
                choices,
                name=folder.name,
                robot=recipe.robot,
                robot_faces=recipe.robot_faces,
                physics=physics,
                appearance=appearance,
                seed=recipe.seed,
            )
        except DataError as error:
            failure = str(error)
            continue
        write_folder(folder, spec, arm, replace(layout, seed=recipe.seed))
        return folder
    raise DataError(f"scene {index}: {ATTEMPTS} draws, none of which stands: {failure}")


def in_processes(jobs: int) -> Run:
    """Several processes of this machine; in this one when `jobs` is 1."""

    def run(function: Callable[[int], Path], numbers: Sequence[int]) -> Iterator[Path]:
        if jobs == 1 or len(numbers) < 2:
            yield from map(function, numbers)
            return
        with process_pool(min(jobs, len(numbers))) as together:
            yield from together(function, numbers)

    return run


def on_ray(function: Callable[[int], Path], numbers: Sequence[int]) -> Iterator[Path]:
    """A `Run` on all machines of a Ray cluster: that of the variable RAY_ADDRESS, else one started here.

    Raises `ConfigError` without `ray`, or when nobody answers at the address.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]  # optional
    except ImportError as error:
        raise ConfigError("--ray needs ray: pip install 'robot-rl[ray]'") from error
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')}: {error}") from error

    def one(number: int) -> Path:
        return function(number)

    remote: Any = ray.remote(num_cpus=1)(one)
    waiting = [remote.remote(number) for number in numbers]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done)
