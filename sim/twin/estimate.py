"""What a twin says at one tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robot_rl.types import FloatArray
from sim.twin.model import Factors


@dataclass(frozen=True, slots=True)
class ObjectEstimate:
    """One object, as the twin has it now."""

    pose: FloatArray  # (7,) base frame
    innovation: FloatArray  # (6,) newest: measured less simulated, world frame; m and rad
    wrench: FloatArray  # (6,) what would have had to act for a period to the same effect: N, N m, world frame
    nis: float  # mean over the window; 6 where the model is right
    predictive: bool  # the window's NIS is below the chi-squared threshold


@dataclass(frozen=True, slots=True)
class Estimate:
    """The twin at one tick."""

    stamp_s: float
    joints: FloatArray  # (N,)
    objects: Mapping[str, ObjectEstimate]
    weights: FloatArray  # (particles,)
    factors: Factors  # weighted geometric mean
    blind: str  # what is missing; empty when nothing is
    failures: int  # hard resets past the gate, so far
    rejected: Mapping[str, int]  # measurements refused so far, by reason

    @property
    def predictive(self) -> bool:
        return all(one.predictive for one in self.objects.values())


def mean_pose(poses: FloatArray, weights: FloatArray) -> FloatArray:
    """(7,) weighted mean of close poses (N, 7)."""
    signs = np.where(poses[:, 3:] @ poses[int(weights.argmax()), 3:] < 0.0, -1.0, 1.0)
    quat = weights @ (signs[:, None] * poses[:, 3:])
    return np.concatenate([weights @ poses[:, :3], quat / np.linalg.norm(quat)])
