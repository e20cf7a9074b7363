"""Several arms that repeat one run at the same time: the controller's arithmetic is done for all of them together.

Letters: B arms, N joints, T steps.
What `SimArm` and `PoseController` do one by one, to rounding, in half the time.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.arm import CLOCK_TOLERANCE_S
from sim.arm_joints import dry_friction, read_with_play
from sim.osc import Reference, rotation_error
from sim.sysid.log import Run
from sim.sysid.lone_arm import LoneArm

Way = tuple[FloatArray, FloatArray, FloatArray]
"""Positions (K, 3), quaternions (K, 4) and velocities (K, 6) of a reference at K updates of the controller."""


def repeat_together(arms: Sequence[LoneArm], run: Run, rate_hz: float) -> FloatArray:
    """Joints (B, T + 1, N) of `arms` when `run`'s targets are sent from its first joints.

    Each when it was sent (`Run.sent_s`); the joints are those at the times of the measurements. On a machine that is
    late steps last longer than a period.
    """
    for one in arms:
        one.reset(0)
        one.arm.start_at(run.joints_rad[0])
    group = _Group(arms)
    ticks = group.ticks(run.stamps_s[-1], rate_hz)
    ways: dict[float, Way] = {}
    for one in arms:
        if one.config.delay_s not in ways:
            ways[one.config.delay_s] = _way(one, run, rate_hz, ticks)
    way = [np.stack([ways[one.config.delay_s][part] for one in arms], 1) for part in range(3)]
    joints = [group.joints()]
    for tick in range(ticks):
        group.advance(way[0][tick], way[1][tick], way[2][tick])
        joints.append(group.joints())
    return _at(run.stamps_s * arms[0].config.controller.rate_hz, np.stack(joints, 1))


def _at(ticks: FloatArray, values: FloatArray) -> FloatArray:
    """`values` (B, K, N), one each tick, between them at `ticks` (T + 1,)."""
    before = np.clip(np.floor(ticks + CLOCK_TOLERANCE_S).astype(int), 0, values.shape[1] - 1)
    after = np.minimum(before + 1, values.shape[1] - 1)
    share = np.clip(ticks - before, 0.0, 1.0)[:, None]
    return values[:, before] + share * (values[:, after] - values[:, before])


def _way(one: LoneArm, run: Run, rate_hz: float, ticks: int) -> Way:
    """The reference at each update: it depends on targets and delay, not on what the arm makes of them."""
    config = one.config
    pose = one.arm.reading()[1]
    base = one.data.body(one.base_body)
    to_world = np.concatenate([base.xpos, base.xquat])
    start = frames.compose(to_world, pose)
    reference, found, sent = Reference(config.controller, start[:3], start[3:], 0.0), [], 0
    due_s = run.sent_s(rate_hz) + config.delay_s
    for tick in range(ticks):
        now_s = tick / config.controller.rate_hz
        soon_s = now_s + 1.0 / config.controller.rate_hz - CLOCK_TOLERANCE_S
        while sent < len(run.targets_base) and due_s[sent] < soon_s:
            target = frames.compose(to_world, run.targets_base[sent])
            reference.command(target[:3], target[3:], due_s[sent])
            sent += 1
        found.append(reference.at(now_s))
    positions, quats, velocities = (np.array(part) for part in zip(*found, strict=True))
    return positions, quats, velocities


class _Group:
    """The arms' states and parameters as arrays."""

    def __init__(self, arms: Sequence[LoneArm]) -> None:
        self._arms, self._joints = arms, [one.arm.joints for one in arms]
        first = self._joints[0]
        self._dofs, self._qpos, self._grid = first.dofs, first.qpos, np.ix_(first.dofs, first.dofs)
        physics = [one.physics for one in self._joints]
        self._kinetic = np.stack([one.friction_nm for one in self._joints])
        self._excess = np.array([[one.stribeck] for one in physics])
        self._fall = np.array([[one.stribeck_rad_s] for one in physics])
        self._half = 0.5 * np.stack([one.backlash_rad for one in self._joints])
        config = arms[0].config.controller
        gains = [[one.config.controller.position_kp] * 3 + [one.config.controller.rotation_kp] * 3 for one in arms]
        self._kp, self._posture_kp = np.array(gains), config.posture_kp
        self._kd = 2.0 * np.sqrt(self._kp)
        self._damping = config.damping * np.eye(6)
        self._limit, self._actuators = arms[0].arm.torque_limit, arms[0].arm.actuator_ids
        self._site = arms[0].arm.site_id
        self._play = self._home = np.stack([one.data.qpos[self._qpos] for one in arms])
        self._substeps = max(1, round(1.0 / (config.rate_hz * arms[0].model.opt.timestep)))
        self._rate_hz = config.rate_hz

    def ticks(self, lasts_s: float, rate_hz: float) -> int:
        """Updates of the controller in so long; `ConfigError` where its rate does not fit the log's."""
        per_step = round(self._rate_hz / rate_hz)
        if abs(per_step * rate_hz - self._rate_hz) > 1e-6 * self._rate_hz:
            raise ConfigError(
                f"a log at {rate_hz:g} Hz cannot be fitted: the controller's {self._rate_hz:g} Hz must be a multiple"
            )
        return int(np.ceil(lasts_s * self._rate_hz - CLOCK_TOLERANCE_S))

    def joints(self) -> FloatArray:
        """What the encoders say now, (B, N)."""
        joints = np.stack([one.data.qpos[self._qpos] for one in self._arms])
        self._play = read_with_play(self._play, joints, self._half)
        return self._play

    def advance(self, position: FloatArray, quat: FloatArray, velocity: FloatArray) -> None:
        """One controller period towards references (B, 3), (B, 4), (B, 6)."""
        joints = self.joints()
        speed = np.stack([one.data.qvel[self._dofs] for one in self._arms])
        friction = dry_friction(self._kinetic, self._excess, self._fall, speed)
        torques = self._torques(joints, speed, position, quat, velocity)
        for arm, friction_nm, torque in zip(self._arms, friction, torques, strict=True):
            arm.model.dof_frictionloss[self._dofs] = friction_nm
            arm.data.ctrl[self._actuators] = torque
            mujoco.mj_step2(arm.model, arm.data)
            mujoco.mj_step(arm.model, arm.data, self._substeps - 1)
            mujoco.mj_step1(arm.model, arm.data)

    def _torques(
        self, joints: FloatArray, speed: FloatArray, position: FloatArray, quat: FloatArray, velocity: FloatArray
    ) -> FloatArray:
        """`PoseController.torques` of all arms, (B, N)."""
        count, size = joints.shape
        jacobian, mass = np.empty((count, 6, size)), np.empty((count, size, size))
        error, bias = np.empty((count, 6)), np.empty((count, size))
        full, wide = np.empty((self._arms[0].model.nv,) * 2), np.empty((6, self._arms[0].model.nv))
        for index, one in enumerate(self._joints):
            model, view = one.view_model, one.view
            one.look_at(joints[index], speed[index])
            mujoco.mj_jacSite(model, view, wide[:3], wide[3:], self._site)
            mujoco.mj_fullM(model, full, view.qM)
            jacobian[index], mass[index] = wide[:, self._dofs], full[self._grid]
            error[index, :3] = position[index] - view.site_xpos[self._site]
            error[index, 3:] = rotation_error(quat[index], view.site_xmat[self._site])
            bias[index] = view.qfrc_bias[self._dofs] - view.qfrc_passive[self._dofs]
        acceleration = self._kp * error + self._kd * (velocity - np.einsum("bij,bj->bi", jacobian, speed))
        posture = self._posture_kp * (self._home - joints) - 2.0 * self._posture_kp**0.5 * speed
        turned = jacobian.transpose(0, 2, 1)
        inverse_inertia = jacobian @ np.linalg.solve(mass, turned) + self._damping
        wanted = acceleration - np.einsum("bij,bj->bi", jacobian, posture)
        force = np.linalg.solve(inverse_inertia, wanted[..., None])
        torque = (turned @ force + mass @ posture[..., None])[..., 0] + bias
        return np.clip(torque, -self._limit, self._limit)
