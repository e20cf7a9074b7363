"""The tanh-squashed Gaussian policy for the arm with a discrete gripper: its networks, and acting with them.

Shape letters: B batch, F features, A arm action elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.encoders import ImageEncoder, PixelEncoder, StateEncoder
from policies.parameters import load_parameters
from robot_rl.algorithms.networks import GRIPPER_VALUES, PolicyNetworks
from robot_rl.critics import DiscreteCritic
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY, ActionSpec, FloatArray, Goal, Observation, ObservationSpec

GRIPPER_TARGET = "gripper.target"  # element of the environment's state
STD_MIN, STD_MAX = 1e-5, 5.0  # HIL-SERL


@dataclass(frozen=True)
class GaussianConfig:
    """Networks of the policy, and how it explores."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of the actor and of the gripper critic."""
    activation: str = "tanh"
    """tanh, silu or relu."""
    state_features: int | None = None
    """Width of a dense layer in front of the state; none feeds the state in as it is."""
    image_channels: tuple[int, ...] = (32, 32, 32)
    """Channels of each camera's convolutions: 4x4 patches, 3x3 with stride 2, then 3x3."""
    image_features: int = 128
    """Width of each camera's bottleneck."""
    gripper_epsilon: float = 0.0
    """Probability of a random gripper command per step while exploring."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.gripper_epsilon <= 1.0:
            raise ConfigError(f"gripper_epsilon must lie in [0, 1], got {self.gripper_epsilon}")


class GaussianActor(nn.Module):
    """Features to mean and standard deviation before the squash."""

    def __init__(self, features: int, actions: int, config: GaussianConfig) -> None:
        super().__init__()
        self.net = EnsembleMLP(1, features, config.hidden, 2 * actions, config.activation)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F): mean and std, each (B, A)."""
        mean, log_std = self.net(features).squeeze(0).chunk(2, -1)
        return mean, log_std.exp().clamp(STD_MIN, STD_MAX)


def build_networks(
    config: GaussianConfig, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0
) -> PolicyNetworks:
    """The policy's networks with weights drawn from `seed`; learner and actor both build them with this."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, features = _build_encoder(config, observation_spec)
        actor = GaussianActor(features, action_spec.arm_dim, config)
        gripper = None
        if action_spec.has_gripper:
            gripper = DiscreteCritic(features, len(GRIPPER_VALUES), config.hidden, config.activation)
    names = observation_spec.arrays[STATE_KEY].names if STATE_KEY in observation_spec.arrays else ()
    target_index = names.index(GRIPPER_TARGET) if GRIPPER_TARGET in names else None
    return PolicyNetworks(encoder, actor, gripper, features, action_spec.arm_dim, target_index)


def _build_encoder(config: GaussianConfig, spec: ObservationSpec) -> tuple[nn.Module, int]:
    """The encoder of what `spec` has, and its number of features."""
    state = StateEncoder(spec.state_dim, config.state_features) if spec.state_dim else None
    if not spec.image_keys:
        if state is None:
            raise ConfigError("the observation has neither a state nor an image")
        return state, state.feature_dim
    cameras = {}
    for key in spec.image_keys:
        height, width, _ = spec.arrays[key].shape
        cameras[key] = ImageEncoder((height, width), config.image_channels, config.image_features)
    dim = len(cameras) * config.image_features + (state.feature_dim if state else 0)
    return PixelEncoder(cameras, state), dim


class GaussianPolicy:
    """Acts with the newest parameters; implements `robot_rl.protocols.Policy`. Not thread safe."""

    def __init__(
        self,
        config: GaussianConfig,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int = 0,
        deterministic: bool = False,
    ) -> None:
        """Without `deterministic` it samples, and the gripper explores with `config.gripper_epsilon`."""
        self.config = config
        self.deterministic = deterministic
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self._networks = build_networks(config, observation_spec, action_spec, seed).requires_grad_(False)
        self._rng = np.random.default_rng(seed)
        self._version = 0

    @property
    def version(self) -> int:
        return self._version

    def reset(self, goal: Goal | None = None) -> None:
        """Nothing is remembered from one step to the next."""

    def load(self, version: int, tensors: Mapping[str, Any]) -> None:
        """Take new parameters (tensors or arrays); `SpecError` and the old ones kept when they do not fit."""
        load_parameters(self._networks, tensors)
        self._version = version

    @torch.inference_mode()
    def act(self, observation: Observation) -> FloatArray:
        """Action (A,) float32 in [-1, 1]; the gripper element is one of -1, 0, 1."""
        batch = {key: torch.from_numpy(observation[key]).unsqueeze(0) for key in self.observation_spec.arrays}
        networks = self._networks
        features = networks.encoder(batch)
        mean, std = (part.squeeze(0).numpy() for part in networks.actor(features))
        if not self.deterministic:
            mean = mean + std * self._rng.standard_normal(mean.shape, np.float32)
        action = np.empty(self.action_spec.dim, np.float32)
        action[: networks.arm_dim] = np.tanh(mean)
        if networks.gripper is not None:
            action[-1] = GRIPPER_VALUES[self._gripper_choice(networks.gripper_values(features, batch))]
        return action

    def _gripper_choice(self, q: Tensor) -> int:
        if not self.deterministic and self._rng.random() < self.config.gripper_epsilon:
            return int(self._rng.integers(len(GRIPPER_VALUES)))
        return int(q.argmax())
