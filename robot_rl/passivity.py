"""A penalty for energy that the arm puts into its surroundings beyond what a tank of energy would pay for.

A policy is passive if all the energy that it gives away was stored before. Virtual tanks, sampled at every control
step, are those of 2301.12759 (Zanella et al.); policies that know of energy while they learn, there by a constraint,
here by a penalty, are the proposal of 2503.00287 (Zhang et al.). The penalty only teaches, it holds nothing back.

    power P = -wrench . twist                                   W: force . velocity + torque . angular velocity
    energy E = 1/2 (P_before + P_after) (t_after - t_before)    J
    tank T <- min(T - E, capacity), at least 0                  J: what flows back fills it
    unpaid U = max(E - T, 0)                                    J
    reward <- reward - min(weight U, largest)

The wrench is what the surroundings exert on the hand at the TCP, a held object's weight included; wrench and twist
are in the base frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.errors import ConfigError
from robot_rl.types import ArmState


@dataclass(frozen=True)
class PassivityConfig:
    """The tank, and what it costs when it is empty."""

    weight_per_j: float = 0.1
    """Reward lost for a joule that the tank could not pay."""
    capacity_j: float = 1.0
    """Energy of the full tank, as it is when an episode begins; lifting 100 g by a metre takes 1 J."""
    largest: float = 0.1
    """Reward lost in one step at most; below 1, so that a step that succeeds is still worth something."""

    def __post_init__(self) -> None:
        if not self.weight_per_j > 0.0 or not self.capacity_j >= 0.0 or not 0.0 < self.largest < 1.0:
            raise ConfigError(f"need weight_per_j > 0, capacity_j >= 0 and largest in (0, 1); got {self}")


class EnergyTank:
    """The tank of one episode after the other."""

    def __init__(self, config: PassivityConfig) -> None:
        self.config = config
        self.energy_j = config.capacity_j

    def fill(self) -> None:
        """An episode begins."""
        self.energy_j = self.config.capacity_j

    def pay(self, before: ArmState, after: ArmState) -> float:
        """The reward that the step between two states costs."""
        energy_j = 0.5 * (power_w(before) + power_w(after)) * (after.stamp_s - before.stamp_s)
        unpaid_j = max(energy_j - self.energy_j, 0.0)
        self.energy_j = min(max(self.energy_j - energy_j, 0.0), self.config.capacity_j)
        return min(self.config.weight_per_j * unpaid_j, self.config.largest)


def power_w(state: ArmState) -> float:
    """Power that the arm gives to its surroundings, in watts."""
    return -float(state.wrench_base @ state.twist_base_tcp)
