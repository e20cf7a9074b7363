"""Twins of what there is: generated scenes and simulated tasks."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mujoco

from robot_rl.errors import ConfigError
from sim.assets.asset import ROOT
from sim.cousins.folder import MODEL, read_folder
from sim.tasks import make_world
from sim.twin.model import TwinModel, make_twin, plan_of


def scene_twin(folder: str, objects: Mapping[str, str]) -> TwinModel:
    """Of a generated scene's folder; its loose objects are tracked unless `objects` names others."""
    _, arm, layout = read_folder(Path(folder))
    loose = {one.name: f"body:{one.name}/{ROOT}" for one in layout.objects if one.is_loose}
    tracked = dict(objects) or loose
    if not tracked:
        raise ConfigError(f"{folder} has no loose objects: name what is tracked, such as {{door: 'body:...'}}")
    return make_twin(_no_air(mujoco.MjSpec.from_file(str(Path(folder) / MODEL))), plan_of(arm, tracked))


def task_twin(task: str, robot: str) -> TwinModel:
    """Of a simulated task: where its objects' poses are read, they are tracked."""
    world = make_world(task, robot)
    try:
        tracked = {name: where for name, where in world.config.objects.items() if isinstance(where, str)}
        if not tracked:
            raise ConfigError(f"task {task!r} has no object whose pose is a body's or a site's")
        spec = mujoco.MjSpec.from_string(world.env.sim.model.get_xml())
        return make_twin(_no_air(spec), plan_of(world.arm_model, tracked))
    finally:
        world.close()


def _no_air(spec: mujoco.MjSpec) -> mujoco.MjSpec:
    """As in `sim.world`."""
    spec.option.density = spec.option.viscosity = 0.0
    return spec
