"""Value-guided steering: draw several candidates from any policy, play the one that a critic values most.

V-GPS (2410.13816): the policy is not retrained, the critic never acts by itself. With many candidates argmax finds the
critic's mistakes instead of good actions; so candidates are ranked by a lower bound over the critic's ensemble, and
`policies.steering_choice` tells from held-out episodes how many candidates are good.

Values of feasibility (FISOR, 2401.10700) may veto: candidates of which any member of their ensemble says that a
violation will follow are not chosen from. Where that leaves none, the one with the smallest violation is played.

Shape letters: K candidates, N members, T observations, H horizon, A action, P prefix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from policies.chunking import ChunkPolicy, episode_noise
from policies.sources import ManySource, as_many
from policies.values import ChunkCriticNet
from robot_rl.errors import ConfigError, SpecError
from robot_rl.protocols import Policy
from robot_rl.types import FloatArray, Goal, Observation

MOST_SAMPLES = 1024
"""Candidates lie in memory together; a remote policy gives no more at once (`policies.serving`)."""
GOAL = "steering/"
"""Prefix, in what a source was told, of the goal that the critic sees."""


@dataclass(frozen=True)
class SteeringConfig:
    """How a candidate is chosen."""

    samples: int = 16
    """Candidates (K); 1 leaves the policy as it is."""
    temperature: float = 0.0
    """Of the choice by softmax over the lower bounds, in units of the value (V-GPS's beta); 0 takes the best."""
    pessimism: float = 1.0
    """Standard deviations of the ensemble below its mean at which a candidate is ranked."""

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.pessimism)
        if not 1 <= self.samples <= MOST_SAMPLES or not all(0.0 <= one < math.inf for one in numbers):
            raise ConfigError(
                f"samples must be 1 to {MOST_SAMPLES}, temperature and pessimism finite and not negative; got {self}"
            )


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, for a person to see. Candidate 0 is what the policy would have done by itself."""

    index: int
    value: float
    """Mean of the ensemble for the chosen one."""
    spread: float
    """Standard deviation of the ensemble for it."""
    base_rank: int
    """Place of the policy's own candidate among all, 0 the best."""
    samples: int
    vetoed: int = 0
    """Candidates that were not safe."""
    risk: float | None = None
    """Largest violation that is expected of the chosen one, above 0 where it is not safe; none without a veto."""
    unsafe: int = 0
    """Choices, of all until now, in which no candidate was safe."""


class ChunkCritic(Protocol):
    """Values chunks from one observation."""

    horizon: int
    """Actions of a chunk that it values."""
    told: bool
    """Whether it has to be told a goal."""

    def values(self, observation: Observation, goal: Observation, chunks: FloatArray) -> FloatArray:
        """Each member's value (N, K) of chunks (K, >= horizon, A); observations each (T, ...)."""
        ...


class TorchCritic:
    """Implements `ChunkCritic` by a network."""

    def __init__(self, net: ChunkCriticNet) -> None:
        self._net = net.eval().requires_grad_(False)
        self.horizon, self.told = net.horizon, net.told

    @torch.inference_mode()
    def values(self, observation: Observation, goal: Observation, chunks: FloatArray) -> FloatArray:
        found = self._net.values(_batch(observation), _batch(goal), torch.as_tensor(chunks, dtype=torch.float32))
        return found.numpy()


class Steering:
    """Chooses among candidates; keeps the latest `choice`."""

    def __init__(
        self,
        critic: ChunkCritic,
        config: SteeringConfig,
        veto: ChunkCritic | None = None,
        goal: Observation | None = None,
    ) -> None:
        """`veto` values the violations that follow a chunk, above 0 where they do.

        `goal` is what both are shown in episodes that tell none: of a policy that knows no goals, say.
        """
        self.critic, self.config, self.veto = critic, config, veto
        self.goal: Observation = goal or {}
        self.choice: Choice | None = None
        self.unsafe = 0

    @property
    def told(self) -> bool:
        """Whether it has to be told a goal."""
        return self.critic.told or (self.veto is not None and self.veto.told)

    @property
    def horizon(self) -> int:
        """Actions of a chunk that are valued."""
        return self.critic.horizon if self.veto is None else max(self.critic.horizon, self.veto.horizon)

    def choose(self, observation: Observation, goal: Observation, chunks: FloatArray, seed: int) -> int:
        """Index of the candidate to play, of chunks (K, H, A)."""
        goal = goal or self.goal
        if self.told and not goal:
            raise SpecError(
                "the critic knows goals by observations, and was told none: give it one, or drop the critic"
            )
        chunks = np.clip(chunks, -1.0, 1.0)
        values = self.critic.values(observation, goal, chunks)
        bound = lower_bound(values, self.config.pessimism)
        risk = None if self.veto is None else self.veto.values(observation, goal, chunks).max(0)
        left = np.arange(len(bound)) if risk is None else admissible(risk)
        index = int(left[pick(bound[left], self.config.temperature, np.random.default_rng((seed, len(bound))))])
        self.unsafe += risk is not None and not risk[index] <= 0.0
        self.choice = Choice(
            index,
            float(values[:, index].mean()),
            float(values[:, index].std()),
            int((bound > bound[0]).sum()),
            len(bound),
            0 if risk is None else int((~(risk <= 0.0)).sum()),
            None if risk is None else float(risk[index]),
            self.unsafe,
        )
        return index


def lower_bound(values: FloatArray, pessimism: float) -> FloatArray:
    """Mean of the members' values (N, ...) less so many standard deviations: (...).

    The lowest there is where that is no number.
    """
    bound = values.mean(0) - pessimism * values.std(0)
    return np.where(np.isfinite(bound), bound, -np.inf)


def admissible(risk: FloatArray) -> NDArray[np.intp]:
    """Candidates of `risk` (K,) at most 0; if there are none, that of the smallest. What is no number is not safe."""
    safe = np.flatnonzero(risk <= 0.0)
    return safe if len(safe) else np.array([np.where(np.isnan(risk), np.inf, risk).argmin()])


def pick(bound: FloatArray, temperature: float, random: np.random.Generator) -> int:
    """The best of `bound` (K,), or one drawn from its softmax; never one without a value, unless all are."""
    best = int(bound.argmax())
    if not temperature or not np.isfinite(bound[best]):
        return best
    shares = np.exp((bound - bound[best]) / temperature)
    return int(random.choice(len(bound), p=shares / shares.sum()))


class SteeredSource:
    """Implements `policies.sources.ChunkSource`: chunks of another source, the best of several each time."""

    def __init__(self, base: ManySource, steering: Steering) -> None:
        if steering.horizon > base.horizon:
            raise ConfigError(
                f"the critic values {steering.horizon} actions, the policy gives {base.horizon}; `robot-rl offline "
                f"critic.horizon={base.horizon}` learns one that fits"
            )
        self.base, self.steering = base, steering
        self.horizon, self.history = base.horizon, base.history

    def tell(self, goal: Observation, text: str, start: Observation) -> Observation | None:
        """What `sample` is given: what the base makes of the goal, and the goal as the critic sees it."""
        if self.steering.told and not (goal or self.steering.goal):
            raise ConfigError(f"the critic knows goals by observations alone; {text!r} does not tell it any")
        told = self.base.tell(goal, text, start)
        shown = {GOAL + key: value for key, value in goal.items()} if self.steering.told else {}
        return told if not shown else {**(told or {}), **shown}

    def sample(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """A chunk (H, A). The first candidate is that of `noise`, which the base alone would play."""
        told = {key: value for key, value in (goal or {}).items() if not key.startswith(GOAL)} or None
        shown = {key.removeprefix(GOAL): value for key, value in (goal or {}).items() if key.startswith(GOAL)}
        more = np.random.default_rng(seed).standard_normal((self.steering.config.samples - 1, *noise.shape), np.float32)
        chunks = self.base.sample_many(observation, told, np.concatenate([noise[None], more]), seed, prefix)
        return chunks[self.steering.choose(observation, shown, chunks, seed)]

    def load(self, tensors: Mapping[str, Any]) -> None:
        """Take new parameters of the base; the critic stays."""
        self.base.load(tensors)


class SteeredPolicy:
    """Implements `robot_rl.protocols.Policy`: the best of several actions of any policy that draws them at random.

    A `ChunkPolicy` is steered chunk by chunk, at its source; of any other policy each call of `act` is a candidate
    (one that remembers what it did last is not to be asked like that), and the critic values single actions. Of one
    that is deterministic the first candidate is just that, and the others are drawn.
    """

    def __init__(
        self,
        base: Policy,
        critic: ChunkCritic,
        config: SteeringConfig,
        seed: int = 0,
        veto: ChunkCritic | None = None,
        goal: Observation | None = None,
    ) -> None:
        """`veto` and `goal` as those of `Steering`."""
        self.base = base
        self.steering = Steering(critic, config, veto, goal)
        self._random = np.random.default_rng(seed)
        self._goal: Observation = {}
        self.deterministic: bool = getattr(base, "deterministic", False)
        if isinstance(base, ChunkPolicy):
            base.source = SteeredSource(as_many(base.source), self.steering)
            return
        if self.steering.horizon != 1:
            raise ConfigError(
                f"this policy acts step by step, and the critic values {self.steering.horizon} actions together; "
                "`robot-rl offline critic.horizon=1` learns one that fits"
            )

    @property
    def version(self) -> int:
        return self.base.version

    def load(self, version: int, tensors: Mapping[str, Any]) -> None:
        """Take new parameters of the base, where that is one that learns; the critic stays."""
        cast(Any, self.base).load(version, tensors)

    @property
    def choice(self) -> Choice | None:
        """The latest one."""
        return self.steering.choice

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        """As the base; the critic is told the same goal."""
        self._goal = {} if goal is None else dict(goal.observation)
        if seed is not None:
            self._random = episode_noise(seed)
        self.base.reset(goal, seed)

    def act(self, observation: Observation) -> FloatArray:
        """Action (A,)."""
        if isinstance(self.base, ChunkPolicy):
            return self.base.act(observation)
        own = self._draw(observation, self.deterministic)
        others = [self._draw(observation, False) for _ in range(self.steering.config.samples - 1)]
        actions = np.stack([own, *others])
        seen = {key: value[None] for key, value in observation.items()}
        return actions[self.steering.choose(seen, self._goal, actions[:, None], int(self._random.integers(2**31)))]

    def _draw(self, observation: Observation, deterministic: bool) -> FloatArray:
        """The base's action (A,), at random unless it can be asked for its best."""
        if hasattr(self.base, "deterministic"):
            cast(Any, self.base).deterministic = deterministic
        return self.base.act(observation)


def _batch(observation: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value).unsqueeze(0) for key, value in observation.items()}
