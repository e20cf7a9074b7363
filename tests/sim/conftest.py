"""Worlds are slow to build and reset exactly, so each is built once a module (100 MB each: not kept for longer)."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError
from sim.rendering import choose_gl
from sim.robosuite_world import RobosuiteWorld
from sim.tasks import env_config, make_world

_worlds: dict[tuple[str, str], RobosuiteWorld] = {}


def shared_world(task: str, robot: str = "panda") -> RobosuiteWorld:
    if (task, robot) not in _worlds:
        _worlds[task, robot] = make_world(task, robot, image_hw=(48, 64))
    return _worlds[task, robot]


@pytest.fixture(scope="module", autouse=True)
def _worlds_closed() -> Iterator[None]:
    yield
    if _worlds:
        for world in _worlds.values():
            world.close()
        _worlds.clear()
        gc.collect()


def shared_env(task: str, robot: str = "panda") -> RobotEnv:
    return RobotEnv(shared_world(task, robot), env_config(task))


@pytest.fixture(scope="session")
def opengl() -> str:
    try:
        return choose_gl()
    except ConfigError as error:
        pytest.skip(str(error))
