"""An arm that stands for a real one: what its joints do beyond `ArmPhysics`, which no twin has.

Static friction falls off by another law (Hess and Soom, "Friction at a lubricated line contact", J. Tribology 1990),
friction grows with the load of a joint, joints give under it, cogging goes with the angle, cables pull back
(Dahl, "A solid friction model", 1968), commands are late by a changing time, encoders shake and count.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np

from robot_rl.types import FloatArray
from sim.arm import SimArm
from sim.arm_joints import ArmJoints, ArmPhysics
from sim.cousins.physics import Physics


@dataclass(frozen=True)
class HiddenArm:
    """What no fitted arm has; the defaults change nothing."""

    fall_rad_s: float = 0.05
    """Static friction's excess falls off as 1 / (1 + (speed / this)^2)."""
    load_friction: float = 0.0
    """Friction per torque that the joint carries."""
    stiffness_nm_rad: float = np.inf
    """Of every joint, between its encoder and what it moves."""
    cogging_nm: float = 0.0
    """Amplitude of a torque that goes with the angle."""
    cogging_per_turn: int = 12
    """Its periods per turn."""
    cable_nm: float = 0.0
    """Largest pull of a cable (Dahl)."""
    cable_rad: float = 0.1
    """Way over which it builds up."""
    jitter_s: float = 0.0
    """A command's delay is off by up to so much, either way."""
    noise_rad: float = 0.0
    """Standard deviation of the encoders."""
    count_rad: float = 0.0
    """One count of the encoders."""


def draw_arm(seed: int, joints: int = 7) -> tuple[Physics, HiddenArm]:
    """The arm of `seed`: what can be said in a twin's terms, and what cannot."""
    rng = np.random.default_rng([seed, *b"arm"])

    def each(low: float, high: float) -> tuple[float, ...]:
        return tuple(map(float, np.exp(rng.uniform(np.log(low), np.log(high), joints))))

    arm = ArmPhysics(
        friction_nm=each(0.3, 2.5),
        stribeck=float(rng.uniform(0.2, 0.8)),
        damping_nm_s=(float(np.exp(rng.uniform(*np.log((0.4, 3.0))))),) * joints,
        armature=each(0.8, 1.25),
        payload_kg=float(rng.uniform(0.0, 0.8)),
        payload_tcp_m=(
            float(rng.uniform(-0.04, 0.04)),
            float(rng.uniform(-0.04, 0.04)),
            float(rng.uniform(-0.05, 0.05)),
        ),
        backlash_rad=each(2e-4, 1.5e-3),
    )
    physics = Physics(arm_gain=float(rng.uniform(0.7, 1.2)), delay_s=float(rng.uniform(0.02, 0.07)), arm=arm)
    return physics, HiddenArm(
        fall_rad_s=float(rng.uniform(0.02, 0.08)),
        load_friction=float(rng.uniform(0.0, 0.04)),
        stiffness_nm_rad=float(np.exp(rng.uniform(*np.log((8e3, 3e4))))),
        cogging_nm=float(rng.uniform(0.05, 0.3)),
        cogging_per_turn=int(rng.integers(8, 25)),
        cable_nm=float(rng.uniform(0.0, 0.4)),
        cable_rad=float(rng.uniform(0.05, 0.2)),
        jitter_s=float(rng.uniform(0.0, 0.004)),
        noise_rad=float(rng.uniform(2e-5, 8e-5)),
        count_rad=float(rng.uniform(2e-5, 1e-4)),
    )


class HiddenJoints(ArmJoints):
    """The joints of an arm as `HiddenArm` has them."""

    def __init__(self, arm: SimArm, hidden: HiddenArm, seed: int) -> None:
        was = arm.joints
        super().__init__(was.model, was.data, was.dofs, was.qpos, arm.site_id, was.nominal or copy(was.model))
        self._hidden, self._seed, self._actuators = hidden, seed, arm.actuator_ids
        self._rng = np.random.default_rng(seed)
        self._due_s = 0.0

    def start(self) -> None:
        self._rng, self._due_s = np.random.default_rng([self._seed, 4]), 0.0
        self._cable = np.zeros(len(self.dofs))
        self._before, self._shake = self.data.qpos[self.qpos].copy(), np.zeros(len(self.dofs))
        super().start()

    def act(self) -> None:
        hidden, data = self._hidden, self.data
        joints = data.qpos[self.qpos]
        step, self._before = joints - self._before, joints.copy()
        # Dahl's model with exponent 1, over the way since the last update
        self._cable = self._cable + (hidden.cable_nm * np.sign(step) - self._cable) * (
            1.0 - np.exp(-np.abs(step) / hidden.cable_rad)
        )
        cogging = hidden.cogging_nm * np.sin(hidden.cogging_per_turn * joints + np.arange(len(joints)))
        data.qfrc_applied[self.dofs] = cogging - self._cable
        self._shake = hidden.noise_rad * self._rng.standard_normal(len(joints))
        super().act()

    def friction(self, speed_rad_s: FloatArray) -> FloatArray:
        hidden = self._hidden
        excess = self.physics.stribeck / (1.0 + np.square(speed_rad_s / hidden.fall_rad_s))
        return self.friction_nm * (1.0 + excess) + hidden.load_friction * np.abs(self._load_nm())

    def measured(self) -> tuple[FloatArray, FloatArray]:
        joints, speed = super().measured()
        seen = joints + self._load_nm() / self._hidden.stiffness_nm_rad + self._shake
        count = self._hidden.count_rad
        return (np.round(seen / count) * count if count else seen), speed

    def command_delay_s(self, delay_s: float) -> float:
        late_s = delay_s + self._hidden.jitter_s * float(self._rng.uniform(-1.0, 1.0))
        self._due_s = max(self.data.time + max(late_s, 0.0), self._due_s)
        return self._due_s - self.data.time

    def _load_nm(self) -> FloatArray:
        return self.data.ctrl[self._actuators]
