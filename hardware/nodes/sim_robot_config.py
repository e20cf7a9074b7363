"""What the simulated robot is made of: its parameters, and the world that they name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from robot_rl.apps.config import names_file, read_file
from robot_rl.errors import ConfigError
from robot_rl.protocols import World
from robot_rl.typed import check_positive


@dataclass(frozen=True)
class SimRobotConfig:
    """Parameters of the simulated robot."""

    robot: str = "sim_panda"
    """Name in conf/robot, or a YAML file: `sim_robot`, `base_frame` and the joints' names are used."""
    task: str = "lift"
    """Simulated task (`sim.tasks`), or the file of one, such as family.json of `robot-rl cousins`."""
    seed: int = 0
    """Seed of the first reset; each further one takes the next number."""
    rate_hz: float = 50.0
    """Rate of the state topics, and of physics slices."""
    cameras: tuple[str, ...] = ("front", "wrist")
    """Cameras to serve; each is drawn only while somebody listens."""
    camera_rate_hz: float = 10.0
    """Images per second and camera."""
    image_hw: tuple[int, int] = (64, 64)
    """Height and width of the images."""
    depth: bool = False
    """Serve aligned depth, too (a second drawing of each picture)."""
    jpeg_quality: int = 90
    """Of the compressed images, 0 to 100."""
    target_timeout_s: float = 1.0
    """Targets stamped earlier than this are not obeyed."""
    world: str = ""
    """`package.module:function` that makes another world than a robosuite task; it gets `world_options`."""
    world_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `sim.tasks.make_world`, of the file's `build_world`, or of `world`."""

    def __post_init__(self) -> None:
        check_positive(self, "rate_hz", "camera_rate_hz", "target_timeout_s")
        if not 0 <= self.seed < 2**63 or min(self.image_hw) < 1:
            raise ConfigError(f"seed must be in [0, 2^63), image_hw positive; got {self.seed}, {self.image_hw}")


def make_world(config: SimRobotConfig, robot: str) -> World:
    """The robosuite task, or what `config.world` names."""
    make = _imported(config) if config.world else _task(config, robot)
    try:
        return cast(World, make(**config.world_options))
    except TypeError as error:
        if not config.world_options:
            raise
        raise ConfigError(f"world_options {dict(config.world_options)}: {error}") from error


def _imported(config: SimRobotConfig) -> Callable[..., Any]:
    module, _, function = config.world.partition(":")
    try:
        return cast(Callable[..., Any], getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"world {config.world!r}: expected package.module:function; {error}") from error


def _task(config: SimRobotConfig, robot: str) -> Callable[..., Any]:
    from sim import tasks
    from sim.osc import OscConfig
    from sim.rendering import RenderConfig

    # The guard interpolates; here a new target comes at every slice and is reached within it.
    make = (
        read_file(config.task, tasks.TaskConfig).build_world
        if names_file(config.task)
        else partial(tasks.make_world, config.task)
    )
    render, controller = RenderConfig(depth=config.depth), OscConfig(interpolation_s=1.0 / config.rate_hz)
    return partial(make, robot, image_hw=config.image_hw, render=render, controller=controller)
