"""What policies that learn by reinforcement share: encoder, discrete gripper, acting with the newest parameters.

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
from robot_rl.actor import LearnedPolicy
from robot_rl.algorithms.networks import GRIPPER_VALUES, PolicyNetworks, TensorObservation
from robot_rl.critics import CriticEnsemble, DiscreteCritic
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY, ActionSpec, FloatArray, Goal, Observation, ObservationSpec

GRIPPER_TARGET = "gripper.target"  # element of the environment's state


@dataclass(frozen=True)
class PolicyConfig:
    """What a policy sees with; a subclass adds what it does."""

    state_features: int | None = None
    """Width of a dense layer in front of the state; none feeds the state in as it is."""
    image_channels: tuple[int, ...] = (32, 32, 32)
    """Channels of each camera's convolutions: 4x4 patches, 3x3 with stride 2, then 3x3."""
    image_features: int = 128
    """Width of each camera's bottleneck."""

    def pinned(self) -> PolicyConfig:
        """The same with what it reads from disk named for good; asked once, when a run begins."""
        return self

    def build_networks(
        self, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0
    ) -> PolicyNetworks:
        """With weights drawn from `seed`; learner and actor both build them with this."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder, features = self.build_encoder(observation_spec)
            return self.build_around(encoder, features, observation_spec, action_spec, seed)

    def build_around(
        self,
        encoder: nn.Module,
        features: int,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int,
    ) -> PolicyNetworks:
        """The networks behind an encoder of so many features."""
        raise NotImplementedError

    def build_policy(self, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0) -> LearnedPolicy:
        """What acts, with fresh weights until parameters arrive."""
        raise NotImplementedError

    def build_encoder(self, spec: ObservationSpec) -> tuple[nn.Module, int]:
        """The encoder of what `spec` has, and its number of features."""
        state = StateEncoder(spec.state_dim, self.state_features) if spec.state_dim else None
        if not spec.image_keys:
            if state is None:
                raise ConfigError("the observation has neither a state nor an image")
            return state, state.feature_dim
        cameras = {}
        for key in spec.image_keys:
            height, width, _ = spec.arrays[key].shape
            cameras[key] = ImageEncoder((height, width), self.image_channels, self.image_features)
        dim = len(cameras) * self.image_features + (state.feature_dim if state else 0)
        return PixelEncoder(cameras, state), dim


@dataclass(frozen=True)
class StepConfig(PolicyConfig):
    """A policy that decides at every step, and has a discrete gripper."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of the actor and of the gripper critic."""
    activation: str = "tanh"
    """tanh, silu or relu."""
    gripper_epsilon: float = 0.0
    """Probability of a random gripper command per step while exploring."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.gripper_epsilon <= 1.0:
            raise ConfigError(f"gripper_epsilon must lie in [0, 1], got {self.gripper_epsilon}")

    def build_actor(self, features: int, actions: int) -> nn.Module:
        """The arm's part."""
        raise NotImplementedError

    def build_critics(self, features: int, actions: int, seed: int) -> CriticEnsemble | None:
        """The critics that it acts with; none for a policy that acts without."""
        return None

    def build_around(
        self,
        encoder: nn.Module,
        features: int,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int,
    ) -> PolicyNetworks:
        actor = self.build_actor(features, action_spec.arm_dim)
        gripper = None
        if action_spec.has_gripper:
            gripper = DiscreteCritic(features, len(GRIPPER_VALUES), self.hidden, self.activation)
        names = observation_spec.arrays[STATE_KEY].names if STATE_KEY in observation_spec.arrays else ()
        target_index = names.index(GRIPPER_TARGET) if GRIPPER_TARGET in names else None
        critics = self.build_critics(features, action_spec.arm_dim, seed)
        return PolicyNetworks(encoder, actor, gripper, features, action_spec.arm_dim, target_index, critics)


class StepPolicy:
    """Decides at every step; implements `robot_rl.protocols.Policy`. Not thread safe.

    A subclass says what the arm does.
    """

    def __init__(
        self,
        config: StepConfig,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int = 0,
        deterministic: bool = False,
    ) -> None:
        """Without `deterministic` it samples, and the gripper explores with `config.gripper_epsilon`."""
        self.deterministic = deterministic
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self._gripper_epsilon = config.gripper_epsilon
        self._networks = config.build_networks(observation_spec, action_spec, seed).requires_grad_(False)
        self._rng = np.random.default_rng(seed)
        self._version = 0

    @property
    def version(self) -> int:
        return self._version

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        """Nothing is remembered from one step to the next."""

    def load(self, version: int, tensors: Mapping[str, Any]) -> None:
        """Take new parameters (tensors or arrays); `SpecError` and the old ones kept when they do not fit."""
        load_parameters(self._networks, tensors)
        self._version = version

    @torch.inference_mode()
    def act(self, observation: Observation) -> FloatArray:
        """Action (A,) float32 in [-1, 1]; the gripper element is one of -1, 0, 1."""
        batch = {key: torch.from_numpy(observation[key]).unsqueeze(0) for key in self.observation_spec.arrays}
        features = self._networks.encoder(batch)
        action = np.empty(self.action_spec.dim, np.float32)
        action[: self._networks.arm_dim] = self.move(features)
        if self._networks.gripper is not None:
            action[-1] = GRIPPER_VALUES[self._gripper_choice(features, batch)]
        return action

    def move(self, features: Tensor) -> FloatArray:
        """The arm's part (A,) of the action, from the features (1, F) of the present observation."""
        raise NotImplementedError

    def _gripper_choice(self, features: Tensor, batch: TensorObservation) -> int:
        if not self.deterministic and self._rng.random() < self._gripper_epsilon:
            return int(self._rng.integers(len(GRIPPER_VALUES)))
        return int(self._networks.gripper_values(features, batch).argmax())
