"""Many generated scenes as one `World`: every reset takes the scene that its seed names, so that a policy sees all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robot_rl.errors import ConfigError
from robot_rl.protocols import Arm, Camera, World
from robot_rl.types import ArmTarget, TaskState
from sim.cousins.folder import LAYOUT, read_layout
from sim.cousins.scene_task import SceneTask
from sim.cousins.tasks import OpenPart
from sim.cousins.world import CousinWorld, CousinWorldConfig, make_cousin_world
from sim.tasks import TaskConfig

OPEN_WORLDS = 64
"""Compiled scenes kept in memory; each is some megabytes."""


class FamilyWorld:
    """Implements `robot_rl.protocols.World`: seed s runs in scene s modulo their number.

    With a `curriculum`, only the scenes that are nearest to what was seen take part at first, and one after the other
    joins them until, after so many resets, all do.
    """

    def __init__(self, folders: list[Path], task: SceneTask, config: CousinWorldConfig, curriculum: int = 0) -> None:
        if not folders:
            raise ConfigError("a family of scenes needs at least one; `robot-rl cousins generate` makes them")
        if curriculum < 0:
            raise ConfigError(f"curriculum must not be negative, got {curriculum}")
        self._folders, self._task, self._config = folders, task, config
        self._curriculum = curriculum
        if curriculum:
            self._folders = sorted(folders, key=distance)
        self._open: OrderedDict[int, CousinWorld] = OrderedDict()
        self._resets = 0
        self.active = self._enter(0)

    @property
    def arm(self) -> Arm:
        return self.active.arm

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self.active.cameras

    def task_state(self) -> TaskState:
        return self.active.task_state()

    def reset(self, seed: int | None) -> None:
        number = self._resets if seed is None else seed
        self.active = self._enter(number % self._open_to())
        self._resets += 1
        self.active.reset(seed)

    def advance(self, duration_s: float) -> ArmTarget | None:
        return self.active.advance(duration_s)

    def close(self) -> None:
        for world in self._open.values():
            world.close()

    def _open_to(self) -> int:
        """How many scenes, from the nearest on, take part in the coming reset."""
        count = len(self._folders)
        if self._resets >= self._curriculum:
            return count
        return 1 + (count - 1) * self._resets // self._curriculum

    def _enter(self, index: int) -> CousinWorld:
        if index not in self._open:
            self._open[index] = make_cousin_world(self._folders[index], self._task, self._config)
        self._open.move_to_end(index)
        if len(self._open) > OPEN_WORLDS:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        return self._open[index]


@dataclass(frozen=True)
class CousinTask(TaskConfig):
    """A task in a family of generated scenes: `family.json` of a work folder, as in task=WORK/family.json."""

    scenes: Path = Path("runs/cousins/scenes")
    """Folder of scene folders."""
    asks: SceneTask = field(default_factory=lambda: OpenPart("object_0"))
    """What is to be done in each."""
    starts: CousinWorldConfig = field(default_factory=CousinWorldConfig)
    """How episodes begin and what sensors do."""
    curriculum: int = 0
    """Resets until all scenes take part, from the nearest to the farthest; 0: all from the start."""

    def build_world(self, robot: str, **options: Any) -> World:
        """All scenes of the folder; their robot is the one that they were generated with."""
        starts = replace(self.starts, **{"image_hw": self.env.image_hw, **options})
        return FamilyWorld(scene_folders(self.scenes), self.asks, starts, self.curriculum)


def cousin_task(scenes: Path, asks: SceneTask, starts: CousinWorldConfig | None = None) -> CousinTask:
    """The task's usual observations and actions in all scenes below `scenes`."""
    return CousinTask(asks.expert, asks.env, scenes=scenes, asks=asks, starts=starts or CousinWorldConfig())


def distance(folder: Path) -> float:
    """How far a scene is from what was seen: the mean of its assets' matching distances; twins are at 0."""
    objects = read_layout(folder).objects
    return sum(one.distance for one in objects) / max(len(objects), 1)


def scene_folders(path: Path) -> list[Path]:
    """Folders of whole scenes below `path`, by name."""
    return sorted(one.parent for one in path.glob(f"*/{LAYOUT}") if not one.parent.name.startswith("."))
