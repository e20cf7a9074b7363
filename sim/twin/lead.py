"""Real-is-Sim: the policy drives the twin, and where the twin's arm is becomes what the robot is asked to follow.

After Fang et al., "Real-is-Sim" (2504.03597): the simulation is corrected by the objects, not by the arm; the arm
follows it, here through the guard. When the robot falls behind, the twin waits for it.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.osc import solve_positive
from sim.twin.model import TwinModel


@dataclass(frozen=True)
class LeadConfig:
    """How the twin's arm moves to a policy's target."""

    speed_m_s: float = 0.5
    """Of the TCP."""
    rotation_rad_s: float = 2.0
    """Of the TCP."""
    damping: float = 0.02
    """Of the differential inverse kinematics (Nakamura and Hanafusa 1986), against singularities."""
    max_lead_m: float = 0.05
    """The twin waits while the robot's TCP is farther behind than this."""
    target_timeout_s: float = 0.5
    """Targets older than this are not followed."""
    future_s: float = 0.05
    """Targets stamped farther ahead than this are refused: clocks differ by less."""


class Leader:
    """Joint references that bring the twin's TCP to a target. N joints; poses (7,) in the base frame."""

    def __init__(self, twin: TwinModel, config: LeadConfig | None = None) -> None:
        if not twin.plan.tcp_site:
            raise ConfigError("a twin that leads needs the site of the arm's TCP")
        self._twin, self._config = twin, config or LeadConfig()
        self._data = mujoco.MjData(twin.model)
        self._site = twin.model.site(twin.plan.tcp_site).id
        self._low, self._high = self._joint_ranges()
        self._target: tuple[float, FloatArray] | None = None
        self.reference: FloatArray | None = None
        """(N,) where the twin's joints shall be; None until the robot was seen."""

    @property
    def stamp_s(self) -> float:
        """Of the newest target: what the robot is asked to do is as old as what the policy asked for."""
        return -np.inf if self._target is None else self._target[0]

    def target(self, stamp_s: float, pose_base_tcp: FloatArray, now_s: float) -> bool:
        """Whether the target is sound, newer than the last and not of the future."""
        if stamp_s > now_s + self._config.future_s:
            return False
        sound = pose_base_tcp.shape == (7,) and bool(np.isfinite(pose_base_tcp).all())
        if not sound or abs(float(np.linalg.norm(pose_base_tcp[3:])) - 1.0) > 1e-3 or stamp_s < self.stamp_s:
            return False
        self._target = stamp_s, pose_base_tcp
        return True

    def release(self) -> None:
        """Nobody leads: the next reference begins at the robot's joints."""
        self._target, self.reference = None, None

    def step(self, measured: FloatArray, now_s: float, dt_s: float) -> tuple[FloatArray, FloatArray]:
        """Reference (N,) and its velocity `dt_s` on: at the robot while nobody drives, waiting while far ahead."""
        fresh = self._target is not None and now_s - self._target[0] <= self._config.target_timeout_s
        reference = measured.copy() if self.reference is None or not fresh else self.reference
        self.reference = reference
        behind_m = float(np.linalg.norm(self.tcp(reference)[:3] - self.tcp(measured)[:3]))
        if not fresh or behind_m > self._config.max_lead_m:
            return reference, np.zeros_like(reference)
        assert self._target is not None
        change = self._change(reference, self._target[1], dt_s)
        self.reference = np.clip(reference + change, self._low, self._high)
        return self.reference, (self.reference - reference) / dt_s

    def tcp(self, joints: FloatArray) -> FloatArray:
        """(7,) of the TCP with these joints (N,)."""
        model, data, site = self._twin.model, self._data, self._site
        data.qpos[self._twin.qpos] = joints
        mujoco.mj_kinematics(model, data)
        quat = frames.matrix_to_quat(data.site_xmat[site].reshape(3, 3))
        return frames.relative(self._twin.base_pose, np.concatenate([data.site_xpos[site], quat]))

    def _change(self, joints: FloatArray, target: FloatArray, dt_s: float) -> FloatArray:
        """(N,) damped least squares towards the target, within the speeds."""
        config, twin = self._config, self._twin
        present = self.tcp(joints)
        turn = frames.quat_to_rotvec(frames.quat_multiply(target[3:], frames.quat_inverse(present[3:])))
        way = np.concatenate(
            [
                _shorten(target[:3] - present[:3], config.speed_m_s * dt_s),
                _shorten(turn, config.rotation_rad_s * dt_s),
            ]
        )
        to_world = frames.quat_to_matrix(twin.base_pose[3:])
        way = np.concatenate([to_world @ way[:3], to_world @ way[3:]])
        full = np.zeros((6, twin.model.nv))
        mujoco.mj_comPos(twin.model, self._data)
        mujoco.mj_jacSite(twin.model, self._data, full[:3], full[3:], self._site)
        arm = full[:, twin.dofs]
        return arm.T @ solve_positive(arm @ arm.T + config.damping**2 * np.eye(6), way)

    def _joint_ranges(self) -> tuple[FloatArray, FloatArray]:
        model = self._twin.model
        ids = [model.joint(name).id for name in self._twin.plan.joints]
        low, high = model.jnt_range[ids].T
        free = ~model.jnt_limited[ids].astype(bool)
        return np.where(free, -np.inf, low), np.where(free, np.inf, high)


def _shorten(vector: FloatArray, length: float) -> FloatArray:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-12))
