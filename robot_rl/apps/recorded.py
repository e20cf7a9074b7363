"""Recorded episodes as trials of a policy's task: what was seen and done, which succeeded in time, which failed.

Shape letters: N steps of all episodes, E episodes, R = N + E observations, S state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import Cache, fingerprint, open_cache
from data.episode import OBSERVATION
from data.store import EpisodeStore
from robot_rl.env import GRIPPER_THRESHOLD
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.types import STATE_KEY, ActionSpec, ArraySpec, ObservationSpec


@dataclass(frozen=True)
class Recorded:
    """A store's episodes by the clock of a task that lasts `limit` steps: what comes later does not count."""

    cache: Cache
    fingerprint: str
    """Of the store's content."""
    spec: ObservationSpec
    """What the policy sees, of what was recorded."""
    action_spec: ActionSpec
    """What it does."""
    limit: int
    used: NDArray[np.bool_]  # (E,) episodes that count
    success: NDArray[np.bool_]  # (E,) in time
    whole: NDArray[np.bool_]  # (E,) seen to its end: the task's or the clock's
    episode: NDArray[np.int64]  # (N,) of each step
    step: NDArray[np.int64]  # (N,) within its episode

    @property
    def begins(self) -> NDArray[np.int64]:
        """First step (E,) of each episode."""
        return np.concatenate([[0], self.cache.ends[:-1]]).astype(np.int64)

    @property
    def in_time(self) -> NDArray[np.int64]:
        """Steps (n,) of the used episodes before the clock's end."""
        return np.flatnonzero(self.used[self.episode] & (self.step < self.limit))

    @property
    def reward(self) -> NDArray[np.float32]:
        """(N,) 1 at the last step of an episode that succeeded in time."""
        found = np.zeros(len(self.step), np.float32)
        found[self.cache.ends[self.success] - 1] = 1.0
        return found

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """(N,) whether the task, or its clock, has ended with the step."""
        return self.cache.arrays["terminated"] | (self.reward > 0.0) | (self.step >= self.limit - 1)

    @property
    def actions(self) -> NDArray[np.float32]:
        """(N, A) what was executed, by its effect."""
        executed = self.cache.arrays["executed_action"]
        told = self.gripper_told[np.arange(len(self.step)) + self.episode]
        return by_effect(executed[:, None], self.action_spec, told)[:, 0]

    @property
    def gripper_told(self) -> NDArray[np.float32]:
        """(R,) what the gripper was told last before each observation: 1 open, as every episode begins, or -1 shut."""
        command = _sign(np.asarray(self.cache.arrays["executed_action"])[:, -1])
        found = np.ones(len(self.step) + len(self.used), np.float32)
        for begin, end, first in zip(
            self.begins, self.cache.ends, self.begins + np.arange(len(self.used)), strict=True
        ):
            at = np.maximum.accumulate(np.where(command[begin:end] != 0.0, np.arange(1, end - begin + 1), 0))
            found[first + 1 : first + 1 + end - begin] = np.append(1.0, command[begin:end])[at]
        return found

    @property
    def observations(self) -> Mapping[str, NDArray[Any]]:
        """What the policy sees, each (R, ...)."""
        return {key: self.cache.arrays[OBSERVATION + key] for key in self.spec.arrays}

    @property
    def rows(self) -> NDArray[np.int64]:
        """Observations (n,) of the used episodes, each episode's last one among them."""
        return np.flatnonzero(np.repeat(self.used, self.lengths + 1))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps (E,)."""
        return np.diff(self.cache.ends, prepend=0)

    def of_episodes(self, values: NDArray[Any]) -> NDArray[Any]:
        """`values` (E, ...) repeated for each observation (R, ...)."""
        return np.repeat(values, self.lengths + 1, 0)

    def timed(self) -> tuple[NDArray[np.float32], ObservationSpec]:
        """States (R, S + 1) that tell the share of the time that has passed, and what is then seen.

        Success in time depends on the time that is left (1712.00378).
        """
        row = np.arange(len(self.step) + len(self.used))
        elapsed = (row - self.of_episodes(self.begins + np.arange(len(self.used)))) / self.limit
        state = self.observations.get(STATE_KEY, np.empty((len(row), 0), np.float32))
        images = {key: self.spec.arrays[key] for key in self.spec.image_keys}
        spec = ObservationSpec({STATE_KEY: ArraySpec((self.spec.state_dim + 1,)), **images})
        return np.concatenate([state, elapsed[:, None]], 1, dtype=np.float32), spec

    def counts(self) -> dict[str, int]:
        """The used episodes by how they ended."""
        failed = self.used & self.whole & ~self.success
        return {
            "succeeded": int(self.success.sum()),
            "failed": int(failed.sum()),
            "cut_short": int((self.used & ~self.whole).sum()),
        }


def by_effect(chunks: NDArray[np.floating], spec: ActionSpec, told: NDArray[np.floating]) -> NDArray[np.float32]:
    """Chunks (R, ..., h, A) with the gripper's commands as what the environment makes of them, which it records.

    1 or -1 where a command changes what the gripper was `told` (R,) before, 0 where it repeats that or is none.
    """
    found = np.array(chunks, np.float32)
    if not spec.has_gripper or spec.gripper != "command":
        return found
    present = np.broadcast_to(np.reshape(told, (-1, *[1] * (found.ndim - 3))), found.shape[:-2])
    for step in range(found.shape[-2]):
        command = _sign(found[..., step, -1])
        wish = np.where(command != 0.0, command, present)
        found[..., step, -1], present = np.where(wish != present, wish, 0.0), wish
    return found


def _sign(command: NDArray[Any]) -> NDArray[np.float32]:
    """-1, 0 or 1: what the gripper is told by a command of any size."""
    return np.where(np.abs(command) > GRIPPER_THRESHOLD, np.sign(command), 0.0).astype(np.float32)


def open_recorded(path: Path, task: Any, phases: Sequence[str]) -> Recorded:
    """The recorded episodes of `phases` in the store, for a policy of `task`.

    `SpecError` when it sees or does what was not recorded, `DataError` unless some episodes succeeded and some failed.
    """
    if not hasattr(task, "env") or getattr(task, "goals", 0):
        raise ConfigError(f"{task.name} tells goals; estimates are of tasks with one goal and a clock (task.env)")
    store = EpisodeStore(path)
    _check_specs(store, task)
    cache, limit = open_cache(store), task.env.max_steps
    lengths = np.diff(cache.ends, prepend=0)
    infos = cache.infos
    used = np.array([one.usable and not one.synthetic and one.phase in phases for one in infos], bool) & (lengths > 0)
    success = np.array([one.success for one in infos], bool) & used & (lengths <= limit)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    begins = np.concatenate([[0], cache.ends[:-1]]).astype(np.int64)
    step = np.arange(len(episode)) - begins[episode]
    whole = success | (lengths >= limit)
    whole[used] |= np.asarray(cache.arrays["terminated"])[cache.ends[used] - 1]
    specs = task.observation_spec, task.action_spec
    found = Recorded(cache, fingerprint(store), *specs, limit, used, success, whole, episode, step)
    counts = found.counts()
    if not counts["succeeded"] or not counts["failed"]:
        raise DataError(
            f"{path} has {counts['succeeded']} successes and {counts['failed']} failures within {limit} steps of "
            f"{task.name} (phases {', '.join(phases)}; {counts['cut_short']} episodes were cut short before): without "
            "both, nothing tells what makes the difference. Record some of the other kind, too"
        )
    return found


def _check_specs(store: EpisodeStore, task: Any) -> None:
    recorded = store.observation_spec.arrays
    if other := [key for key, one in task.observation_spec.arrays.items() if recorded.get(key) != one]:
        raise SpecError(
            f"the policy sees {', '.join(f'{key}: {task.observation_spec.arrays[key]}' for key in other)}; "
            f"{store.path} holds {', '.join(f'{key}: {one}' for key, one in recorded.items())}"
        )
    if store.action_spec != task.action_spec:
        raise SpecError(f"the policy does {task.action_spec}, {store.path} was recorded with {store.action_spec}")
