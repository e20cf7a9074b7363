"""Worlds are slow to build and reset exactly, so each is built once."""

from __future__ import annotations

from functools import cache

import pytest

from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError
from sim.rendering import choose_gl
from sim.robosuite_world import RobosuiteWorld
from sim.tasks import env_config, make_world


@cache
def shared_world(task: str, robot: str = "panda") -> RobosuiteWorld:
    return make_world(task, robot, image_hw=(48, 64))


def shared_env(task: str, robot: str = "panda") -> RobotEnv:
    return RobotEnv(shared_world(task, robot), env_config(task))


@pytest.fixture(scope="session")
def opengl() -> str:
    try:
        return choose_gl()
    except ConfigError as error:
        pytest.skip(str(error))
