"""What guides sampled trajectories towards a target policy: the gradient of its log-likelihood of their actions.

Policy-guided diffusion (2404.06356). As in its authors' code, the gradient is taken at the denoised trajectory, has the
same length in every trajectory, fades over the steps, and is left out at the last one, so that the model has the last
word about what follows from the actions. There the noisy trajectory is moved by it, here the estimate of the clean one.

Shape letters: B batch, R rows, S state, A action, N = B R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from policies.gcbc import GCBCModel
from robot_rl import losses
from robot_rl.algorithms.networks import PolicyNetworks
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY

LARGEST_ACTION = 0.98
"""Gradients are taken at the nearest action within: towards 1 the density of a squashed Gaussian is unbounded."""


@dataclass(frozen=True)
class GuidanceConfig:
    """How far the policy moves the estimates."""

    weight: float = 0.2
    """Root mean square of the move of an action's element at the first step, in the data's standard deviations."""
    cosine: float = 0.3
    """Of a bump in the middle of the steps on top of the linear fall, in units of `weight`."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.weight < math.inf and 0.0 <= self.cosine < math.inf):
            raise ConfigError(f"weight and cosine of the guidance must be finite and not negative, got {self}")

    def weights(self, steps: int) -> tuple[float, ...]:
        """Of each of a sampler's steps: (1 - i / n) + cosine sin(pi (i + 1) / n), nothing at the last one."""
        falls = (1.0 - i / steps + self.cosine * math.sin(math.pi * (i + 1) / steps) for i in range(steps - 1))
        return (*(self.weight * one for one in falls), 0.0)


class TargetPolicy(Protocol):
    """A distribution of actions."""

    def log_prob(self, state: Tensor, action: Tensor) -> Tensor:
        """Log density (N,) of actions (N, A), up to a constant, in states (N, S); differentiable."""
        ...


class SquashedGaussian:
    """The actor of `robot-rl train`. The gripper's choice is discrete and has no gradient: it is not guided."""

    def __init__(self, networks: PolicyNetworks) -> None:
        self._networks = networks

    def log_prob(self, state: Tensor, action: Tensor) -> Tensor:
        mean, std = self._networks.actor(self._networks.encoder({STATE_KEY: state}))
        return losses.squashed_log_prob(mean, std, action[:, : self._networks.arm_dim])


class ClonedGaussian:
    """A policy that clones by squared error: unit spread, in its own scale, about its mean.

    Of a chunk the first action counts: the one for the state that it is asked in.
    """

    def __init__(self, model: GCBCModel) -> None:
        if model.inputs.has_goal or model.history != 1:
            raise ConfigError(
                "trajectories are guided by policies that see one state and no goal: policy.inputs.goal=false, "
                "policy.inputs.history=1"
            )
        self._model = model

    def log_prob(self, state: Tensor, action: Tensor) -> Tensor:
        mean = self._model({STATE_KEY: state.unsqueeze(1)}, {})[:, 0]
        return -0.5 * (self._model.actions(action) - mean).square().sum(-1)


def policy_gradient(target: TargetPolicy, state: Tensor, action: Tensor) -> Tensor:
    """Gradient (B, R, A) of log pi(a | s) by the actions (B, R, A) alone, in states (B, R, S)."""
    with torch.enable_grad():
        inside = action.detach().clamp(-LARGEST_ACTION, LARGEST_ACTION).requires_grad_()
        total = target.log_prob(state.detach().flatten(0, 1), inside.flatten(0, 1)).sum()
        return torch.autograd.grad(total, inside)[0]
