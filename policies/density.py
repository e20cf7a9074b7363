"""Log densities of actions under Gaussian policies with a discrete gripper, for importance sampling.

The gripper's commands are told apart by what they do: opening what is open has the effect of keeping it.

Shape letters: B batch, A action, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from robot_rl import losses
from robot_rl.algorithms.networks import GRIPPER_VALUES, PolicyNetworks, TensorObservation, gripper_index
from robot_rl.types import STATE_KEY

KEEP = GRIPPER_VALUES.index(0.0)
GripperChoice = Callable[[Tensor, TensorObservation], Tensor]
"""Features (B, F) and observations to probabilities (B, 3) of `GRIPPER_VALUES`."""


def log_density(
    networks: PolicyNetworks, choice: GripperChoice, observation: TensorObservation, action: Tensor
) -> Tensor:
    """log pi(a | s) (B,) of actions (B, A) in observations each (B, ...); -inf where the gripper's is impossible.

    `networks.actor` is a `policies.gaussian.GaussianActor`.
    """
    features = networks.encoder(observation)
    mean, std = networks.actor(features)
    found = losses.squashed_log_prob(mean, std, action[:, : networks.arm_dim])
    if networks.gripper is None:
        return found
    probabilities = _by_effect(choice(features, observation), networks, observation)
    return found + probabilities.gather(1, gripper_index(action[:, -1]).unsqueeze(1)).squeeze(1).log()


def exploring(networks: PolicyNetworks, epsilon: float) -> GripperChoice:
    """The choice of a policy while it learns: the best by its values, at random with probability `epsilon`."""

    def probabilities(features: Tensor, observation: TensorObservation) -> Tensor:
        best = networks.gripper_values(features, observation).argmax(1)
        return (1.0 - epsilon) * functional.one_hot(best, len(GRIPPER_VALUES)) + epsilon / len(GRIPPER_VALUES)

    return probabilities


def classified(networks: PolicyNetworks) -> GripperChoice:
    """The choice as cloning learned it: a classifier of the recorded commands (`robot_rl.algorithms.bc`)."""

    def probabilities(features: Tensor, observation: TensorObservation) -> Tensor:
        assert networks.gripper is not None
        return networks.gripper(features).softmax(-1)

    return probabilities


def _by_effect(probabilities: Tensor, networks: PolicyNetworks, observation: TensorObservation) -> Tensor:
    """(B, 3) each command's probability to do what it does, with that of the other command that does the same."""
    if networks.gripper_target_index is None:
        return probabilities
    is_open = observation[STATE_KEY][:, networks.gripper_target_index] > 0.0
    redundant = is_open.long().unsqueeze(1) * (len(GRIPPER_VALUES) - 1)
    both = probabilities[:, KEEP : KEEP + 1] + probabilities.gather(1, redundant)
    columns = torch.cat([redundant, torch.full_like(redundant, KEEP)], 1)
    return probabilities.scatter(1, columns, both.expand(-1, 2))
