"""Forward and inverse kinematics of one serial arm, from a chain of joint frames, on MuJoCo and mink.

A chain is data (see `hardware/robots/`), so that a lab's own calibrated numbers enter the same way as
the maker's nominal ones; the MuJoCo model that carries it has no meshes and compiles in milliseconds.

Shape letters: N joints. Poses are (x, y, z, qw, qx, qy, qz), in the base frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import mink
import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError, HardwareError
from robot_rl.types import FloatArray

TCP_SITE = "tcp"


class UnreachableError(HardwareError):
    """No joint position near the present one puts the TCP at the target; the caller must hold."""


@dataclass(frozen=True)
class Link:
    """A frame in its parent's, by URDF's convention (fixed-axis roll, pitch, yaw)."""

    xyz_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Origin in the parent frame."""
    rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation about the parent's fixed x, then y, then z axis."""

    def quat_wxyz(self) -> FloatArray:
        roll, pitch, yaw = (
            frames.rotvec_to_quat(angle * axis) for angle, axis in zip(self.rpy_rad, np.eye(3), strict=True)
        )
        return frames.quat_multiply(yaw, frames.quat_multiply(pitch, roll))


@dataclass(frozen=True)
class Chain:
    """A serial arm: each joint turns about the z axis of its own frame."""

    joints: tuple[Link, ...]
    """Each joint's frame in the one before, at zero angle."""
    base: Link = Link()
    """Frame that the first joint hangs on, in the robot's base frame."""
    flange: Link = Link()
    """Flange in the last joint's frame."""


@dataclass(frozen=True)
class IkConfig:
    """When a solution counts, and how far it may be from the present joints."""

    position_tolerance_m: float = 2e-5
    """Largest distance left between TCP and target."""
    rotation_tolerance_rad: float = 2e-4
    """Largest angle left between TCP and target."""
    max_iterations: int = 60
    """Newton-like steps before the target is called unreachable."""
    max_step_rad: float = 0.2
    """Largest joint motion in one iteration, so that the solution stays on the present branch."""
    limit_margin_rad: float = 0.01
    """Joint positions keep this far from their limits."""
    posture_cost: float = 1e-3
    """Weight of the pull towards the home joints, which fixes a redundant arm's elbow (task weight 1)."""
    posture_gain: float = 0.02
    """Share of the way home that the free (null space) joints go per call."""
    damping: float = 1e-8
    """Levenberg-Marquardt damping near singularities."""


class Kinematics:
    """Maps joints (N,) to the TCP pose (7,) and back, within joint limits."""

    def __init__(
        self,
        chain: Chain,
        lower_rad: FloatArray,
        upper_rad: FloatArray,
        home_rad: FloatArray,
        pose_flange_tcp: FloatArray = frames.IDENTITY,
        config: IkConfig | None = None,
    ) -> None:
        self.config = config or IkConfig()
        self.dim = len(chain.joints)
        for name, value in (("lower", lower_rad), ("upper", upper_rad), ("home", home_rad)):
            if len(value) != self.dim:
                raise ConfigError(f"{len(value)} {name} joint values for a chain of {self.dim} joints")
        self.lower_rad = np.asarray(lower_rad, np.float64) + self.config.limit_margin_rad
        self.upper_rad = np.asarray(upper_rad, np.float64) - self.config.limit_margin_rad
        model = mujoco.MjModel.from_xml_string(_mjcf(chain, lower_rad, upper_rad, pose_flange_tcp))
        self._model = model
        self._configuration = mink.Configuration(model)
        self._site = model.site(TCP_SITE).id
        self._reach = mink.FrameTask(TCP_SITE, "site", 1.0, 1.0, lm_damping=1e-2)
        self._posture = mink.PostureTask(model, cost=self.config.posture_cost, gain=self.config.posture_gain)
        self._posture.set_target(np.asarray(home_rad, np.float64))
        self._limits = [
            mink.ConfigurationLimit(model, gain=1.0, min_distance_from_limits=self.config.limit_margin_rad),
            mink.VelocityLimit(model, {model.joint(i).name: self.config.max_step_rad for i in range(self.dim)}),
        ]

    def forward(self, joint_pos_rad: FloatArray) -> FloatArray:
        """TCP pose (7,) for joints (N,)."""
        self._configuration.update(np.asarray(joint_pos_rad, np.float64))
        data = self._configuration.data
        pose = data.site_xpos[self._site]
        return np.concatenate([pose, frames.matrix_to_quat(data.site_xmat[self._site].reshape(3, 3))])

    def jacobian(self, joint_pos_rad: FloatArray) -> FloatArray:
        """(6, N): joint velocities to the TCP's twist (m/s, rad/s), both seen along the base's axes."""
        self._configuration.update(np.asarray(joint_pos_rad, np.float64))
        jacobian = np.zeros((6, self.dim))
        mujoco.mj_jacSite(self._model, self._configuration.data, jacobian[:3], jacobian[3:], self._site)
        return jacobian

    def inverse(self, pose_base_tcp: FloatArray, start_rad: FloatArray) -> FloatArray:
        """Joints (N,) that put the TCP at `pose_base_tcp`, on the branch of `start_rad` (N,).

        Raises `UnreachableError` when there is none within the joint limits.
        """
        target = np.asarray(pose_base_tcp, np.float64)
        self._reach.set_target(mink.SE3(np.concatenate([target[3:], target[:3]])))
        joints = np.clip(np.asarray(start_rad, np.float64), self.lower_rad, self.upper_rad)
        distance_m = angle_rad = np.inf
        for iteration in range(self.config.max_iterations):
            pose = self.forward(joints)
            distance_m = float(np.linalg.norm(pose[:3] - target[:3]))
            angle_rad = frames.geodesic_rad(pose[3:], target[3:])
            if distance_m <= self.config.position_tolerance_m and angle_rad <= self.config.rotation_tolerance_rad:
                return joints
            # The pull towards home acts once per call: kept up, it would hold the TCP off the target.
            tasks = [self._reach] if iteration else [self._reach, self._posture]
            # With dt = 1 the solver's velocity is the step, and the velocity limit bounds that step.
            step = mink.solve_ik(
                self._configuration, tasks, 1.0, "quadprog", damping=self.config.damping, limits=self._limits
            )
            joints = np.clip(joints + step, self.lower_rad, self.upper_rad)
        raise UnreachableError(
            f"no joint position within limits reaches {np.round(target, 4).tolist()}: "
            f"{distance_m * 1e3:.1f} mm and {angle_rad:.3f} rad are left after "
            f"{self.config.max_iterations} iterations"
        )


def _mjcf(chain: Chain, lower_rad: FloatArray, upper_rad: FloatArray, pose_flange_tcp: FloatArray) -> str:
    """MuJoCo model of the chain; masses are only there because MuJoCo asks for some."""
    flange = np.concatenate([chain.flange.xyz_m, chain.flange.quat_wxyz()])
    tcp = frames.compose(flange, np.asarray(pose_flange_tcp, np.float64))
    body = f'<site name="{TCP_SITE}" {_frame(tcp[:3], tcp[3:])}/>'
    for index in reversed(range(len(chain.joints))):
        link = chain.joints[index]
        body = (
            f"<body {_frame(link.xyz_m, link.quat_wxyz())}>"
            f'<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
            f'<joint name="joint{index}" axis="0 0 1" limited="true" '
            f'range="{float(lower_rad[index])!r} {float(upper_rad[index])!r}"/>{body}</body>'
        )
    base = f"<body {_frame(chain.base.xyz_m, chain.base.quat_wxyz())}>{body}</body>"
    return f'<mujoco><compiler angle="radian"/><worldbody>{base}</worldbody></mujoco>'


def _frame(position_m: FloatArray | tuple[float, ...], quat_wxyz: FloatArray) -> str:
    numbers = [" ".join(repr(float(value)) for value in values) for values in (position_m, quat_wxyz)]
    return f'pos="{numbers[0]}" quat="{numbers[1]}"'
