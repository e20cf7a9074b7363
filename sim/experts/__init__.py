"""Scripted closed-loop experts, one per task: the hand of the scripted person."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from robot_rl.errors import UnknownNameError
from sim.experts.base import Expert

NAMES = ("lift", "door", "nut_assembly_square", "pick_place_can", "stack", "wipe", "gym_hil_pick")


def make_expert(task: str) -> Expert:
    """The expert of a task of `sim.tasks` or `sim.gym_hil_world`; `UnknownNameError` lists the tasks."""
    if task not in NAMES:
        raise UnknownNameError("expert", task, NAMES)
    build: Callable[[], Expert] = import_module(f"sim.experts.{task}").expert
    return build()


__all__ = ["NAMES", "Expert", "make_expert"]
