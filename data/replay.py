"""Transitions in memory, sampled uniformly; every frame is stored once.

Observations live in a ring of slots. A run of T consecutive steps of one episode occupies T + 1
slots, its own final observation included, and each slot knows the slot that follows it. So the
observation and next observation of a transition are right by construction: at an episode's first
step, at the first step of an intervention segment, at a truncation, and when episodes of several
actors interleave. The last slot of a run is nobody's transition and is never sampled.

Shape letters: B batch, A action, C capacity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.outputs import BatchOutput, BatchOutputs
from robot_rl.batch import Batch, Returns
from robot_rl.env import GRIPPER_THRESHOLD
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.types import (
    STATE_KEY,
    EpisodeEnd,
    EpisodeStart,
    FloatArray,
    Observation,
    ObservationSpec,
    Transition,
)

GRIPPER_TARGET_NAME = "gripper.target"
NO_SLOT = -1
ONE_STEP = Returns()

Keep = Callable[[str, Transition], bool]
"""(phase, transition) -> whether a buffer stores it."""


def keep_all(phase: str, transition: Transition) -> bool:
    return True


def keep_online(phase: str, transition: Transition) -> bool:
    """What the agent and its helper did while learning (HIL-SERL: interventions go to both buffers)."""
    return phase == "learn"


def keep_demonstrations(phase: str, transition: Transition) -> bool:
    """Whole demonstrations, and the steps in which a person intervened while learning."""
    return phase == "demo" or (phase == "learn" and transition.is_intervention)


@dataclass(slots=True)
class _Stream:
    """One episode that is being received."""

    phase: str
    serial: int
    gripper_open: bool
    last_slot: int = NO_SLOT


class ReplayBuffer:
    """Ring of observation slots fed by the episode stream, sampled as `Batch`es.

    Not thread safe: feed and sample it from the same thread.
    """

    def __init__(
        self,
        observation_spec: ObservationSpec,
        action_dim: int,
        capacity: int,
        seed: int,
        *,
        has_gripper: bool = True,
        keep: Keep = keep_all,
        returns: Returns = ONE_STEP,
    ) -> None:
        """`capacity` counts observations (T + 1 per run of T steps), so memory is bounded by it.

        `has_gripper` says that the last action element is the gripper command; `keep` chooses
        which transitions of the stream this buffer stores; `returns` how far ahead their rewards are
        summed. Memory is committed as it fills.
        """
        if capacity < 2 or action_dim < 1:
            raise ConfigError(f"replay needs capacity >= 2 and action_dim >= 1, got {capacity} and {action_dim}")
        self.observation_spec = observation_spec
        self.action_dim = action_dim
        self.capacity = capacity
        self._keep = keep
        self._returns = returns
        self._has_gripper = has_gripper
        self._target_index = _gripper_target_index(observation_spec) if has_gripper else None
        self._rng = np.random.default_rng(seed)
        try:
            self._observations: Observation = {
                key: np.empty((capacity, *spec.shape), spec.dtype) for key, spec in observation_spec.arrays.items()
            }
        except MemoryError as error:
            raise ConfigError(f"no memory for {capacity} observations; lower the replay capacity") from error
        self._actions = np.zeros((capacity, action_dim), np.float32)
        self._scalars = np.zeros((capacity, 4), np.float32)  # reward, terminated, intervention, toggled
        self._next = np.full(capacity, NO_SLOT, np.int64)
        self._owner = np.full(capacity, NO_SLOT, np.int64)  # serial number of the episode in the slot
        self._valid = np.empty(capacity, np.int64)  # the first `_count` entries are sampleable slots
        self._rank = np.full(capacity, NO_SLOT, np.int64)  # where a slot stands in `_valid`
        self._count = 0
        self._stored = 0
        self._head = 0
        self._serial = 0
        self._streams: dict[str, _Stream] = {}
        self._outputs = BatchOutputs(observation_spec, action_dim, returns)

    def __len__(self) -> int:
        """Number of transitions that `sample` draws from."""
        return self._count

    @property
    def stored(self) -> int:
        """Number of transitions ever stored, those overwritten or withdrawn since included."""
        return self._stored

    def start(self, start: EpisodeStart) -> None:
        """Open an episode; several may be open at once."""
        self.observation_spec.check(start.observation)
        if start.episode_id in self._streams:
            raise DataError(f"episode {start.episode_id} was started twice")
        gripper_open = True
        if self._target_index is not None:
            gripper_open = bool(start.observation[STATE_KEY][self._target_index] > 0.0)
        self._streams[start.episode_id] = _Stream(start.phase, self._serial, gripper_open)
        self._serial += 1

    def add(self, transition: Transition) -> None:
        """Take one step of an open episode; it can be sampled at once when `keep` wants it.

        A step that does not begin where the last stored one ended opens a new run, with its own
        first observation.
        """
        stream = self._streams.get(transition.episode_id)
        if stream is None:
            raise DataError(f"step {transition.step} of episode {transition.episode_id}, which was not started")
        self._check(transition)
        toggled = self._follow_gripper(stream, transition.executed_action)
        if not self._keep(stream.phase, transition):
            return
        if not self._continues(stream, transition):
            stream.last_slot = self._write(transition.observation, stream.serial)
        slot = stream.last_slot
        following = self._write(transition.next_observation, stream.serial)
        self._actions[slot] = transition.executed_action
        self._scalars[slot] = (
            transition.reward, transition.terminated, transition.is_intervention, toggled
        )  # fmt: skip
        self._next[slot] = following
        self._rank[slot], self._valid[self._count] = self._count, slot
        self._count += 1
        self._stored += 1
        stream.last_slot = following

    def end(self, end: EpisodeEnd) -> None:
        """Close an episode; a discarded one is withdrawn from sampling."""
        stream = self._streams.pop(end.episode_id, None)
        if stream is None:
            raise DataError(f"end of episode {end.episode_id}, which was not started")
        if end.discarded:
            for slot in np.flatnonzero(self._owner == stream.serial):
                self._withdraw(int(slot))

    def feed(self, event: EpisodeStart | Transition | EpisodeEnd) -> None:
        """`start`, `add` or `end`, as the event asks."""
        if isinstance(event, Transition):
            self.add(event)
        elif isinstance(event, EpisodeStart):
            self.start(event)
        else:
            self.end(event)

    def sample(self, batch_size: int) -> Batch:
        """Uniform over all stored transitions, with replacement.

        The arrays stay as they are until the next but one `sample` (or `mix`) of this size.
        """
        if not self._count:
            raise DataError("the replay buffer holds no transition to sample")
        output = self._outputs.next(batch_size)
        self._fill(output, 0, batch_size)
        return output.batch

    def _check(self, transition: Transition) -> None:
        self.observation_spec.check(transition.observation)
        self.observation_spec.check(transition.next_observation)
        action = transition.executed_action
        if np.shape(action) != (self.action_dim,) or not np.isfinite(action).all():
            raise SpecError(f"executed action {action} is not ({self.action_dim},) and finite")
        if not np.isfinite(transition.reward):
            raise SpecError(f"reward {transition.reward} of step {transition.step} is not finite")

    def _follow_gripper(self, stream: _Stream, action: FloatArray) -> bool:
        """Whether the command changes the gripper's target; steps not kept are followed too."""
        if not self._has_gripper or abs(action[-1]) <= GRIPPER_THRESHOLD:
            return False
        was_open, stream.gripper_open = stream.gripper_open, bool(action[-1] > 0)
        return stream.gripper_open != was_open

    def _continues(self, stream: _Stream, transition: Transition) -> bool:
        slot = stream.last_slot
        return (
            slot != NO_SLOT
            and slot != self._head  # the next write would take the slot of this very observation
            and self._owner[slot] == stream.serial
            and all(
                np.array_equal(self._observations[key][slot], transition.observation[key]) for key in self._observations
            )
        )

    def _write(self, observation: Observation, serial: int) -> int:
        """Put an observation at the head of the ring; the oldest one, which stood there, leaves.

        The transition that began with it leaves too. None that ended with it is left, for it began
        with an older one.
        """
        slot = self._head
        self._withdraw(slot)
        self._owner[slot] = serial
        for key, array in self._observations.items():
            array[slot] = observation[key]
        self._head = (slot + 1) % self.capacity
        return slot

    def _withdraw(self, slot: int) -> None:
        """Take a slot off the list of sampleable ones by moving the last of the list to its place."""
        rank = self._rank[slot]
        if rank == NO_SLOT:
            return
        self._count -= 1
        last = self._valid[self._count]
        self._valid[rank], self._rank[last] = last, rank
        self._rank[slot] = NO_SLOT

    def _fill(self, output: BatchOutput, begin: int, end: int) -> None:
        """Draw transitions into rows `begin:end`."""
        slots = self._valid[self._rng.integers(0, self._count, end - begin)]
        path, there = self._follow(slots)
        output.sum_up(self._scalars[path], there, self._returns.discount, begin)
        batch, following = output.batch, self._next[path[-1]]
        for key, array in self._observations.items():
            # mode="clip" because numpy buffers the whole output under "raise"; slots are in range
            array.take(slots, 0, batch.observation[key][begin:end], "clip")
            array.take(following, 0, batch.next_observation[key][begin:end], "clip")
        self._actions.take(slots, 0, batch.action[begin:end], "clip")
        output.take_steps(self._observations, self._actions, path, self._next[path], there, begin)

    def _follow(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Slots (n, B) of the n steps from `slots` on, and whether there was such a step; else the last one stands."""
        path = np.repeat(slots[None], self._returns.steps, 0)
        there = np.ones(path.shape, np.bool_)
        for i in range(1, len(path)):
            last, following = path[i - 1], self._next[path[i - 1]]
            there[i] = there[i - 1] & (self._scalars[last, 1] == 0.0) & (self._rank[following] != NO_SLOT)
            if not self._returns.chunk:  # a rescue is not the policy's merit
                there[i] &= self._scalars[following, 2] <= self._scalars[last, 2]
            path[i] = np.where(there[i], following, last)
        return path, there


def mix(
    online: ReplayBuffer,
    demos: ReplayBuffer,
    batch_size: int,
    demo_fraction: float = 0.5,
    simulated: ReplayBuffer | None = None,
    sim_fraction: float = 0.0,
) -> Batch:
    """One batch: online rows, demonstrations (`demo_fraction` of these), simulated rows (`sim_fraction` of all).

    Shares are rounded down. All real rows come from one buffer while the other is empty. Uses the output buffers of
    `online`, so the batch stays valid as `online.sample` says.
    """
    if not 0.0 <= demo_fraction <= 1.0:
        raise ConfigError(f"demo_fraction must lie in [0, 1], got {demo_fraction}")
    if not len(online) and not len(demos):
        raise DataError("both replay buffers are empty")
    real = batch_size - (int(batch_size * sim_fraction) if simulated is not None and len(simulated) else 0)
    split = real - int(real * demo_fraction)
    if not len(demos):
        split = real
    elif not len(online):
        split = 0
    output = online._outputs.next(batch_size)
    if split > 0:
        online._fill(output, 0, split)
    if split < real:
        demos._fill(output, split, real)
    if simulated is None or real == batch_size:
        return output.batch
    simulated._fill(output, real, batch_size)
    return replace(output.batch, simulated=batch_size - real)


def _gripper_target_index(spec: ObservationSpec) -> int | None:
    names = spec.arrays[STATE_KEY].names if STATE_KEY in spec.arrays else ()
    return names.index(GRIPPER_TARGET_NAME) if GRIPPER_TARGET_NAME in names else None
