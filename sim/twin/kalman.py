"""The Kalman filter of an object's error, in its own degrees of freedom: six of a free body, one of a door.

The simulation is the mean; here is only its covariance. Error e = (dq, dv) (2D,), with D degrees of freedom;
measured are position and rotation vector in the world (6,), so H = [J 0] with the frame's Jacobian J (6, D).
Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and Navigation" (2001), chapters 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from robot_rl.types import FloatArray

POSE_DIM = 6


@dataclass(frozen=True)
class NoiseConfig:
    """What measurements and the model's prediction are worth."""

    position_m: float = 0.002
    """Standard deviation of a measured position, per axis."""
    rotation_rad: float = float(np.deg2rad(1.0))
    """Of a measured orientation, per axis."""
    acceleration_m_s2: float = 0.8
    """Of what the model gets wrong (friction, contacts) in an object's acceleration, per axis."""
    angular_rad_s2: float = 8.0
    """The same for its angular acceleration."""
    start_velocity_m_s: float = 0.05
    """Of an object's velocity when it is first seen."""
    start_rotation_rad_s: float = 0.5
    """The same for its angular velocity."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a measurement does to the state, and how likely an innovation is beside it."""

    gain: FloatArray  # (2D, 6)
    inverse_spread: FloatArray  # (6, 6) S^-1 with S = H P H^T + R
    log_det: float  # of 2 pi S

    def nis(self, innovation: FloatArray) -> float:
        """Normalised innovation squared: chi-squared with 6 degrees of freedom where all is well."""
        return float(innovation @ self.inverse_spread @ innovation)

    def log_likelihood(self, nis: float) -> float:
        return -0.5 * (nis + self.log_det)


class ErrorFilter:
    """Covariance (2D, 2D) of one object's error."""

    def __init__(self, config: NoiseConfig) -> None:
        self._measurement = _blocks(config.position_m, config.rotation_rad)
        self._acceleration = _blocks(config.acceleration_m_s2, config.angular_rad_s2)
        self._velocity = _blocks(config.start_velocity_m_s, config.start_rotation_rad_s)
        self.covariance: FloatArray = np.zeros((0, 0))

    def start(self, jacobian: FloatArray) -> None:
        """The object was just put where it is measured."""
        position, velocity = _in_dofs(self._measurement, jacobian), _in_dofs(self._velocity, jacobian)
        self.covariance = np.block([[position, np.zeros_like(position)], [np.zeros_like(position), velocity]])

    def predict(self, dt_s: float, jacobian: FloatArray) -> None:
        """`dt_s` go by with an unknown constant acceleration (piecewise white, Bar-Shalom 6.3.2)."""
        noise = _in_dofs(self._acceleration, jacobian)
        dofs = len(noise)
        transition = np.eye(2 * dofs)
        transition[:dofs, dofs:] = dt_s * np.eye(dofs)
        shape = np.array([[dt_s**4 / 4.0, dt_s**3 / 2.0], [dt_s**3 / 2.0, dt_s**2]])
        self.covariance = transition @ self.covariance @ transition.T + np.kron(shape, noise)

    def gain(self, jacobian: FloatArray) -> Gain:
        """For a measurement now."""
        dofs = jacobian.shape[1]
        cross = self.covariance[:, :dofs] @ jacobian.T
        spread = jacobian @ cross[:dofs] + self._measurement
        inverse = np.linalg.inv(spread)
        return Gain(cross @ inverse, inverse, float(np.linalg.slogdet(2.0 * np.pi * spread)[1]))

    def take(self, gain: FloatArray, jacobian: FloatArray) -> None:
        """The measurement was believed (Joseph's form: stays positive definite)."""
        keep = np.eye(len(gain))
        keep[:, : jacobian.shape[1]] -= gain @ jacobian
        self.covariance = keep @ self.covariance @ keep.T + gain @ self._measurement @ gain.T


def nis_bound(probability: float, measurements: int = 1) -> float:
    """What the sum of so many NIS stays below with `probability` where the model is right."""
    return float(chi2.ppf(probability, POSE_DIM * measurements))


def _blocks(linear: float, angular: float) -> FloatArray:
    return np.diag(np.square([linear] * 3 + [angular] * 3))


def _in_dofs(covariance: FloatArray, jacobian: FloatArray) -> FloatArray:
    """(D, D) of what (6, 6) leaves possible in the degrees of freedom: (J^T W^-1 J)^-1."""
    return np.linalg.inv(jacobian.T @ (jacobian / np.diag(covariance)[:, None]))
