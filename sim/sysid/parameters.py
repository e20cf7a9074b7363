"""The parameters of an arm that are identified, as one vector with a prior.

Letters: N arm joints, P parameters. A parameter is kept as `z`, its distance from the prior's median in prior standard
deviations, of its logarithm where it must be positive: there every prior is a standard normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from robot_rl.types import FloatArray
from sim.arm_joints import ArmPhysics


@dataclass(frozen=True)
class Parameter:
    """One number."""

    name: str
    """Of the quantity: a field of `ArmPhysics`, or `arm_gain`, `delay_s`."""
    index: int | None
    """Which element of a vector."""
    median: float
    """Of the prior."""
    std: float
    """Of the prior: of the logarithm, or of the number itself where it may be zero."""
    shift_z: float
    """Standard deviation, in `z`, of how far effects outside the model class pull it: what no residual can show, for
    a fit absorbs it (cables and loaded gears look like friction). From the errors on hidden arms of both robots with
    seeds from 1000.
    """
    is_log: bool = True
    """Whether the prior is of its logarithm."""
    least: float = -np.inf
    """No smaller than this (numbers that are not logarithms)."""

    @property
    def label(self) -> str:
        return self.name if self.index is None else f"{self.name}[{self.index}]"

    def value(self, z: FloatArray) -> FloatArray:
        """The number(s) at `z`, any shape."""
        if self.is_log:
            return self.median * np.exp(self.std * z)
        return np.maximum(self.median + self.std * z, self.least)

    def z(self, value: float) -> float:
        """Inverse of `value`."""
        if self.is_log:
            return float(np.log(value / self.median) / self.std)
        return (value - self.median) / self.std

    @property
    def lowest_z(self) -> float:
        return -4.0 if self.is_log else max(-4.0, (self.least - self.median) / self.std)


@cache
def parameters(joints: int) -> tuple[Parameter, ...]:
    """What is identified of an arm with so many joints.

    Priors: gain and delay are those of `PhysicsPrior`. Friction and damping span what was measured on the joints of
    the Panda (Gaz et al., "Dynamic identification of the Franka Emika Panda robot", RA-L 2019) and of the UR5e by a
    factor of five either way. Rotor inertias of data sheets are good to some 20 %. Static friction exceeds kinetic
    by 20 to 80 % (Armstrong-Helouvry, 1991). Harmonic drives have play below 1 arc minute, spur gears some.
    """
    every = range(joints)
    return (
        Parameter("arm_gain", None, 0.917, 0.245, 0.35),
        Parameter("delay_s", None, 0.04, 0.023, 0.05, False, 0.0),
        *(Parameter("friction_nm", i, 0.8, 0.8, 0.7) for i in every),
        Parameter("stribeck", None, 0.4, 0.6, 0.5),
        Parameter("damping_nm_s", None, 1.0, 0.8, 0.45),
        *(Parameter("armature", i, 1.0, 0.15, 0.45) for i in every),
        Parameter("payload_kg", None, 0.4, 0.4, 0.3, False, 0.0),
        *(Parameter("payload_tcp_m", i, 0.0, 0.03, 0.3, False) for i in range(3)),
        *(Parameter("backlash_rad", i, 5e-4, 0.8, 0.9) for i in every),
    )


def values(z: FloatArray, joints: int) -> FloatArray:
    """Natural values (..., P) of `z` (..., P)."""
    return np.stack([one.value(z[..., i]) for i, one in enumerate(parameters(joints))], -1)


def to_fields(z: FloatArray, joints: int) -> dict[str, Any]:
    """`arm_gain`, `delay_s` and `arm`: fields of `sim.cousins.physics.Physics` at `z` (P,)."""
    gathered: dict[str, list[float]] = {}
    is_vector: dict[str, bool] = {}
    for one, value in zip(parameters(joints), values(z, joints), strict=True):
        gathered.setdefault(one.name, []).append(float(value))
        is_vector[one.name] = one.index is not None
    fields: dict[str, Any] = {
        name: tuple(numbers) if is_vector[name] else numbers[0] for name, numbers in gathered.items()
    }
    fields["damping_nm_s"] = (fields["damping_nm_s"],) * joints  # the same for all: no log tells them apart
    gain, delay_s = fields.pop("arm_gain"), fields.pop("delay_s")
    return {"arm_gain": gain, "delay_s": delay_s, "arm": ArmPhysics(**fields)}


def physics_values(fields: Any, joints: int) -> FloatArray:
    """Natural values (P,) of a `Physics` whose arm has all of them."""
    found = {**vars(fields.arm), "arm_gain": fields.arm_gain, "delay_s": fields.delay_s}
    found["damping_nm_s"] = float(np.mean(found["damping_nm_s"]))
    return np.array(
        [found[one.name] if one.index is None else found[one.name][one.index] for one in parameters(joints)]
    )


@dataclass(frozen=True)
class ArmPosterior:
    """A normal distribution over `z` (P,): what an identification leaves possible."""

    mean_z: tuple[float, ...]
    """(P,)"""
    covariance_z: tuple[tuple[float, ...], ...]
    """(P, P)"""
    joints: int
    """N."""

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Fields of `Physics`, drawn together."""
        return to_fields(
            self._bounded(rng.multivariate_normal(self.mean_z, np.asarray(self.covariance_z))), self.joints
        )

    def nominal(self) -> dict[str, Any]:
        """Fields of `Physics` in the middle."""
        return to_fields(self._bounded(np.asarray(self.mean_z)), self.joints)

    def interval(self, factor: float = 1.96) -> FloatArray:
        """(P, 2) ends of the intervals of natural values; 95 % by default."""
        mean, std = np.asarray(self.mean_z), np.sqrt(np.diag(np.asarray(self.covariance_z)))
        return np.stack([values(mean - factor * std, self.joints), values(mean + factor * std, self.joints)], -1)

    def _bounded(self, z: FloatArray) -> FloatArray:
        return np.maximum(z, [one.lowest_z for one in parameters(self.joints)])
