"""Episodes of one policy in one twin from some start states: the unit that an evaluation in twins is made of.

The episodes of a cell run beside each other in one process, with one call of the policy a step. A cell's results are
one file, there as a whole or not at all, and named by all that they depend on.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hardware.guard_config import GuardConfig
from policies.crowd import crowd_of
from robot_rl.actor import episode_seed
from robot_rl.apps.guarded_world import GuardedWorld, lockstep_limits
from robot_rl.apps.runs import load_policy, read_run
from robot_rl.apps.twins import TwinScene
from robot_rl.apps.video import Film
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.evaluation_table import FILMS, EpisodeRow, write_table
from robot_rl.files import file_hash
from robot_rl.identity import experiment_hash
from robot_rl.typed import to_plain
from robot_rl.types import FloatArray, TaskState
from sim.cousins.folder import LAYOUT, MODEL, read_folder
from sim.cousins.variants import apply_variant
from sim.cousins.world import CousinWorld, CousinWorldConfig

PARTS = "parts"
FILM_HW = (240, 320)
FILMED = "front"
MADE_BY = 1
"""Number of this way to run episodes: raised where the same cell would give other results."""
FILMED_BY = 2
"""The same where films are taken: since 2 they are named by their cell."""


@dataclass(frozen=True)
class Candidate:
    """A policy that is evaluated."""

    name: str
    """Of its run."""
    run_dir: Path
    """Of `robot-rl imitate`, `train` or `offline`."""
    checkpoint: Path
    """In it."""
    digest: str
    """sha256 of the checkpoint's policy.safetensors."""


@dataclass(frozen=True)
class Conditions:
    """What all cells have in common."""

    starts: CousinWorldConfig
    """How episodes begin and what sensors do."""
    limits: GuardConfig | None
    """The guard's, or none."""
    seed: int
    """Of the start states."""
    films: int
    """So many of the first starts are filmed, in the nominal look."""


@dataclass(frozen=True)
class Cell:
    """One policy in one twin, from some starts."""

    candidate: Candidate
    scene: TwinScene
    variant: str
    starts: tuple[int, ...]

    def part(self, out: Path, conditions: Conditions) -> Path:
        """Where its rows are kept below `out`."""
        made_of = [
            self.candidate.name,
            self.candidate.digest,
            experiment_hash(self.candidate.run_dir),
            to_plain(replace(self.scene, folder=Path())),
            file_hash(self.scene.folder / MODEL),
            file_hash(self.scene.folder / LAYOUT),
            [self.variant, self.starts, FILMED_BY if conditions.films else MADE_BY],
            to_plain(conditions),
        ]
        name = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:24]
        return out / PARTS / f"{name}.parquet"


def run_cell(cell: Cell, conditions: Conditions, out: Path) -> Path:
    """Run the cell's episodes; returns the file of its rows."""
    import torch

    torch.set_num_threads(1)
    part = cell.part(out, conditions)
    if not part.exists():
        episodes = _Episodes(cell, conditions, out)
        try:
            rows = episodes.run()
        finally:
            episodes.close()
            del episodes
            _give_memory_back()
        part.parent.mkdir(parents=True, exist_ok=True)
        write_table(part, rows)
    return part


def candidate_env(candidate: Candidate, scene: TwinScene) -> EnvConfig:
    """What the policy sees and does in the scene; `ConfigError` names what it learned otherwise."""
    seen: EnvConfig = replace(read_run(candidate.run_dir).task.env, max_steps=scene.task.env.max_steps)
    scene.task.env.seeing(seen)
    return seen


class _Episodes:
    """A cell's episodes, beside each other."""

    def __init__(self, cell: Cell, conditions: Conditions, out: Path) -> None:
        self._cell, self._conditions, self._out = cell, conditions, out
        self._made_of = cell.part(out, conditions).stem[:8]
        self._env = candidate_env(cell.candidate, cell.scene)
        policy = load_policy(read_run(cell.candidate.run_dir), cell.candidate.checkpoint)
        self._crowd = crowd_of(policy)
        starts = replace(conditions.starts, image_hw=self._env.image_hw if self._env.cameras else FILM_HW)
        model, arm, layout = read_folder(cell.scene.folder)
        apply_variant(model, cell.variant)
        self._worlds = [CousinWorld(copy.copy(model), arm, layout, cell.scene.task, starts) for _ in cell.starts]
        for world in self._worlds[1:]:
            world.draw_with(self._worlds[0])
        self._guarded = [self._guard(world) for world in self._worlds]
        self._envs = [
            RobotEnv(guarded or world, self._env) for guarded, world in zip(self._guarded, self._worlds, strict=True)
        ]

    def run(self) -> list[EpisodeRow]:
        seeds = [episode_seed(self._conditions.seed, "evaluate", start) for start in self._cell.starts]
        self._crowd.begin(seeds)
        observations = {i: env.reset(seed=seeds[i])[0] for i, env in enumerate(self._envs)}
        begun = [env.snapshot().task for env in self._envs]
        films = {i: Film(self._worlds[i].cameras[FILMED], self._env.rate_hz) for i in observations if self._filmed(i)}
        steps, earned, success = (np.zeros(len(seeds), kind) for kind in (np.int64, np.float64, bool))
        for film in films.values():
            film.take()
        while observations:
            actions = self._crowd.act(observations)
            for i, action in actions.items():
                following, reward, done, cut, _ = self._envs[i].step(action)
                steps[i], earned[i], success[i] = steps[i] + 1, earned[i] + reward, done
                observations[i] = following
                if i in films:
                    films[i].take()
                if done or cut:
                    del observations[i]
        return [
            self._row(i, seeds[i], begun[i], steps[i], earned[i], success[i], films.get(i)) for i in range(len(seeds))
        ]

    def close(self) -> None:
        for world in reversed(self._worlds):
            world.close()

    def _filmed(self, index: int) -> bool:
        return not self._cell.variant and self._cell.starts[index] < self._conditions.films

    def _guard(self, world: CousinWorld) -> GuardedWorld | None:
        limits = self._conditions.limits
        return None if limits is None else GuardedWorld(world, lockstep_limits(limits, 1.0 / self._env.rate_hz))

    def _row(
        self, i: int, seed: int, begun: TaskState, steps: Any, earned: Any, success: Any, film: Film | None
    ) -> EpisodeRow:
        cell, guarded, tcp = self._cell, self._guarded[i], self._envs[i].snapshot().arm.pose_base_tcp
        path = ""
        if film is not None:
            film.end(bool(success))
            place = f"{cell.scene.scene}_{cell.scene.world}_{cell.starts[i]:04d}"
            path = f"{FILMS}/{cell.candidate.name}/{place}_{self._made_of}.mp4"
            film.write(self._out / path)
        first = next(iter(begun.poses.values()))
        return EpisodeRow(
            policy=cell.candidate.name,
            checkpoint=cell.candidate.digest,
            world=cell.scene.world,
            kind=cell.scene.kind,
            scene=cell.scene.scene,
            variant=cell.variant,
            start=cell.starts[i],
            seed=seed,
            success=bool(success),
            steps=int(steps),
            earned=float(earned),
            limited_steps=guarded.limited_steps if guarded else 0,
            refused_steps=guarded.refused_steps if guarded else 0,
            tcp_x_m=float(tcp[0]),
            tcp_y_m=float(tcp[1]),
            tcp_z_m=float(tcp[2]),
            object_x_m=float(first[0]),
            object_y_m=float(first[1]),
            object_yaw_rad=_yaw_rad(first[3:]),
            film=path,
        )


def _yaw_rad(quat_wxyz: FloatArray) -> float:
    """Turn about the vertical."""
    w, x, y, z = quat_wxyz
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def _give_memory_back() -> None:
    """Return freed memory to the system: of hundreds of worlds, glibc would keep gigabytes in its heap."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def cells_of(
    candidates: Sequence[Candidate],
    scenes: Sequence[TwinScene],
    episodes: int,
    together: int,
    variants: Sequence[str] = (),
) -> list[Cell]:
    """All cells, the first starts of everything first; other looks are for policies that see images."""
    batches = [tuple(range(first, min(first + together, episodes))) for first in range(0, episodes, together)]
    cells = []
    for starts in batches:
        for scene in scenes:
            for candidate in candidates:
                looks = ("", *variants) if candidate_env(candidate, scene).cameras else ("",)
                cells += [Cell(candidate, scene, look, starts) for look in looks]
    return cells
