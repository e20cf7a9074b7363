"""An arm alone in free space, made to repeat a log with some physics: the model that is fitted.

It is the arm, controller and integrator of every other simulated world here, so what is identified is what a twin uses.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cache

import mujoco
import numpy as np

from robot_rl.types import ArmTarget, FloatArray, TaskState
from sim.arm import ArmModel
from sim.cousins.compose import TIMESTEP_S
from sim.cousins.physics import Physics
from sim.osc import OscConfig
from sim.robosuite_arm import PREFIXES, robot_spec
from sim.sysid.log import Run
from sim.world import SimWorld, SimWorldConfig


class LoneArm(SimWorld):
    """An arm with nothing around it."""

    def __init__(self, robot: str, physics: Physics) -> None:
        compiled, arm = _compiled(robot)
        self.base_body = arm.base_body
        model = copy(compiled)
        base = OscConfig()
        controller = replace(
            base, position_kp=base.position_kp * physics.arm_gain, rotation_kp=base.rotation_kp * physics.arm_gain
        )
        self.config = config = SimWorldConfig(controller=controller, delay_s=physics.delay_s, joints=physics.arm)
        super().__init__(model, mujoco.MjData(model), arm, config, PREFIXES)

    def task_state(self) -> TaskState:
        return TaskState(self.clock(), {}, {}, False)

    def _place(self, seed: int) -> None:
        mujoco.mj_resetData(self.model, self.data)

    def repeat(self, run: Run, rate_hz: float) -> tuple[FloatArray, FloatArray]:
        """Joints (T + 1, N) and TCP poses (T + 1, 7) when `run`'s targets are sent from its first joints."""
        self.reset(0)
        self.arm.start_at(run.joints_rad[0])
        readings = [self.arm.reading()]
        for target in run.targets_base:
            self.arm.command(ArmTarget(self.time_s, target, 1.0))
            self.advance(1.0 / rate_hz)
            readings.append(self.arm.reading())
        joints, poses = zip(*readings, strict=True)
        return np.array(joints), np.array(poses)


@cache
def _compiled(robot: str) -> tuple[mujoco.MjModel, ArmModel]:
    spec, arm = robot_spec(robot)
    spec.option.timestep = TIMESTEP_S
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    return spec.compile(), arm
