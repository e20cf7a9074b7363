"""Supervised learning of action chunks from windows: the one trainer of every policy that imitates.

What is learned lies with the model (score matching, regression, a variational loss: see `policies`); here are the
optimiser, its schedule, the running average of the weights that acts, and resuming.

Shape letters: B batch, T observations, H horizon, A action.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from robot_rl.algorithms.flat import FlatAdam, FlatParameters, copy_into
from robot_rl.algorithms.networks import Augment, TensorObservation, find_device
from robot_rl.batch import Subgoals, Windows
from robot_rl.costs import CostConfig
from robot_rl.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class TensorWindows:
    """The parts of `Windows` that imitation needs, on the device."""

    observation: TensorObservation  # each (B, T, ...)
    action: Tensor  # (B, H, A)
    mask: Tensor  # (B, H)
    goal: TensorObservation  # each (B, ...)
    future: TensorObservation  # each (B, H, ...), or empty
    start: TensorObservation  # each (B, ...), or empty
    text: Tensor  # (B,) number of the goal's text, -1 for none
    outcome: Tensor  # (B, H, 2) each action's own reward, and 1 where the task ended with it; or empty

    def weighted(self, weight: Tensor) -> TensorWindows:
        """The same windows, each counting as much as its `weight` (B,) says."""
        return replace(self, mask=self.mask * weight.unsqueeze(1))


class ChunkModel(Protocol):
    """A network that knows its loss; also an `nn.Module` whose `state_dict` holds all that acting needs."""

    def loss(self, windows: TensorWindows, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise (0-d), and 0-d tensors to log."""
        ...


@dataclass(frozen=True)
class ImitationConfig:
    """Hyperparameters."""

    learning_rate: float = 3e-4
    """Adam, at its highest."""
    warmup_updates: int = 500
    """Over which the learning rate rises from 0."""
    updates: int = 100_000
    """Planned; the learning rate falls along a cosine to `final_rate` of its highest by then."""
    final_rate: float = 0.05
    """See `updates`; 1 keeps it."""
    ema_decay: float = 0.999
    """Of the running average of the weights, which is what acts (0: none)."""
    mixed_precision: bool = True
    """bfloat16 where a GPU computes."""
    compile: bool = False
    """`torch.compile` the loss."""
    device: str = "cpu"
    """Where the networks live."""
    seed: int = 0
    """Of noise and augmentation."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.ema_decay < 1.0 or not 0.0 <= self.final_rate <= 1.0:
            raise ConfigError(f"ema_decay must lie in [0, 1), final_rate in [0, 1]; got {self}")
        if self.updates < 1 or self.warmup_updates < 0 or self.learning_rate <= 0.0:
            raise ConfigError(f"updates and learning_rate must be positive, warmup_updates not negative; got {self}")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> Imitation:
        """The trainer; only offline RL has a critic."""
        return Imitation(self, model, augment)

    def subgoals(self) -> Subgoals | None:
        """What windows hold of the way to their goals; only algorithms of two levels want any."""
        return None

    def costs(self) -> CostConfig | None:
        """What counts as a violation, which windows then hold; only algorithms that learn to be safe want it."""
        return None


class Imitation:
    """Minimises the loss of a `ChunkModel`."""

    def __init__(self, config: ImitationConfig, model: nn.Module, augment: Augment | None = None) -> None:
        """`model` is a `ChunkModel`; it is trained in place, `acting` is its running average."""
        self.config = config
        self.device = find_device(config.device)
        self.model = model.to(self.device)
        self.updates = 0
        self._flat = FlatParameters(self.model)
        self._adam = FlatAdam(self._flat, config.learning_rate)
        self.acting = copy.deepcopy(self.model).requires_grad_(False).eval()
        self._acting = FlatParameters(self.acting)
        self._augment = augment
        self._generator = torch.Generator(self.device).manual_seed(config.seed)
        loss = cast(ChunkModel, self.model).loss
        self._loss = torch.compile(loss) if config.compile else loss

    def study(self, windows: Iterator[Windows]) -> None:
        """See all that will be learned from, once, before the first update; most have no need to."""

    def update(self, windows: Windows) -> dict[str, Tensor]:
        """One gradient step; returns 0-d tensors to log."""
        self.model.train()
        self._adam.learning_rate = self.learning_rate
        with torch.random.fork_rng(), self._autocast():
            # dropout draws from the global generator: resuming must repeat that, too
            torch.manual_seed((self.config.seed << 32) + self.updates)
            loss, metrics = self._objective(windows)
        self._adam.minimise(loss)
        self.updates += 1
        # In the beginning the average is over what there is: 1 / updates (as EDM's ramp-up, 2206.00364, F.3).
        self._acting.follow(self._flat, max(1.0 - self.config.ema_decay, 1.0 / self.updates))
        return {"loss": loss.detach(), **metrics}

    def _objective(self, windows: Windows) -> tuple[Tensor, dict[str, Tensor]]:
        """What the model minimises (0-d), and 0-d tensors to log."""
        return self._loss(self.load_windows(windows), self._generator)

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        config = self.config
        rise = min((self.updates + 1) / max(config.warmup_updates, 1), 1.0)
        share = min(self.updates / config.updates, 1.0)
        fall = config.final_rate + (1.0 - config.final_rate) * 0.5 * (1.0 + math.cos(math.pi * share))
        return config.learning_rate * rise * fall

    @torch.no_grad()
    def evaluate(self, windows: Windows) -> dict[str, Tensor]:
        """The averaged network's loss on windows that it was not trained on; always the same noise."""
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        loss, metrics = cast(ChunkModel, self.acting).loss(self.load_windows(windows, augment=False), generator)
        return {"loss": loss, **metrics}

    def policy_state(self) -> Mapping[str, Tensor]:
        """The averaged network, with its normalizers."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.acting.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        named = self._tensors() | {
            "generator": self._generator.get_state(),
            "updates": torch.tensor(self.updates),
        }
        return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Resume exactly. `DataError` when `state` was saved with another model."""
        rest = dict(state)
        if missing := [name for name in ("generator", "updates") if name not in rest]:
            raise DataError(f"the saved state lacks {missing}")
        generator, updates = rest.pop("generator"), rest.pop("updates")
        copy_into(self._tensors(), rest)
        self._generator.set_state(generator)
        self.updates = int(updates)

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            "model": self.model.state_dict(),
            "acting": self.acting.state_dict(),
            "adam": self._adam.state_dict(),
        }
        return {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.config.mixed_precision and self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()

    def load_windows(self, windows: Windows, *, augment: bool = True) -> TensorWindows:
        """To the device; `augment` shifts the images, those of one window alike."""

        observation, goal, start = (
            self._observe(one, augment) for one in (windows.observation, windows.goal, windows.start)
        )
        action, mask, text, outcome = (
            self._move(one) for one in (windows.action, windows.mask, windows.text, windows.outcome)
        )
        future = self._observe(windows.future, False)
        return TensorWindows(observation, action, mask, goal, future, start, text, outcome)

    def _move(self, array: object) -> Tensor:
        return torch.as_tensor(array).to(self.device, non_blocking=True)

    def _observe(self, observation: Mapping[str, object], augment: bool) -> dict[str, Tensor]:
        moved = {key: self._move(array) for key, array in observation.items()}
        return {key: self._shift(value) for key, value in moved.items()} if augment else moved

    def _shift(self, values: Tensor) -> Tensor:
        """Augment images (B, ..., H, W, 3); anything else stays."""
        if values.dtype != torch.uint8 or self._augment is None:
            return values
        if values.dim() == 4:
            return self._augment(values, self._generator)
        # the T images of one window beside each other in the channels, so that they are shifted alike
        height, width = values.shape[2:4]
        stacked = values.permute(0, 2, 3, 1, 4).flatten(3)
        shifted = self._augment(stacked, self._generator)
        return shifted.reshape(len(values), height, width, -1, 3).permute(0, 3, 1, 2, 4)
