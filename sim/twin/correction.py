"""A Kalman correction carried out by a soft weld, in a step that takes no time.

The gain says where the object should be; a mocap body is put there and the weld pulls, from rest, for one step of the
integrator whose velocity becomes a displacement and is then forgotten (as the pseudo-velocities of split impulses,
Catto, "Modeling and Solving Constraints", GDC 2009). So joints and contacts are obeyed: a door keeps its hinge and a
block is not pushed into the finger; dry friction, which would hold a weld of finite force for ever, has no time to act.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np

from robot_rl.types import FloatArray
from sim.twin.model import Tracked, measured_pose
from sim.twin.smoothing import difference

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def innovation_of(data: mujoco.MjData, one: Tracked, pose: FloatArray) -> FloatArray:
    """(6,) measured less simulated: position (m) and rotation vector (rad), world frame."""
    return difference(measured_pose(data, one), pose)


def jacobian_of(model: mujoco.MjModel, data: mujoco.MjData, one: Tracked) -> FloatArray:
    """(6, D) of the measured frame."""
    full = np.zeros((6, model.nv))
    jacobian = mujoco.mj_jacSite if one.is_site else mujoco.mj_jacBody
    jacobian(model, data, full[:3], full[3:], one.frame_id)
    return full[:, one.dofs]


def correct(model: mujoco.MjModel, data: mujoco.MjData, one: Tracked, change: FloatArray) -> None:
    """Apply a correction (dq, dv) (2D,) as far as contacts and joints let it; kinematics are fresh afterwards."""
    dofs = len(one.dofs)
    _integrate(model, data, one, _pulled(model, data, one, change[:dofs]))
    data.qvel[one.dofs] += change[dofs:]
    mujoco.mj_forward(model, data)


def _pulled(model: mujoco.MjModel, data: mujoco.MjData, one: Tracked, step: FloatArray) -> FloatArray:
    """What comes of a displacement `step` (D,) when the weld asks for it; the state stays as it is."""
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    start = data.qpos.copy()
    _integrate(model, data, one, step)
    mujoco.mj_kinematics(model, data)
    data.mocap_pos[one.mocap_id], data.mocap_quat[one.mocap_id] = data.xpos[one.body_id], data.xquat[one.body_id]
    data.qpos[:], data.qvel[:], data.eq_active[one.weld_id] = start, 0.0, 1
    mujoco.mj_step(model, data)
    moved = data.qvel[one.dofs] * model.opt.timestep
    mujoco.mj_setState(model, data, state, STATE)
    return moved


def put(model: mujoco.MjModel, data: mujoco.MjData, one: Tracked, pose: FloatArray, rounds: int = 10) -> None:
    """Put the object at rest as close to a measured pose (7,) as its joints let it: Gauss-Newton, contacts ignored."""
    data.qvel[one.dofs] = 0.0
    for _ in range(rounds):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        step = np.linalg.lstsq(jacobian_of(model, data, one), innovation_of(data, one, pose), rcond=None)[0]
        _integrate(model, data, one, step)
        if float(np.abs(step).max()) < 1e-9:
            break
    mujoco.mj_forward(model, data)


def wrench_of(
    model: mujoco.MjModel, data: mujoco.MjData, one: Tracked, kick: FloatArray, period_s: float
) -> FloatArray:
    """(6,) force and torque (N, N m, world) that would have changed the velocity by `kick` (D,) within a period.

    An estimate of what the model lacks: around zero of a twin that predicts.
    """
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, mass, data.qM)
    effort = mass[np.ix_(one.dofs, one.dofs)] @ kick / period_s
    return np.linalg.lstsq(jacobian_of(model, data, one).T, effort, rcond=None)[0]


def _integrate(model: mujoco.MjModel, data: mujoco.MjData, one: Tracked, step: FloatArray) -> None:
    full = np.zeros(model.nv)
    full[one.dofs] = step
    mujoco.mj_integratePos(model, data.qpos, full, 1.0)
