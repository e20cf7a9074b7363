"""Acting with chunks: one after another, or the next one sampled while the present one plays.

Step k of an episode is the k-th call of `act`. A chunk sampled from the observation of step k holds the actions of
steps k, k + 1, ...; when it arrives d steps later, its first d actions are past and it is joined from its d-th on.
How a joint is made smooth: the chunk is sampled to begin with the actions that will have been played by then
(real-time chunking, 2506.07339 and 2512.05964), and over some steps the old chunk fades into the new one.

A source that does not answer (`StaleError`: it is elsewhere, see `policies.remote`) is asked again: meanwhile the rest
of the old chunk is played, then the arm is held, and when patience ends the error ends the episode.

Shape letters: T observations, H horizon, A action, P prefix.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from policies.sources import ChunkSource, SampleInputs
from robot_rl.errors import ConfigError, StaleError
from robot_rl.types import ActionSpec, FloatArray, Goal, Observation, ObservationSpec

DELAYS = 10
"""Latest sampling times that the next one is predicted from: by the longest of them (2506.07339, section 4.2)."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionConfig:
    """How chunks are played."""

    execute: int = 8
    """Steps of a chunk that are played before another one is asked for; asynchronous: fewer, where the rest of it would
    not outlast the sampling."""
    asynchronous: bool = False
    """Whether the next chunk is sampled while the present one plays; otherwise the arm waits for it."""
    prefix: bool = True
    """Asynchronous: begin the next chunk with what the present one will have played by then."""
    blend: int = 0
    """Steps over which the old chunk fades into the new one, where the old one lasts."""
    min_delay_s: float = 0.0
    """Sampling takes at least so long: to see how the arm would do with a slower computer."""
    patience_s: float = 5.0
    """How long a source may not answer in the middle of an episode before that ends it."""

    def __post_init__(self) -> None:
        if self.execute < 1 or min(self.blend, self.min_delay_s, self.patience_s) < 0:
            raise ConfigError(f"execute must be at least 1, blend, min_delay_s, patience_s not negative; got {self}")


def check_asynchronous(execution: ExecutionConfig, horizon: int) -> None:
    """`ConfigError` where every chunk would be past when it comes: it takes a step at least."""
    if execution.asynchronous and horizon < 2:
        raise ConfigError(
            "a chunk of one action is past when it comes asynchronously, and the arm would never move: "
            "policy.execution.asynchronous=false, or a policy with a longer policy.horizon"
        )


class Executor(Protocol):
    """Runs one sampling at a time, elsewhere."""

    def submit(self, work: Callable[[], FloatArray], /) -> Future[FloatArray]: ...


@dataclass
class Counters:
    """What happened since the policy was made; for logs and benchmarks."""

    chunks: int = 0
    """Chunks played."""
    waited: int = 0
    """Steps at which the arm had to wait for a chunk: an episode's first, and all joints without `asynchronous`."""
    late: int = 0
    """Chunks that came later than predicted: the rest of the old one was played meanwhile."""
    failed: int = 0
    """Samplings that the source did not answer."""
    held: int = 0
    """Steps without any action left: the arm was held."""
    joints: list[int] = field(default_factory=list)
    """Steps (of the present episode) at which a new chunk was joined."""


def episode_noise(seed: int) -> np.random.Generator:
    """What an episode of that seed samples from; nothing that the start state was drawn from."""
    return np.random.default_rng([seed, *b"noise"])


class ChunkPolicy:
    """Implements `robot_rl.protocols.Policy` with any source of chunks. Not thread safe."""

    def __init__(
        self,
        source: ChunkSource,
        execution: ExecutionConfig,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        *,
        rate_hz: float = 10.0,
        seed: int = 0,
        executor: Executor | None = None,
        goal: Goal | None = None,
    ) -> None:
        """`executor` runs asynchronous sampling: by default a thread of the policy's own.

        `goal` is that of episodes which tell none.
        """
        self.source = source
        if execution.execute > source.horizon:
            raise ConfigError(f"execute must not exceed the horizon of {source.horizon}, got {execution.execute}")
        check_asynchronous(execution, source.horizon)
        self.execution = execution
        self.observation_spec, self.action_spec = observation_spec, action_spec
        self.counters = Counters()
        self.deterministic = True  # chunks are always samples; kept for the interface of learned policies
        self._period_s = 1.0 / rate_hz
        self._random = np.random.default_rng(seed)
        self._executor = executor
        self._delays_s: deque[float] = deque(maxlen=DELAYS)
        self._version = 0
        self._default_goal = goal
        self._pending: Future[FloatArray] | None = None
        self._forget(None)

    @property
    def version(self) -> int:
        return self._version

    def load(self, version: int, tensors: Mapping[str, Any]) -> None:
        """Take new parameters; `SpecError` and the old ones kept when they do not fit."""
        self.source.load(tensors)
        self._version = version

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        """Forget the last episode's chunks, wait for a sampling under way, take the goal.

        With a `seed` the noise of the episode's chunks is `episode_noise` of it.
        """
        self._forget(goal)
        if seed is not None:
            self._random = episode_noise(seed)

    def act(self, observation: Observation) -> FloatArray:
        """Action (A,) of this step, in [-1, 1]."""
        self._notice(observation)
        if self._pending is not None and self._pending.done():
            self._join()
        if not self.execution.asynchronous or self._step == 0:
            if self._due:
                self._wait_for_chunk()
        elif self._pending is None and (self._wanted or self._running_out):
            self._ask()
        return self._next()

    @property
    def _wanted(self) -> bool:
        return self._step - self._joined >= self.execution.execute

    @property
    def _running_out(self) -> bool:
        """Whether what is left of the chunk lasts no longer than sampling the next one is expected to take.

        Never while half of it is left: one long sampling shall not have chunks asked for that decide next to nothing.
        """
        return self._last + 1 - self._step <= min(self.predicted_delay, self.source.horizon // 2)

    @property
    def _due(self) -> bool:
        return self._wanted or self._last < self._step

    def _notice(self, observation: Observation) -> None:
        if self._step == 0 and self._told is not None:
            self._goal = self.source.tell(self._told.observation, self._told.text, observation)
        self._see(observation)

    def _next(self) -> FloatArray:
        """The action of the present step; the next one is present then."""
        action = self._actions.pop(self._step, None)
        self._step += 1
        if action is None:
            self.counters.held += 1
            return np.zeros(self.action_spec.dim, np.float32)
        return np.clip(action, -1.0, 1.0)

    def _forget(self, goal: Goal | None) -> None:
        if self._pending is not None:
            self._pending.exception()  # waits; its chunk is of no use any more
        self._pending = None
        self._seen: deque[Observation] = deque(maxlen=self.source.history)
        self._told, self._goal = goal or self._default_goal, None
        self._actions: dict[int, FloatArray] = {}
        self._step, self._joined, self._last = 0, -self.source.horizon, -1
        self._silent_since_s: float | None = None
        self.counters.joints = []

    def _see(self, observation: Observation) -> None:
        while not self._seen or len(self._seen) < self.source.history - 1:
            self._seen.append(observation)
        self._seen.append(observation)

    def _inputs(self) -> SampleInputs:
        """What a chunk for the present step is sampled from."""
        observation = {key: np.stack([one[key] for one in self._seen]) for key in self.observation_spec.arrays}
        noise = self._random.standard_normal((self.source.horizon, self.action_spec.dim), np.float32)
        return SampleInputs(observation, self._goal, noise, int(self._random.integers(2**31)))

    def _sampling(self, prefix: int) -> Callable[[], FloatArray]:
        """The work of sampling a chunk (H, A) for the present step, with everything it needs taken along."""
        given = self._inputs()
        decided = np.stack([self._actions[self._step + i] for i in range(prefix)]) if prefix else None

        def work() -> FloatArray:
            began_s = time.perf_counter()
            chunk = self.source.sample(given.observation, given.goal, given.noise, given.seed, decided)
            time.sleep(max(self.execution.min_delay_s - (time.perf_counter() - began_s), 0.0))
            self._delays_s.append(time.perf_counter() - began_s)
            return chunk

        return work

    def _wait_for_chunk(self) -> None:
        self.counters.waited += 1
        try:
            chunk = self._sampling(0)()
        except StaleError as error:
            self._miss(error)
            self._joined = self._step  # the arm would wait at each step: the old chunk is played on first
        else:
            self._play(chunk, self._step, delay=0)

    def _miss(self, error: StaleError) -> None:
        """Do without a chunk, unless there has not been any in this episode or patience has ended."""
        self.counters.failed += 1
        now_s = time.monotonic()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
            log.warning("no chunk at step %d: %s", self._step, error)
        if self._last < 0 or now_s - self._silent_since_s >= self.execution.patience_s:
            raise error

    @property
    def predicted_delay(self) -> int:
        """Steps that the next sampling is expected to take, at least one."""
        return max(math.ceil(max(self._delays_s, default=0.0) / self._period_s), 1)

    def _ask(self) -> None:
        """Begin to sample from what is seen now."""
        left = self._last + 1 - self._step
        self._expected = self.predicted_delay
        prefix = min(self._expected, left, self.source.horizon - 1) if self.execution.prefix else 0
        self._asked = self._step
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="chunks")
        self._pending = self._executor.submit(self._sampling(max(prefix, 0)))

    def _join(self) -> None:
        """Go over to the chunk that has arrived, unless all of it is past."""
        assert self._pending is not None
        pending, self._pending = self._pending, None
        try:
            chunk = pending.result()
        except StaleError as error:
            return self._miss(error)
        delay = self._step - self._asked
        self.counters.late += delay > self._expected
        if delay < self.source.horizon:
            self._play(chunk, self._asked, delay)
        else:
            log.warning("a chunk of %d steps came %d steps late; it was dropped", self.source.horizon, delay)

    def _play(self, chunk: FloatArray, begin: int, delay: int) -> None:
        """Set the actions from the present step on to `chunk`, sampled for step `begin`, `delay` steps ago."""
        self._silent_since_s = None
        self.counters.chunks += 1
        self.counters.joints.append(self._step)
        blend, old = self.execution.blend, self._actions
        self._actions = {begin + i: chunk[i] for i in range(delay, len(chunk))}
        for i in range(blend):
            step = self._step + i
            if step in old and step in self._actions:
                share = (i + 1) / (blend + 1)
                self._actions[step] = share * self._actions[step] + (1.0 - share) * old[step]
        self._joined, self._last = self._step, begin + len(chunk) - 1

    def close(self) -> None:
        """End the policy's own thread."""
        if isinstance(self._executor, ThreadPoolExecutor):
            self._executor.shutdown(wait=True, cancel_futures=True)
