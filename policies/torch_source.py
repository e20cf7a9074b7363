"""Chunks from a network in torch.

Shape letters: B batch, T observations, H horizon, A action, P prefix, K chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.chunk_net import ChunkSampler
from policies.inputs import START, TEXT, WORDED
from policies.parameters import load_parameters
from robot_rl.algorithms.networks import find_device
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray, Observation


class TorchSource:
    """Implements `policies.chunking.ManySource`."""

    def __init__(self, model: ChunkSampler, device: str = "cpu") -> None:
        self._device = find_device(device)
        self.model = model.to(self._device).eval().requires_grad_(False)
        self.horizon, self.history = self.model.horizon, self.model.history

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take new parameters; `SpecError` and the old ones kept when they do not fit."""
        load_parameters(self.model, tensors)

    def tell(self, goal: Observation, text: str, start: Observation) -> Observation | None:
        """As `ChunkSource.tell`; `ConfigError` when words are all there is and the network knows none."""
        words = self.model.words
        if text and words is not None:
            return {TEXT: words.encode(text), WORDED: np.ones((), np.float32)}
        if not goal:
            if text:
                raise ConfigError(f"the goal {text!r} is words alone, and this policy was trained without words")
            return None
        return goal if words is None else goal | {START + key: value for key, value in start.items()}

    def sample(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """A chunk (H, A)."""
        return self.sample_many(observation, goal, noise[None], seed, prefix)[0]

    @torch.inference_mode()
    def sample_many(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """Chunks (K, H, A) from noise of that shape; the observation is encoded once."""
        chunks = self.model.sample(
            self._batch(observation),
            None if goal is None else self._batch(goal),
            torch.as_tensor(noise, device=self._device),
            torch.Generator(self._device).manual_seed(seed),
            None if prefix is None else self._tensor(prefix),
        )
        return chunks.cpu().numpy()

    def _batch(self, observation: Observation) -> dict[str, Tensor]:
        return {key: self._tensor(value) for key, value in observation.items()}

    def _tensor(self, value: Any) -> Tensor:
        return torch.as_tensor(value, device=self._device).unsqueeze(0)
