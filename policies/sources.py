"""What samples chunks: here, elsewhere (`policies.remote`), from an exported graph (`policies.bundle`).

Shape letters: T observations, H horizon, A action, P prefix, K chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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
