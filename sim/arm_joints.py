"""What lies between an arm controller's torques and the joints it reads: friction, inertia, a load, play.

Letters: N arm joints. A controller knows the nominal arm. With `ArmPhysics` of its own the simulated arm differs from
that: the controller then works on its *view*, the nominal model at the measured joints, as real ones do.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray


@dataclass(frozen=True)
class ArmPhysics:
    """How an arm's joints differ from its model; the defaults change nothing, an empty tuple is the model's own."""

    friction_nm: tuple[float, ...] = ()
    """(N,) Coulomb (kinetic) friction of the joints."""
    stribeck: float = 0.0
    """Static friction is larger than kinetic by this share of it."""
    stribeck_rad_s: float = 0.05
    """Speed at which that excess has come down by 1/e: exp(-(speed/this)^2) (Armstrong-Helouvry, 1991)."""
    damping_nm_s: tuple[float, ...] = ()
    """(N,) viscous friction of the joints, N m s/rad."""
    armature: tuple[float, ...] = ()
    """(N,) factors on the model's rotor inertias."""
    payload_kg: float = 0.0
    """A point mass on the hand that the controller does not know of."""
    payload_tcp_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where it is, in the TCP frame."""
    backlash_rad: tuple[float, ...] = ()
    """(N,) play between the joints and their encoders."""

    def __post_init__(self) -> None:
        numbers = np.concatenate([np.ravel(value) for value in vars(self).values()])
        unsigned = [*self.friction_nm, *self.damping_nm_s, *self.armature, *self.backlash_rad]
        if not np.isfinite(numbers).all() or min([*unsigned, self.payload_kg, self.stribeck]) < 0.0:
            raise ConfigError(f"friction, damping, armature, load and play must be finite and not negative; got {self}")
        if not self.stribeck_rad_s > 0.0:
            raise ConfigError(f"stribeck_rad_s must be positive, got {self.stribeck_rad_s}")


AS_MODELLED = ArmPhysics()


class ArmJoints:
    """The N joints of an arm in a model: their true dynamics, and the view that controller and readers have."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        dofs: NDArray[np.intp],
        qpos: NDArray[np.intp],
        site_id: int,
        nominal: mujoco.MjModel | None = None,
    ) -> None:
        """`nominal` is what the controller knows: a copy of `model` when None."""
        self.model, self.data = model, data
        self.dofs, self.qpos, self._site = dofs, qpos, site_id
        self.view_model, self.view = model, data
        self._hand = int(model.site_bodyid[site_id])
        self.nominal = nominal
        self._play = np.zeros(len(dofs))
        self.physics = AS_MODELLED

    def set(self, physics: ArmPhysics) -> None:
        """Let the joints be as `physics` says. The view then has a model and data of its own."""
        if physics == AS_MODELLED and self.nominal is None:
            return
        self.nominal = nominal = self.nominal or copy(self.model)
        if self.view is self.data:
            self.view_model, self.view = nominal, mujoco.MjData(nominal)
        self.physics, model = physics, self.model
        count = len(self.dofs)
        self.friction_nm = _each(physics.friction_nm, nominal.dof_frictionloss[self.dofs], count, "friction_nm")
        model.dof_frictionloss[self.dofs] = self.friction_nm
        model.dof_damping[self.dofs] = _each(
            physics.damping_nm_s, nominal.dof_damping[self.dofs], count, "damping_nm_s"
        )
        factors = _each(physics.armature, np.ones(count), count, "armature")
        model.dof_armature[self.dofs] = factors * nominal.dof_armature[self.dofs]
        self.backlash_rad = _each(physics.backlash_rad, np.zeros(count), count, "backlash_rad")
        self._load(physics)
        mujoco.mj_setConst(model, mujoco.MjData(model))

    def start(self) -> None:
        """The joints were placed anew: play is centred."""
        self._play = self.data.qpos[self.qpos].copy()
        if self.view is not self.data:
            self.view.time = -1.0
        self.look()

    def act(self) -> None:
        """Friction for the coming controller period, and a fresh view."""
        if self.view is self.data:
            return
        speed = self.data.qvel[self.dofs]
        self.model.dof_frictionloss[self.dofs] = self.friction(speed)
        self.look()

    def friction(self, speed_rad_s: FloatArray) -> FloatArray:
        """Dry friction (N,) in N m at some speeds (N,)."""
        return dry_friction(self.friction_nm, self.physics.stribeck, self.physics.stribeck_rad_s, speed_rad_s)

    def command_delay_s(self, delay_s: float) -> float:
        """How long the next command takes; the same for each."""
        return delay_s

    def measured(self) -> tuple[FloatArray, FloatArray]:
        """What the encoders say: positions and speeds (N,). Within its play a joint turns unseen; its
        speed is that of the motor."""
        self._play = read_with_play(self._play, self.data.qpos[self.qpos], 0.5 * self.backlash_rad)
        return self._play, self.data.qvel[self.dofs]

    def look(self) -> None:
        """Bring the view to the measured joints: kinematics, velocities, inertia and bias of the nominal model."""
        if self.view is self.data or self.view.time == self.data.time:
            return
        self.look_at(*self.measured())

    def look_at(self, joints_rad: FloatArray, speed_rad_s: FloatArray) -> None:
        """Bring the view to some joints and speeds (N,) of the arm; the rest of the scene is as it is."""
        model, view, data = self.view_model, self.view, self.data
        view.time = data.time
        view.qpos[:], view.qvel[:] = data.qpos, data.qvel
        view.qpos[self.qpos], view.qvel[self.dofs] = joints_rad, speed_rad_s
        mujoco.mj_kinematics(model, view)
        mujoco.mj_comPos(model, view)
        mujoco.mj_makeM(model, view)
        mujoco.mj_comVel(model, view)
        mujoco.mj_passive(model, view)
        mujoco.mj_rne(model, view, 0, view.qfrc_bias)

    def _load(self, physics: ArmPhysics) -> None:
        """Hand and point mass as one rigid body (parallel axes, principal axes)."""
        model, nominal, hand, mass = self.model, self.nominal, self._hand, physics.payload_kg
        assert nominal is not None
        to_hand = frames.quat_to_matrix(nominal.site_quat[self._site])
        at = nominal.site_pos[self._site] + to_hand @ np.asarray(physics.payload_tcp_m)
        own, centre = float(nominal.body_mass[hand]), nominal.body_ipos[hand]
        together = own + mass
        middle = (own * centre + mass * at) / together if together > 0.0 else centre
        axes = frames.quat_to_matrix(nominal.body_iquat[hand])
        inertia = axes @ np.diag(nominal.body_inertia[hand]) @ axes.T
        for kilograms, point in ((own, centre), (mass, at)):
            arm = point - middle
            inertia += kilograms * (arm @ arm * np.eye(3) - np.outer(arm, arm))
        moments, principal = np.linalg.eigh(inertia)
        principal[:, 2] *= np.sign(np.linalg.det(principal))
        model.body_mass[hand], model.body_ipos[hand] = together, middle
        model.body_inertia[hand], model.body_iquat[hand] = moments, frames.matrix_to_quat(principal)


def dry_friction(kinetic_nm: FloatArray, excess: Any, fall_rad_s: Any, speed_rad_s: FloatArray) -> FloatArray:
    """Friction (..., N): kinetic, and near rest an excess share that falls off as a Gaussian."""
    return kinetic_nm * (1.0 + excess * np.exp(-np.square(speed_rad_s / fall_rad_s)))


def read_with_play(last_rad: FloatArray, joints_rad: FloatArray, half_rad: FloatArray) -> FloatArray:
    """Positions (..., N) that encoders say, which last said `last_rad`, behind a play of twice `half_rad`."""
    return np.clip(last_rad, joints_rad - half_rad, joints_rad + half_rad)


def _each(values: tuple[float, ...], default: FloatArray, count: int, name: str) -> FloatArray:
    """`values` as (N,), or the default where there are none."""
    if values and len(values) != count:
        raise ConfigError(f"{name} must have one value for each of {count} joints, got {len(values)}")
    return np.array(values if values else default, np.float64)
