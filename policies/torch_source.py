"""Chunks from a network in torch.

Shape letters: B batch, T observations, H horizon, A action, P prefix, K chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from policies.chunk_net import ChunkSampler
from policies.cuda_graph import GraphedAnswer
from policies.inputs import START, TEXT, WORDED
from policies.parameters import load_parameters
from policies.sources import ManySource, SampleInputs
from robot_rl.algorithms.networks import find_device
from robot_rl.errors import ConfigError, SpecError
from robot_rl.types import FloatArray, Observation

ModelT = TypeVar("ModelT", bound=nn.Module)


class TorchSource(ManySource):
    """Samples on a device."""

    def __init__(self, model: ChunkSampler, device: str = "cpu", cuda_graph: bool = False) -> None:
        """`cuda_graph`: sample single chunks by one (`policies.cuda_graph`); `ConfigError` where that cannot be."""
        self._device = find_device(device)
        self.model = for_rows(model.to(self._device).eval().requires_grad_(False))
        self.horizon, self.history = self.model.horizon, self.model.history
        self._answer = GraphedAnswer(self.model, self._device) if cuda_graph else self.model.answer

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take new parameters; `SpecError` and the old ones kept when they do not fit."""
        load_parameters(self.model, tensors)

    def tell(self, goal: Observation, text: str, start: Observation) -> Observation | None:
        """As `ChunkSource.tell`; `ConfigError` when words are all there is and the network knows none.

        `SpecError` for a goal shown in part: zeros would stand for the rest.
        """
        words = self.model.words
        if text and words is not None:
            return {TEXT: words.encode(text), WORDED: np.ones((), np.float32)}
        if not goal:
            if text:
                raise ConfigError(f"the goal {text!r} is words alone, and this policy was trained without words")
            return None
        shown = [key for key in self.model.goal_arrays if key not in (TEXT, WORDED) and not key.startswith(START)]
        if lacking := [key for key in shown if key not in goal]:
            raise SpecError(f"the goal lacks {lacking}; this policy is shown {shown}")
        return goal if words is None else goal | {START + key: value for key, value in start.items()}

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
        request = self.model.request(
            self._batch(observation),
            None if goal is None else self._batch(goal),
            torch.as_tensor(noise, device=self._device),
            prefix=None if prefix is None else self._tensor(prefix),
            fresh=self._draw(range(seed, seed + len(noise)), noise.shape[1:]),
        )
        return self._answer(request).cpu().numpy()

    @torch.inference_mode()
    def sample_each(self, inputs: Sequence[SampleInputs]) -> FloatArray:
        """Chunks (B, H, A), each from inputs of its own; all have a goal, or none of them has."""
        goals = [one.goal for one in inputs if one.goal is not None]
        if goals and len(goals) < len(inputs):
            raise ConfigError("chunks that are sampled together all have a goal, or none of them has")
        chunks = self.model.sample(
            self._stack([one.observation for one in inputs]),
            self._stack(goals) if goals else None,
            torch.as_tensor(np.stack([one.noise for one in inputs]), device=self._device),
            fresh=self._draw([one.seed for one in inputs], inputs[0].noise.shape),
        )
        return chunks.cpu().numpy()

    def _draw(self, seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        """What samplers draw on the way (K, B, H, A), each chunk's from its own seed: as `policies.bundle` draws it."""
        shape = (self.model.draws, *shape)
        if not self.model.draws:
            return torch.empty(0, len(seeds), *shape[1:], device=self._device)
        drawn = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
        return torch.as_tensor(np.stack(drawn, 1), device=self._device)

    def _stack(self, observations: Sequence[Observation]) -> dict[str, Tensor]:
        keys = observations[0]
        return {key: torch.as_tensor(np.stack([one[key] for one in observations]), device=self._device) for key in keys}

    def _batch(self, observation: Observation) -> dict[str, Tensor]:
        return {key: self._tensor(value) for key, value in observation.items()}

    def _tensor(self, value: Any) -> Tensor:
        return torch.as_tensor(value, device=self._device).unsqueeze(0)


def for_rows(model: ModelT) -> ModelT:
    """`model` with the weights of its linear layers column by column in memory, values and shapes as they were.

    On a CPU a few rows times such a weight (the transpose of what is stored) take down to half the time.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.mT.contiguous().mT
    return model
