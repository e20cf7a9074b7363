"""Behaviour cloning in the learner's harness: the baseline that any RL must beat on the same demonstrations.

The arm follows the demonstrated actions (log-likelihood of a squashed Gaussian, or squared error of its
mean), the gripper head becomes a classifier of the demonstrated choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robot_rl import losses
from robot_rl.algorithms.flat import FlatAdam, FlatParameters, copy_into
from robot_rl.algorithms.networks import Augment, BatchLoader, PolicyNetworks, find_device
from robot_rl.batch import Batch, Returns
from robot_rl.errors import DataError


@dataclass(frozen=True)
class BCConfig:
    """Hyperparameters."""

    loss: Literal["mse", "likelihood"] = "mse"
    """What the arm's actor minimises."""
    learning_rate: float = 3e-4
    """Adam."""
    device: str = "cpu"
    """Where the networks live."""
    seed: int = 0
    """Seed of the augmentation."""


class BC:
    """Implements `robot_rl.algorithms.Algorithm`; learns from whatever rows the batch has."""

    imitation_updates = 0  # none before the others

    def __init__(self, config: BCConfig, networks: PolicyNetworks, augment: Augment | None = None) -> None:
        self.config = config
        self.device = find_device(config.device)
        self.networks = networks.to(self.device)
        self._adam = FlatAdam(FlatParameters(nn.ModuleList([networks])), config.learning_rate)
        self._generator = torch.Generator(self.device).manual_seed(config.seed)
        self._load = BatchLoader(networks, self.device, augment, self._generator)

    @property
    def returns(self) -> Returns:
        return Returns()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        data = self._load(batch)
        features = self.networks.encoder(data.observation)
        mean, std = self.networks.actor(features)
        if self.config.loss == "mse":
            # the spread is fitted too, so that a sampled policy is defined: one nat of it weighs as much as the mean
            everyone = torch.ones_like(data.reward)
            arm_loss = losses.imitation_loss(mean.tanh(), data.arm_action, everyone)
            spread = (mean.tanh() - data.arm_action).detach().abs()
            arm_loss = arm_loss + (std - spread).square().mean()
        else:
            arm_loss = -losses.squashed_log_prob(mean, std, data.arm_action).mean()
        metrics = {"arm_loss": arm_loss.detach()}
        loss = arm_loss
        if self.networks.gripper is not None and data.gripper is not None:
            gripper_loss = losses.gripper_loss(self.networks.gripper(features), data.gripper)
            metrics["gripper_loss"] = gripper_loss.detach()
            loss = loss + gripper_loss
        self._adam.minimise(loss)
        return metrics

    def policy_state(self) -> Mapping[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.networks.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        named = self._tensors() | {"generator": self._generator.get_state()}
        return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Resume exactly. `DataError` when `state` was saved with other networks."""
        rest = dict(state)
        if "generator" not in rest:
            raise DataError("the saved state lacks 'generator'")
        generator = rest.pop("generator")
        copy_into(self._tensors(), rest)
        self._generator.set_state(generator)

    def _tensors(self) -> dict[str, Tensor]:
        parts = {"networks": self.networks.state_dict(), "adam": self._adam.state_dict()}
        return {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
