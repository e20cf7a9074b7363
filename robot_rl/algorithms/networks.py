"""What acting and learning share: the policy's networks, and batches as tensors.

Shape letters: B batch, F features, A arm action elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl.batch import Batch, Path
from robot_rl.critics import CriticEnsemble
from robot_rl.env import GRIPPER_THRESHOLD
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY, Observation

GRIPPER_VALUES = (-1.0, 0.0, 1.0)  # close, keep, open

TensorObservation = Mapping[str, Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images (B, H, W, 3) uint8 -> the same, changed at random."""


class PolicyNetworks(nn.Module):
    """Encoder, actor and gripper critic: all that acting needs; its `state_dict` is what the actor receives.

    `encoder(observation) -> (B, F)`, `gripper(features) -> (B, 3)`. What the actor does, is between a policy and the
    algorithm that learns it: `policies.gaussian`'s is `actor(features) -> mean, std (B, A)`. Policies that choose among
    candidates also need the `critics` to act.
    """

    def __init__(
        self,
        encoder: nn.Module,
        actor: nn.Module,
        gripper: nn.Module | None,
        feature_dim: int,
        arm_dim: int,
        gripper_target_index: int | None = None,
        critics: CriticEnsemble | None = None,
    ) -> None:
        """`gripper_target_index` is the place in the state of the gripper's present target (> 0 open), if there.

        `arm_dim` counts the elements of what the critics value: one action of the arm, or a chunk of whole ones.
        """
        super().__init__()
        self.encoder = encoder
        self.actor = actor
        self.gripper = gripper
        self.feature_dim = feature_dim
        self.arm_dim = arm_dim
        self.gripper_target_index = gripper_target_index
        self.critics = critics

    def gripper_values(
        self, features: Tensor, observation: TensorObservation, critic: nn.Module | None = None
    ) -> Tensor:
        """Q (B, 3) of close, keep, open by the gripper critic (or another `critic`).

        Opening what is open (closing what is closed) has the effect of keeping it, and so its value: the replay
        knows one label per effect, and a choice that never occurs in it would keep an arbitrary value.
        """
        network = self.gripper if critic is None else critic
        assert network is not None
        values = network(features)
        if self.gripper_target_index is None:
            return values
        is_open = observation[STATE_KEY][:, self.gripper_target_index] > 0.0
        redundant = is_open.long().unsqueeze(1) * 2
        return values.scatter(1, redundant, values[:, 1:2])


@dataclass(frozen=True, slots=True)
class TensorPath:
    """A `Path` on the device."""

    observation: TensorObservation  # each (B, K, ...)
    action: Tensor  # (B, K, A)
    mask: Tensor  # (B, K)


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """A `Batch` on the device."""

    observation: TensorObservation
    arm_action: Tensor  # (B, A) what the critics value: the arm's action, or the chunk of whole actions
    gripper: Tensor | None  # (B,) index into `GRIPPER_VALUES`; None without a choice of its own
    known: Tensor | None  # (B, A) 1 where `arm_action` was executed; None where that is everywhere
    whole: Tensor | None  # (B,) 1 where reward and next observation are those of the whole action; None as above
    reward: Tensor
    next_observation: TensorObservation
    discount: Tensor
    terminated: Tensor
    is_demonstration: Tensor
    toggled: Tensor
    toggles: Tensor
    path: TensorPath | None = None
    simulated: int = 0  # rows at the end that are of a simulation


class BatchLoader:
    """Moves batches to the device and augments their images there."""

    def __init__(
        self, networks: PolicyNetworks, device: torch.device, augment: Augment | None, generator: torch.Generator
    ) -> None:
        self._arm_dim = networks.arm_dim
        self._has_gripper = networks.gripper is not None
        self._device = device
        self._augment = augment
        self._generator = generator

    def __call__(self, batch: Batch) -> TensorBatch:
        move = self._move
        action, terminated = move(batch.action), move(batch.terminated)
        gripper = gripper_index(action[:, -1]) if self._has_gripper else None
        known = whole = None
        if batch.chunk is not None and batch.chunk_mask is not None:
            mask = move(batch.chunk_mask)
            action, known = self._fill_up(move(batch.chunk), mask)
            whole = torch.maximum(mask[:, -1], terminated)
        return TensorBatch(
            self._observe(batch.observation),
            action[:, : self._arm_dim],
            gripper,
            known,
            whole,
            move(batch.reward),
            self._observe(batch.next_observation),
            move(batch.discount),
            terminated,
            move(batch.is_demonstration),
            move(batch.toggled),
            move(batch.toggles),
            None if batch.path is None else self._follow(batch.path),
            batch.simulated,
        )

    def _follow(self, path: Path) -> TensorPath:
        """Augmented, each image by itself."""
        rows, steps = path.mask.shape
        flat = self._observe({key: array.reshape(-1, *array.shape[2:]) for key, array in path.observation.items()})
        observation = {key: tensor.unflatten(0, (rows, steps)) for key, tensor in flat.items()}
        return TensorPath(observation, self._move(path.action), self._move(path.mask))

    def _fill_up(self, chunk: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Chunks (B, H, A) and where they are known, both (B, H A).

        What would have followed the end of an episode changes nothing: noise there lets the critics learn just that,
        where any fixed filling would look to them like the nearness of the end.
        """
        known = mask.unsqueeze(-1).expand_as(chunk)
        noise = torch.rand(chunk.shape, generator=self._generator, device=self._device) * 2.0 - 1.0
        return torch.where(known > 0.0, chunk, noise).flatten(1), known.flatten(1)

    def _move(self, array: object) -> Tensor:
        return torch.as_tensor(array).to(self._device, non_blocking=True)

    def _observe(self, observation: Observation) -> TensorObservation:
        tensors = {key: self._move(array) for key, array in observation.items()}
        if self._augment is None:
            return tensors
        return {
            key: self._augment(tensor, self._generator) if tensor.dtype == torch.uint8 else tensor
            for key, tensor in tensors.items()
        }


def gripper_index(command: Tensor) -> Tensor:
    """Commands (B,) in [-1, 1] as indices into `GRIPPER_VALUES`, by the environment's thresholds."""
    return (command > -GRIPPER_THRESHOLD).long() + (command > GRIPPER_THRESHOLD).long()


def find_device(name: str) -> torch.device:
    """`ConfigError` for a device that torch does not know or this machine does not have."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
