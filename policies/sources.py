"""What samples chunks: here, elsewhere (`policies.remote`), from an exported graph (`policies.bundle`).

Shape letters: T observations, H horizon, A action, P prefix, K chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from robot_rl.types import FloatArray, Observation


@dataclass(frozen=True, slots=True)
class SampleInputs:
    """What one chunk is sampled from, where nothing is decided yet."""

    observation: Observation  # each (T, ...)
    goal: Observation | None  # as told
    noise: FloatArray  # (H, A) unit Gaussian
    seed: int  # of what some samplers draw on the way


class ChunkSource(Protocol):
    """What samples chunks: a network in torch (`policies.torch_source`), an exported bundle (`policies.bundle`)."""

    horizon: int
    history: int

    def tell(self, goal: Observation, text: str, start: Observation) -> Observation | None:
        """What `sample` is given for a goal shown, told in words, or both, in an episode that begins with `start`.

        None for no goal; an error for words that it does not know.
        """
        ...

    def sample(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """A chunk (H, A); observations each (T, ...), goal as told, unit Gaussian noise (H, A), prefix (P, A).

        `StaleError` when it does not answer now and may later.
        """
        ...

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take new parameters; `SpecError` and the old ones kept when they do not fit."""
        ...


class ManySource(ChunkSource, Protocol):
    """What samples several chunks at once, to choose among (`policies.steered`). A subclass samples one likewise."""

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

    def sample_many(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """Chunks (K, H, A) from noise of that shape, otherwise as `sample`."""
        ...


def as_many(source: ChunkSource) -> ManySource:
    """`source`, which is asked again and again if it does not give several chunks at once."""
    return cast(ManySource, source) if hasattr(source, "sample_many") else OneByOne(source)


class OneByOne(ManySource):
    """Several chunks of a source that gives one at a time; the first is what it gives by itself."""

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self.horizon, self.history = source.horizon, source.history
        self.tell, self.load = source.tell, source.load

    def sample_many(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """Chunks (K, H, A), each by noise and a seed of its own."""
        others = np.random.default_rng(seed).integers(2**31, size=len(noise) - 1).tolist()
        chunks = (
            self._source.sample(observation, goal, one, own, prefix)
            for one, own in zip(noise, (seed, *others), strict=True)
        )
        return np.stack(list(chunks))
