"""Hidden worlds that a twin follows, and what a robot in them would tell: T-block pushing and door opening.

The truth has another time step, integrator and friction cone than the twin, friction and mass wrong by 2x either way,
Stribeck friction, and a soft arm with dry friction. The finger is moved by three slides that play the arm.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl.types import FloatArray
from sim.twin.model import TwinPlan

RATE_HZ = 60.0
LATENCY_S = 0.02
JOINT_LATENCY_S = 0.004
POSITION_NOISE_M, ROTATION_NOISE_RAD = 0.002, float(np.deg2rad(1.0))
JOINT_NOISE_M = 5e-5
STRIBECK_M_S = 0.05
JOINTS = ("finger_x", "finger_y", "finger_z")
RAISED_M = 0.1

FINGER = """
<body name="finger" pos="0 0 0.02">
  <joint name="finger_x" type="slide" axis="1 0 0" armature="2" damping="2"/>
  <joint name="finger_y" type="slide" axis="0 1 0" armature="2" damping="2"/>
  <joint name="finger_z" type="slide" axis="0 0 1" armature="2" damping="2"/>
  <geom name="finger" type="capsule" fromto="0 0 0 0 0 0.1" size="0.012" mass="0.3"/>
</body>"""
PUSH_T = """
<body name="block" pos="0 0 0.0151">
  <freejoint/>
  <geom type="box" pos="0 0.03 0" size="0.06 0.015 0.015" mass="0.17"/>
  <geom type="box" pos="0 -0.03 0" size="0.015 0.045 0.015" mass="0.13"/>
</body>"""
DOOR = """
<body name="panel" pos="0 0 0.2">
  <joint name="hinge" axis="0 0 1" frictionloss="0.4" damping="0.15" range="-0.05 2.2" limited="true"/>
  <geom type="box" pos="0.2 0 0" size="0.2 0.01 0.2" mass="2.0"/>
  <site name="handle" pos="0.36 0.03 0"/>
</body>"""


def scene_xml(content: str) -> str:
    return f"""<mujoco><compiler angle="radian"/>
<option timestep="0.002" integrator="implicitfast"/>
<default><geom friction="0.5 0.005 0.0001"/></default>
<worldbody><geom name="table" type="plane" size="2 2 0.1"/>{FINGER}{content}</worldbody></mujoco>"""


@dataclass(frozen=True)
class SceneKind:
    """A family of hidden worlds."""

    content: str
    """MJCF of the object."""
    plan: TwinPlan
    """What is tracked."""
    object_body: str
    """Body that the truth is read from."""
    motion: Callable[[Truth], Iterator[tuple[FloatArray, float]]]
    """Way points of the finger (3,) and the speed to them in m/s, endlessly."""
    start: Callable[[Truth], None]
    """Places the object and the finger."""


class Truth:
    """One hidden world: runs, is measured, and is compared with."""

    def __init__(self, kind: SceneKind, seed: int, wrong_by: float = 2.0) -> None:
        self.rng = np.random.default_rng([seed, 17])
        spec = mujoco.MjSpec.from_string(scene_xml(kind.content))
        spec.option.timestep = 0.001
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICIT
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        for name in JOINTS:
            servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            servo.gaintype, servo.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
            servo.gainprm[0], servo.biasprm[1:3] = 4000.0, [-4000.0, -180.0]
            spec.joint(name).frictionloss = float(self.rng.uniform(0.2, 1.0))
        spec.body("finger").gravcomp = 1.0
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._body = self.model.body(kind.object_body).id
        self._frame = kind.plan.objects["object"].split(":")
        self._make_wrong(wrong_by)
        kind.start(self)
        mujoco.mj_forward(self.model, self.data)
        self._reference = self.data.qpos[:3].copy()
        self._motion = kind.motion(self)
        self._goal, self._speed = next(self._motion)

    def _make_wrong(self, factor: float) -> None:
        """Friction and mass differ by `factor`, up or down; the twin is not told."""
        up = self.rng.random(2) < 0.5
        self.friction = factor if up[0] else 1.0 / factor
        self.mass = factor if up[1] else 1.0 / factor
        self.model.body_mass[self._body] *= self.mass
        self.model.body_inertia[self._body] *= self.mass
        self._friction = self.model.geom_friction[:, 0] * self.friction
        self._dofs = np.nonzero(self.model.dof_bodyid == self._body)[0]
        hinged = self.model.jnt_type[self.model.dof_jntid[self._dofs[0]]] != mujoco.mjtJoint.mjJNT_FREE
        self._dry = self.model.dof_frictionloss * np.where(np.isin(np.arange(self.model.nv), self._dofs), 1.0, 0.0)
        self._dry *= self.friction
        if hinged:
            self.model.dof_damping[self._dofs] *= self.friction
        self._arm_dry = self.model.dof_frictionloss * (self._dry == 0.0)
        self.stribeck = float(self.rng.uniform(1.3, 1.8))
        mujoco.mj_setConst(self.model, mujoco.MjData(self.model))

    def object_pose(self) -> FloatArray:
        """(7,) of the tracked frame."""
        kind, name = self._frame
        data = self.data
        if kind == "body":
            return np.concatenate([data.body(name).xpos, data.body(name).xquat])
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, data.site(name).xmat)
        return np.concatenate([data.site(name).xpos, quat])

    def measured_pose(self) -> FloatArray:
        """The same with noise."""
        pose = self.object_pose()
        turn, quat = np.empty(4), np.empty(4)
        rotvec = self.rng.standard_normal(3) * ROTATION_NOISE_RAD
        angle = float(np.linalg.norm(rotvec))
        mujoco.mju_axisAngle2Quat(turn, rotvec / angle, angle)
        mujoco.mju_mulQuat(quat, turn, pose[3:])
        return np.concatenate([pose[:3] + self.rng.standard_normal(3) * POSITION_NOISE_M, quat])

    def measured_joints(self) -> dict[str, float]:
        values = self.data.qpos[:3] + self.rng.standard_normal(3) * JOINT_NOISE_M
        return dict(zip(JOINTS, map(float, values), strict=True))

    def advance(self, duration_s: float) -> None:
        for _ in range(round(duration_s / self.model.opt.timestep)):
            self._move_reference()
            self._rub()
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)

    def _move_reference(self) -> None:
        way = self._goal - self._reference
        distance, step = float(np.linalg.norm(way)), self._speed * self.model.opt.timestep
        if distance <= step:
            self._goal, self._speed = next(self._motion)
        else:
            self._reference = self._reference + way / distance * step
        self.data.ctrl[:] = self._reference

    def _rub(self) -> None:
        """Static friction above kinetic friction (Stribeck)."""
        speed = float(np.linalg.norm(self.data.cvel[self._body][3:])) + 0.1 * abs(float(self.data.qvel[self._dofs[-1]]))
        excess = 1.0 + (self.stribeck - 1.0) * np.exp(-((speed / STRIBECK_M_S) ** 2))
        self.model.geom_friction[:, 0] = self._friction * excess
        self.model.dof_frictionloss[:] = self._arm_dry + self._dry * excess


def _start_push(truth: Truth) -> None:
    x, y = truth.rng.uniform(-0.05, 0.05, 2)
    yaw = float(truth.rng.uniform(-np.pi, np.pi))
    truth.data.qpos[3:] = [x, y, 0.0151, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
    truth.data.qpos[:3] = [-0.25, 0.0, RAISED_M]


def _push(truth: Truth) -> Iterator[tuple[FloatArray, float]]:
    """Over the block, down beside it, along through it, up: from the side that brings it back to the middle."""
    rng = truth.rng
    while True:
        middle = truth.object_pose()[:2]
        away = rng.uniform(-np.pi, np.pi)
        if float(np.linalg.norm(middle)) > 0.1:
            away = float(np.arctan2(middle[1], middle[0])) + rng.uniform(-0.6, 0.6)
        out = np.array([np.cos(away), np.sin(away)])
        side = rng.uniform(-0.04, 0.04) * np.array([-out[1], out[0]])
        begin, end = middle + 0.11 * out + side, middle - rng.uniform(0.0, 0.12) * out + side
        yield np.append(truth.data.qpos[:2], RAISED_M), 0.4
        yield np.append(begin, RAISED_M), 0.4
        yield np.append(begin, 0.0), 0.3
        yield np.append(end, 0.0), float(rng.uniform(0.08, 0.3))
        for _ in range(int(rng.integers(0, 300))):
            yield np.append(end, 0.0), 0.1


def _start_door(truth: Truth) -> None:
    truth.data.qpos[3] = truth.rng.uniform(0.05, 0.2)
    truth.data.qpos[:3] = [0.3, -0.1, 0.15]


def _swing(truth: Truth) -> Iterator[tuple[FloatArray, float]]:
    """Open the door in strokes, let it coast, now and then push it back: from above, down beside where it stands."""
    rng = truth.rng
    while True:
        radius = float(rng.uniform(0.22, 0.36))
        yield np.array([*truth.data.qpos[:2], 0.45]), 0.5
        angle = float(truth.data.qpos[3])
        opening = 1.0 if angle < 0.4 else -1.0 if angle > 1.7 else float(rng.choice((1.0, -1.0)))
        stroke, speed = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.1, 0.4))
        yield np.array([*_on_arc(angle - opening * 0.2, radius), 0.45]), 0.5
        angle = float(truth.data.qpos[3])  # it may have coasted on
        begin, end = angle - opening * 0.2, float(np.clip(angle + opening * stroke, 0.05, 2.0))
        yield np.array([*_on_arc(begin, radius), 0.45]), 0.5
        yield np.array([*_on_arc(begin, radius), 0.15]), 0.5
        for one in np.linspace(begin, end, 12)[1:]:
            yield np.array([*_on_arc(float(one), radius), 0.15]), speed
        for _ in range(int(rng.integers(0, 400))):
            yield np.array([*_on_arc(end, radius), 0.15]), 0.1


def _on_arc(angle: float, radius: float) -> FloatArray:
    return radius * np.array([np.cos(angle), np.sin(angle)])


SCENES = {
    "push_t": SceneKind(PUSH_T, TwinPlan(JOINTS, {"object": "body:block"}), "block", _push, _start_push),
    "door": SceneKind(DOOR, TwinPlan(JOINTS, {"object": "site:handle"}), "panel", _swing, _start_door),
}
