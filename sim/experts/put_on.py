"""Setting one thing on another: its underside onto the top, let go."""

from __future__ import annotations

from sim.experts.base import Expert
from sim.experts.carry import CarryExpert, Errand


def expert() -> Expert:
    return CarryExpert(Errand(hover_m=0.07, lower_to_m=0.004, over_m=0.008, carried="underside", squares=True))
