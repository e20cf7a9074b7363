"""gym-hil's PandaPickCube: grasp the cube, raise it by 10 cm."""

from __future__ import annotations

from sim.experts.base import Expert, GraspShape
from sim.experts.lift import LiftExpert

# 8.5 cm stroke, cube 4 cm wide (5.7 cm across its corners).
SHAPE = GraspShape(aligned_m=0.012, clear_m=0.07, depth_m=0.012)


def expert() -> Expert:
    return LiftExpert(SHAPE)
