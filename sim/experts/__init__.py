"""Scripted closed-loop experts, one per task: the hand of the scripted person."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from robot_rl.errors import UnknownNameError
from sim.experts.base import Expert

NAMES = ("lift", "door", "nut_assembly_square", "pick_place_can", "stack", "wipe", "gym_hil_pick")
AFFORDANCES = ("open_part", "put_in", "put_on", "insert")
"""Experts of what a thing affords, in any scene (`sim.cousins.tasks`)."""


def make_expert(task: str) -> Expert:
    """The expert of a task (`sim.tasks`, `sim.gym_hil_world`, `sim.cousins.tasks`); `UnknownNameError` lists all."""
    if task not in (*NAMES, *AFFORDANCES):
        raise UnknownNameError("expert", task, (*NAMES, *AFFORDANCES))
    build: Callable[[], Expert] = import_module(f"sim.experts.{task}").expert
    return build()


__all__ = ["NAMES", "Expert", "make_expert"]
