"""Critics of rewards that also know what can stay safe (FISOR, 2401.10700).

Shape letters: B batch, N members, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.inputs import Moments
from policies.values import ChunkCriticConfig, ChunkCriticNet
from robot_rl.types import ActionSpec, ObservationSpec


@dataclass(frozen=True)
class FeasibleCriticConfig(ChunkCriticConfig):
    """Networks of both; those of feasibility have an encoder of their own, and learn by regression."""

    def build(self, observation_spec: ObservationSpec, action_spec: ActionSpec) -> FeasibleCriticNet:
        return FeasibleCriticNet(self, observation_spec, action_spec)


class FeasibleCriticNet(ChunkCriticNet):
    """Implements `robot_rl.algorithms.fisor.FeasibleCritic`; its own values are those of rewards."""

    def __init__(
        self, config: FeasibleCriticConfig, observation_spec: ObservationSpec, action_spec: ActionSpec
    ) -> None:
        super().__init__(config, observation_spec, action_spec)
        alike = ChunkCriticConfig(config.inputs, config.horizon, config.members, config.hidden, config.activation)
        self.feasibility = ChunkCriticNet(alike, observation_spec, action_spec)

    def fit_normalizers(self, moments: Moments) -> None:
        """Take mean and standard deviation of the data."""
        super().fit_normalizers(moments)
        self.feasibility.fit_normalizers(moments)
