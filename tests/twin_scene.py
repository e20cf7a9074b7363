"""A small twin: a finger on three slides, a block on a table, a door with a handle; and a robot that is right."""

from __future__ import annotations

import mujoco
import numpy as np

from robot_rl.types import FloatArray
from sim.twin.model import TwinModel, TwinPlan, make_twin
from sim.twin.sync import Estimate, TwinSync

JOINTS = ("x", "y", "z")
XML = """<mujoco><compiler angle="radian"/><option timestep="0.002" integrator="implicitfast"/>
<worldbody><geom type="plane" size="2 2 0.1"/>
<body name="finger" pos="0 0 0.05">
  <joint name="x" type="slide" axis="1 0 0" armature="1"/><joint name="y" type="slide" axis="0 1 0" armature="1"/>
  <joint name="z" type="slide" axis="0 0 1" armature="1"/>
  <geom type="capsule" fromto="0 0 0 0 0 0.1" size="0.01" mass="0.2"/><site name="tip"/>
</body>
<body name="block" pos="0.2 0 0.02"><freejoint/><geom type="box" size="0.03 0.03 0.02" mass="0.2"/></body>
<body name="door" pos="-0.5 0 0.2"><joint name="hinge" axis="0 0 1" damping="0.1" frictionloss="0.1"/>
  <geom type="box" pos="0.15 0 0" size="0.15 0.01 0.15" mass="1"/><site name="handle" pos="0.3 0 0"/></body>
</worldbody></mujoco>"""
PLAN = TwinPlan(JOINTS, {"block": "body:block", "door": "site:handle"}, tcp_site="tip")
BLOCK = np.array([0.2, 0.0, 0.02, 1.0, 0.0, 0.0, 0.0])
PERIOD_S = 1.0 / 60.0


def small_twin(*objects: str) -> TwinModel:
    """With these objects tracked; both when none is named."""
    chosen = {name: PLAN.objects[name] for name in objects or PLAN.objects}
    return make_twin(
        mujoco.MjSpec.from_string(XML), TwinPlan(PLAN.joints, chosen, PLAN.base_body, tcp_site=PLAN.tcp_site)
    )


def handle(angle: float) -> FloatArray:
    """(7,) of the door's handle."""
    position = [-0.5 + 0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.2]
    return np.array([*position, np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])


def joints_at(*values: float) -> dict[str, float]:
    return dict(zip(JOINTS, values, strict=True))


def follow(sync: TwinSync, poses: dict[str, FloatArray], ticks: int, now_s: float, late_s: float = 0.0) -> Estimate:
    """So many ticks with these poses and the finger at rest at 0, 0, 0.1."""
    estimate = None
    for tick in range(ticks):
        at_s = now_s + tick * PERIOD_S
        sync.joints(at_s, joints_at(0.0, 0.0, 0.1), at_s)
        for name, pose in poses.items():
            sync.pose(name, at_s - late_s, pose, at_s)
        estimate = sync.tick(at_s)
    assert estimate is not None
    return estimate
