"""What a look at a scene does not tell: friction, damping, weight, delay. Stated priors, or a posterior of experiments.

Every quantity is a factor on the asset's own default, or an absolute time; factors are drawn log-uniformly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError
from sim.arm_joints import ArmPhysics
from sim.sysid.parameters import ArmPosterior

Range = tuple[float, float]


@dataclass(frozen=True)
class Physics:
    """One draw; the defaults are the assets' own values."""

    friction: float = 1.0
    """Sliding friction of all contacts."""
    density: float = 1.0
    """Masses and inertias."""
    joint_friction: float = 1.0
    """Dry friction of hinges and slides."""
    joint_damping: float = 1.0
    """Viscous friction of hinges and slides."""
    arm_gain: float = 1.0
    """Stiffness of the arm's controller."""
    delay_s: float = 0.0
    """Time from a command to the arm's target."""
    arm: ArmPhysics = field(default_factory=ArmPhysics)
    """How the arm's joints differ from its model."""


@dataclass(frozen=True)
class PhysicsPrior:
    """What is taken for possible before anything was measured: (low, high) of each quantity.

    Sliding friction of common pairs spans a factor of four (Engineering ToolBox, "Friction coefficients"); densities
    of household goods depend on their filling; cupboard hinges and drawer runners take 0.5 to 5 N at the handle; ROS 2
    arm drivers answer after 10 to 80 ms.
    """

    friction: Range = (0.5, 2.0)
    """Factor."""
    density: Range = (0.4, 2.5)
    """Factor."""
    joint_friction: Range = (0.25, 4.0)
    """Factor."""
    joint_damping: Range = (0.25, 4.0)
    """Factor."""
    arm_gain: Range = (0.6, 1.4)
    """Factor."""
    delay_s: Range = (0.0, 0.08)
    """Seconds, drawn uniformly."""

    def __post_init__(self) -> None:
        for name, (low, high) in vars(self).items():
            if not (high >= low and (low > 0.0 or (name == "delay_s" and low == 0.0)) and np.isfinite(high)):
                raise ConfigError(f"{name} must be a positive range (low, high); got {(low, high)}")

    def sample(self, rng: np.random.Generator) -> Physics:
        """One draw."""
        values: dict[str, Any] = {}
        for one in fields(self):
            low, high = getattr(self, one.name)
            is_time = one.name.endswith("_s")
            values[one.name] = float(rng.uniform(low, high) if is_time else np.exp(rng.uniform(*np.log([low, high]))))
        return Physics(**values)

    def nominal(self) -> Physics:
        """The middle: geometric mean of factors, mean of times."""
        middle: dict[str, Any] = {
            one.name: float(np.mean(span) if one.name.endswith("_s") else np.sqrt(span[0] * span[1]))
            for one in fields(self)
            for span in [getattr(self, one.name)]
        }
        return Physics(**middle)


@dataclass(frozen=True)
class PhysicsPosterior:
    """What experiments left possible: mean and standard deviation of each quantity's logarithm (times: of itself)."""

    mean: Physics
    """Geometric means (times: means)."""
    log_std: Physics
    """Standard deviations of the logarithms (times: in seconds)."""
    arm: ArmPosterior | None = None
    """What an identification of the arm left possible (`sim.sysid`): then gain and delay, too, are drawn from it."""

    def sample(self, rng: np.random.Generator) -> Physics:
        """One draw."""
        values: dict[str, Any] = {}
        for name in (one.name for one in fields(PhysicsPrior)):
            mean, std = getattr(self.mean, name), getattr(self.log_std, name)
            step = float(rng.normal(0.0, std))
            values[name] = max(mean + step, 0.0) if name.endswith("_s") else mean * float(np.exp(step))
        drawn = {} if self.arm is None else self.arm.sample(rng)
        return replace(self.mean, **{**values, **drawn})

    def nominal(self) -> Physics:
        return self.mean if self.arm is None else replace(self.mean, **self.arm.nominal())


def with_arm(prior: PhysicsPrior, arm: ArmPosterior) -> PhysicsPosterior:
    """The prior's spread for the scene's objects, an identification's for the arm."""
    spans = vars(prior).items()
    wide: dict[str, Any] = {name: float(np.log(high / low) / np.sqrt(12.0)) for name, (low, high) in spans if low > 0.0}
    return PhysicsPosterior(prior.nominal(), Physics(**wide), arm)
