"""A scene made into a twin: its arm follows joint servos, every tracked object can be welded to a mocap body."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import FloatArray
from sim.arm import ArmModel

MOCAP = "twin/"
"""Prefix of what is added to the scene."""
WELD_IMPEDANCE = 0.95
"""As that of contacts: neither wins at once where the weld pulls an object into another."""
WELD_TORQUE_SCALE = 2.0
"""MuJoCo's weld sees half the angle; twice that has the inertia that its regularisation reckons with."""


@dataclass(frozen=True)
class TwinPlan:
    """What of a scene is measured, by names."""

    joints: tuple[str, ...]
    """Joints of the arm, in the order of the measurements."""
    objects: Mapping[str, str]
    """Name of a tracked object -> `body:<name>` or `site:<name>`, where its pose is measured."""
    base_body: str = "world"
    """Poses are in its frame."""
    tcp_site: str = ""
    """The arm's tool centre point."""
    finger_actuators: tuple[str, ...] = ()
    """Position-controlled fingers."""
    finger_closed: tuple[float, ...] = ()
    """Commands of the closed fingers."""
    finger_open: tuple[float, ...] = ()
    """Commands of the open fingers."""
    servo_rad_s: float = 100.0
    """Bandwidth of the joint servos, critically damped."""


def plan_of(arm: ArmModel, objects: Mapping[str, str]) -> TwinPlan:
    """The plan of an arm of ours."""
    return TwinPlan(
        joints=arm.joints,
        objects=objects,
        base_body=arm.base_body,
        tcp_site=arm.tcp_site,
        finger_actuators=arm.finger_actuators,
        finger_closed=arm.finger_closed,
        finger_open=arm.finger_open,
    )


@dataclass(frozen=True)
class Tracked:
    """Where one tracked object is found in the compiled model. Letters: D its degrees of freedom."""

    name: str
    """Of the object."""
    is_site: bool
    """Whether a site is measured, or the body itself."""
    frame_id: int
    """Of that site or body."""
    body_id: int
    """The body it belongs to."""
    dofs: NDArray[np.intp]
    """(D,) degrees of freedom that move it."""
    weld_id: int
    """Its equality constraint."""
    mocap_id: int
    """Its mocap body."""


@dataclass(frozen=True)
class TwinModel:
    """A compiled twin."""

    plan: TwinPlan
    """What was asked for."""
    model: mujoco.MjModel
    """Nominal parameters."""
    qpos: NDArray[np.intp]
    """(N,) addresses of the arm's joints."""
    dofs: NDArray[np.intp]
    """(N,) the same for velocities."""
    servos: NDArray[np.intp]
    """(N,) actuators of the arm's joints."""
    fingers: NDArray[np.intp]
    """Actuators of the fingers."""
    tracked: tuple[Tracked, ...]
    """Objects in the plan's order."""
    base_pose: FloatArray = field(repr=False)
    """(7,) of the base in the world."""

    @property
    def lead_s(self) -> float:
        """A critically damped servo lags a moving reference by so much: targets are put ahead by it."""
        return 2.0 / self.plan.servo_rad_s


def make_twin(spec: mujoco.MjSpec, plan: TwinPlan) -> TwinModel:
    """Compile `spec` (which is changed) as a twin. Raises `UnknownNameError` for what is not in it."""
    _check_names(spec, plan)
    arm = set(plan.joints)
    for actuator in list(spec.actuators):
        if actuator.target in arm:
            spec.delete(actuator)
    for joint in plan.joints:
        spec.joint(joint).parent.gravcomp = 1.0
        servo = spec.add_actuator(name=f"{MOCAP}{joint}", target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.gaintype, servo.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    for body in _carried(spec, plan):
        body.gravcomp = 1.0
    for name, where in plan.objects.items():
        _add_weld(spec, name, _body_of(spec, where))
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST  # the servos' damping is too stiff for Euler's
    return _bind(spec.compile(), plan)


def _carried(spec: mujoco.MjSpec, plan: TwinPlan) -> list[mujoco.MjsBody]:
    """Bodies beyond the arm's last joint: hand and fingers."""
    return list(spec.joint(plan.joints[-1]).parent.find_all("body"))


def _add_weld(spec: mujoco.MjSpec, name: str, body: str) -> None:
    """A mocap body and an inactive weld to it: `sim.twin.correction` activates it for one step."""
    spec.worldbody.add_body(name=MOCAP + name, mocap=True)
    weld = spec.add_equality(name=MOCAP + name, type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY)
    weld.name1, weld.name2, weld.active = MOCAP + name, body, False
    weld.data[:] = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, WELD_TORQUE_SCALE]
    weld.solimp[:3] = WELD_IMPEDANCE, WELD_IMPEDANCE, 1e-3
    # Direct format, no damping: one step from rest closes the whole distance.
    weld.solref[:] = -1.0 / spec.option.timestep**2, 0.0


def _bind(model: mujoco.MjModel, plan: TwinPlan) -> TwinModel:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    joints = [model.joint(name) for name in plan.joints]
    qpos = np.array([joint.qposadr[0] for joint in joints], np.intp)
    dofs = np.array([joint.dofadr[0] for joint in joints], np.intp)
    servos = np.array([model.actuator(MOCAP + name).id for name in plan.joints], np.intp)
    stiffness = model.dof_M0[dofs] * plan.servo_rad_s**2
    model.actuator_gainprm[servos, 0] = stiffness
    model.actuator_biasprm[servos, 1] = -stiffness
    model.actuator_biasprm[servos, 2] = -2.0 * model.dof_M0[dofs] * plan.servo_rad_s
    base = model.body(plan.base_body).id
    return TwinModel(
        plan,
        model,
        qpos,
        dofs,
        servos,
        np.array([model.actuator(name).id for name in plan.finger_actuators], np.intp),
        tuple(_track(model, name, where, set(dofs.tolist())) for name, where in plan.objects.items()),
        np.concatenate([data.xpos[base], data.xquat[base]]),
    )


def _track(model: mujoco.MjModel, name: str, where: str, arm: set[int]) -> Tracked:
    kind, _, frame = where.partition(":")
    is_site = kind == "site"
    frame_id = (model.site(frame) if is_site else model.body(frame)).id
    body = int(model.site_bodyid[frame_id]) if is_site else frame_id
    dofs: list[int] = []
    above = body
    while above:
        first, count = model.body_dofadr[above], model.body_dofnum[above]
        dofs = [*range(first, first + count), *dofs]
        above = int(model.body_parentid[above])
    if not dofs or arm & set(dofs):
        raise ConfigError(f"tracked object {name!r} ({where}) must be movable and no part of the arm")
    return Tracked(
        name, is_site, frame_id, body, np.array(dofs, np.intp), model.equality(MOCAP + name).id,
        int(model.body(MOCAP + name).mocapid[0]),
    )  # fmt: skip


def _check_names(spec: mujoco.MjSpec, plan: TwinPlan) -> None:
    wanted = {
        "joint": (plan.joints, spec.joints),
        "actuator": (plan.finger_actuators, spec.actuators),
        "site": ((plan.tcp_site,) if plan.tcp_site else (), spec.sites),
        "body": ((plan.base_body,), spec.bodies),
    }
    for kind, (names, present) in wanted.items():
        valid = [one.name for one in present]
        for name in names:
            if name not in valid:
                raise UnknownNameError(f"{kind} of the twin", name, valid)
    if not plan.joints:
        raise ConfigError("a twin needs the joints of an arm")


def _body_of(spec: mujoco.MjSpec, where: str) -> str:
    """Name of the body that `where` is on."""
    kind, _, name = where.partition(":")
    if kind not in ("body", "site"):
        raise UnknownNameError("kind of tracked frame", kind, ("body", "site"))
    found = (spec.site if kind == "site" else spec.body)(name)
    if found is None:
        present = spec.sites if kind == "site" else spec.bodies
        raise UnknownNameError(f"tracked {kind}", name, (one.name for one in present))
    return found.parent.name if kind == "site" else name


@dataclass(frozen=True)
class Factors:
    """Unknown physics of one particle, as factors on the model's values."""

    friction: float = 1.0
    """Sliding friction of all contacts; dry and viscous friction of the objects' joints."""
    mass: float = 1.0
    """Masses and inertias of the tracked objects."""


def apply_factors(twin: TwinModel, model: mujoco.MjModel, factors: Factors) -> None:
    """Make `model` (a copy of the twin's) that of a particle."""
    nominal = twin.model
    model.geom_friction[:, 0] = nominal.geom_friction[:, 0] * factors.friction
    for one in twin.tracked:
        jointed = one.dofs[nominal.jnt_type[nominal.dof_jntid[one.dofs]] != mujoco.mjtJoint.mjJNT_FREE]
        model.dof_frictionloss[jointed] = nominal.dof_frictionloss[jointed] * factors.friction
        model.dof_damping[jointed] = nominal.dof_damping[jointed] * factors.friction
        bodies = np.unique(nominal.dof_bodyid[one.dofs])
        model.body_mass[bodies] = nominal.body_mass[bodies] * factors.mass
        model.body_inertia[bodies] = nominal.body_inertia[bodies] * factors.mass
    mujoco.mj_setConst(model, mujoco.MjData(model))


def measured_pose(data: mujoco.MjData, one: Tracked) -> FloatArray:
    """(7,) of the measured frame in the world, from the data's present kinematics."""
    if not one.is_site:
        return np.concatenate([data.xpos[one.frame_id], data.xquat[one.frame_id]])
    quat = frames.matrix_to_quat(data.site_xmat[one.frame_id].reshape(3, 3))
    return np.concatenate([data.site_xpos[one.frame_id], quat])
