"""Pushing the tip of one thing down the hole of another."""

from __future__ import annotations

from sim.experts.base import Expert
from sim.experts.carry import CarryExpert, Errand


def expert() -> Expert:
    return CarryExpert(Errand(hover_m=0.04, lower_to_m=-0.03, over_m=0.003, carried="tip", lets_go=False, squares=True))
