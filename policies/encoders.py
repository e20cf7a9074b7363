"""Observation encoders: state as it is, images through a small CNN. Shape letters: B batch, S state, F features."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from robot_rl.ensemble import EnsembleMLP
from robot_rl.types import STATE_KEY


class StateEncoder(nn.Module):
    """The state itself, or a dense layer of it (HIL-SERL's proprioception: dense, LayerNorm, tanh)."""

    def __init__(self, state_dim: int, features: int | None = None) -> None:
        super().__init__()
        self.feature_dim = state_dim if features is None else features
        self.layer = None if features is None else EnsembleMLP(1, state_dim, (features,), None)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """`state` (B, S): (B, F)."""
        state = observation[STATE_KEY]
        return state if self.layer is None else self.layer(state).squeeze(0)
