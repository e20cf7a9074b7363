"""One policy in many episodes at once: each step, one call of the network for all of them.

What an episode draws comes from its own seed. Time stands still in between, so a chunk is there at once, also where
`ExecutionConfig.asynchronous` would have it sampled while the last one plays.

Shape letters: B episodes, A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from policies.chunking import ChunkPolicy, ExecutionConfig, episode_noise
from policies.sources import ChunkSource, SampleInputs
from policies.torch_source import TorchSource
from robot_rl.protocols import Policy
from robot_rl.types import ActionSpec, FloatArray, Observation, ObservationSpec


class Crowd(Protocol):
    """Acts in several episodes."""

    def begin(self, seeds: Sequence[int]) -> None:
        """New episodes 0 ... B - 1, and what each of them draws from."""
        ...

    def act(self, observations: Mapping[int, Observation]) -> dict[int, FloatArray]:
        """Actions (A,) of the episodes that go on, by their numbers."""
        ...


class ChunkCrowd:
    """Of chunk policies: those whose chunks end at the same step get the next ones from one batch."""

    def __init__(self, policy: ChunkPolicy) -> None:
        self._source = policy.source
        self._execution = replace(policy.execution, asynchronous=False, min_delay_s=0.0)
        self._specs = policy.observation_spec, policy.action_spec
        self._members: list[_Member] = []

    def begin(self, seeds: Sequence[int]) -> None:
        self._members = [_Member(self._source, self._execution, *self._specs, seed=seed) for seed in seeds]

    def act(self, observations: Mapping[int, Observation]) -> dict[int, FloatArray]:
        asked = {number: self._members[number].ask(seen) for number, seen in observations.items()}
        due = {number: inputs for number, inputs in asked.items() if inputs is not None}
        chunks = dict(zip(due, sample_chunks(self._source, list(due.values())), strict=True)) if due else {}
        return {number: self._members[number].answer(chunks.get(number)) for number in observations}


def sample_chunks(source: ChunkSource, inputs: Sequence[SampleInputs]) -> Sequence[FloatArray]:
    """A chunk (H, A) from each of the inputs, in one call where the source can."""
    if isinstance(source, TorchSource):
        return list(source.sample_each(inputs))
    return [source.sample(one.observation, one.goal, one.noise, one.seed, None) for one in inputs]


class StepCrowd:
    """Of policies that remember nothing from one step to the next and draw nothing, as those of `robot-rl train`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def begin(self, seeds: Sequence[int]) -> None:
        """Nothing to draw."""

    def act(self, observations: Mapping[int, Observation]) -> dict[int, FloatArray]:
        return {number: self._policy.act(seen) for number, seen in observations.items()}


def crowd_of(policy: Policy) -> Crowd:
    """The way in which such a policy acts in many episodes."""
    return ChunkCrowd(policy) if isinstance(policy, ChunkPolicy) else StepCrowd(policy)


class _Member(ChunkPolicy):
    """One episode's place in its chunks; another samples them."""

    def __init__(
        self,
        source: ChunkSource,
        execution: ExecutionConfig,
        observation: ObservationSpec,
        action: ActionSpec,
        *,
        seed: int,
    ) -> None:
        super().__init__(source, execution, observation, action)
        self._random = episode_noise(seed)

    def ask(self, observation: Observation) -> SampleInputs | None:
        """Take in what is seen; what a chunk is to be sampled from if one is due."""
        self._notice(observation)
        return self._inputs() if self._due else None

    def answer(self, chunk: FloatArray | None) -> FloatArray:
        """This step's action (A,), with the chunk (H, A) that was due if one was."""
        if chunk is not None:
            self._play(chunk, self._step, delay=0)
        return self._next()
