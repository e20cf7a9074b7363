"""What a task in a generated scene is (`sim.cousins.tasks` has them).

A task is configuration; `bind` ties it to a compiled scene. Poses and scalars that it reports are for the agent (those
that `env` names) and for experts (all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import mujoco

from robot_rl.env import EnvConfig
from robot_rl.types import ArmState
from sim.assets.asset import Asset
from sim.cousins.layout import SceneLayout
from sim.cousins.placing import Choice
from sim.cousins.readers import Frame


@dataclass(frozen=True)
class BoundTask:
    """A task in a compiled scene."""

    frames: Mapping[str, Callable[[], Frame]]
    """Readers of what is reported, by name."""
    scalars: Mapping[str, Callable[[], float]]
    """Readers of further numbers, by name."""
    success: Callable[[ArmState], bool]
    """Whether it is done now."""


class SceneTask(Protocol):
    """Something to do in a generated scene."""

    @property
    def env(self) -> EnvConfig:
        """What the agent sees and does."""
        ...

    @property
    def expert(self) -> str:
        """Who can do it: a name of `sim.experts`."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The objects that take part."""
        ...

    def suits(self, name: str, asset: Asset) -> bool:
        """Whether `asset` could be the object called `name`: it has what the task needs of that one."""
        ...

    def fit(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        """The assets of a scene, changed where they must go together; `DataError` where they cannot."""
        ...

    def start(self, robot: str, layout: SceneLayout, model: mujoco.MjModel) -> Mapping[str, object]:
        """Fields of `ArmConfig` for where the arm begins."""
        ...

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData, layout: SceneLayout) -> BoundTask: ...


@dataclass(frozen=True)
class FreeMotion:
    """Nothing to do: the arm moves on its own."""

    env: EnvConfig
    expert = ""
    names = ()

    def suits(self, name: str, asset: Asset) -> bool:
        return True

    def fit(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        return choices

    def start(self, robot: str, layout: SceneLayout, model: mujoco.MjModel) -> Mapping[str, object]:
        return {}

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData, layout: SceneLayout) -> BoundTask:
        return BoundTask({}, {}, lambda arm: False)
