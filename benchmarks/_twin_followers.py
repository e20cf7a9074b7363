"""Simpler ways to keep a twin in step, for comparison: none, hard reset, PD wrench, plain soft weld.

Each is one nominal world whose arm follows the measured joints as the twin's does; a pose counts when it arrives.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.twin.correction import innovation_of, jacobian_of, put
from sim.twin.model import TwinModel, measured_pose

PD_RAD_S = 20.0
"""Bandwidth of the PD wrench, critically damped."""
WELD_S = 0.02
"""Time constant of the plain weld (MuJoCo's default solref), which is active all the time."""


class PlainFollower:
    """A world without memory."""

    def __init__(self, twin: TwinModel, begin: Callable[[PlainFollower], None], correct: Callable[..., None]) -> None:
        self.twin, self.model = twin, twin.model
        self.data = mujoco.MjData(self.model)
        self._begin, self._correct = begin, correct
        self.joints_now: FloatArray | None = None
        self.velocity = np.zeros(len(twin.qpos))
        self.measured: FloatArray | None = None
        self._stamp_s, self._now_s = 0.0, None

    def joints(self, stamp_s: float, positions: Mapping[str, float], now_s: float) -> None:
        values = np.array([positions[name] for name in self.twin.plan.joints])
        if self.joints_now is not None:
            self.velocity = (values - self.joints_now) / (stamp_s - self._stamp_s)
        self.joints_now, self._stamp_s = values, stamp_s

    def pose(self, name: str, stamp_s: float, pose: FloatArray, now_s: float) -> None:
        self.measured = pose
        if self._now_s is not None:
            self._correct(self, pose)

    def tick(self, now_s: float) -> FloatArray | None:
        if self.measured is None or self.joints_now is None:
            return None
        if self._now_s is None:
            self.data.qpos[self.twin.qpos] = self.joints_now
            put(self.model, self.data, self.twin.tracked[0], self.measured)
            self._now_s = now_s
            self._begin(self)
        dt_s = self.model.opt.timestep
        for _ in range(round((now_s - self._now_s) / dt_s)):
            self._now_s += dt_s
            lead_s = self._now_s - self._stamp_s + self.twin.lead_s
            self.data.ctrl[self.twin.servos] = self.joints_now + self.velocity * lead_s
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)
        return measured_pose(self.data, self.twin.tracked[0])


@dataclass(frozen=True)
class Baseline:
    """How a plain follower corrects."""

    correct: Callable[[PlainFollower, FloatArray], None]
    """At every pose that arrives."""
    begin: Callable[[PlainFollower], None] = lambda follower: None
    """Once."""


def _nothing(follower: PlainFollower, pose: FloatArray) -> None:
    """Physics alone."""


def _hard_reset(follower: PlainFollower, pose: FloatArray) -> None:
    velocity = follower.data.qvel.copy()
    put(follower.model, follower.data, follower.twin.tracked[0], pose)
    follower.data.qvel[:] = velocity


def _pd_wrench(follower: PlainFollower, pose: FloatArray) -> None:
    model, data, one = follower.model, follower.data, follower.twin.tracked[0]
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, mass, data.qM)
    error = np.linalg.lstsq(jacobian_of(model, data, one), innovation_of(data, one, pose), rcond=None)[0]
    wanted = PD_RAD_S**2 * error - 2.0 * PD_RAD_S * data.qvel[one.dofs]
    data.qfrc_applied[one.dofs] = mass[np.ix_(one.dofs, one.dofs)] @ wanted


def _start_weld(follower: PlainFollower) -> None:
    one, model = follower.twin.tracked[0], follower.model
    model.eq_solref[one.weld_id] = WELD_S, 1.0
    follower.data.eq_active[one.weld_id] = 1
    assert follower.measured is not None
    _weld(follower, follower.measured)


def _weld(follower: PlainFollower, pose: FloatArray) -> None:
    """The mocap body where the tracked frame's measurement puts the welded body."""
    one, data = follower.twin.tracked[0], follower.data
    body = np.concatenate([data.xpos[one.body_id], data.xquat[one.body_id]])
    offset = frames.relative(measured_pose(data, one), body)
    target = frames.compose(pose, offset)
    data.mocap_pos[one.mocap_id], data.mocap_quat[one.mocap_id] = target[:3], target[3:]


BASELINES = {
    "none": Baseline(_nothing),
    "hard_reset": Baseline(_hard_reset),
    "pd_wrench": Baseline(_pd_wrench),
    "soft_weld": Baseline(_weld, _start_weld),
}
