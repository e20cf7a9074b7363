"""Putting one thing into another: over its opening, let go."""

from __future__ import annotations

from sim.experts.base import Expert
from sim.experts.carry import CarryExpert, Errand


def expert() -> Expert:
    return CarryExpert(Errand(hover_m=0.12, lower_to_m=0.06, over_m=0.015))
