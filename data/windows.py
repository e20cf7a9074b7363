"""Windows of episodes for sequence policies: a history of observations, a chunk of actions, a goal seen in hindsight.

Shape letters: B batch, N steps of all episodes, E episodes, T history, H horizon, A action.
A step i of episode e has its observation in row i + e (see `data.store`): every episode has one observation more
than it has steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.cache import Cache
from data.episode import OBSERVATION
from data.goals import GoalConfig
from data.returns import UNREACHED, returns_to_go, returns_to_goals, sums_ahead, sums_to_goals
from robot_rl.batch import Returns, Subgoals, Windows
from robot_rl.changes import NONE, Rows
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.types import Label, Observation

Padding = Literal["repeat", "zero"]
PADDINGS = ("repeat", "zero")
ActionKind = Literal["executed", "proposed"]
ACTION_KINDS = ("executed", "proposed")
WORDLESS = -1
"""`Windows.text` of a goal that nobody put into words."""


@dataclass(frozen=True)
class WindowConfig:
    """Which part of an episode a policy sees at once."""

    history: int = 1
    """Observations, the present one and those before it; the first one is repeated at an episode's beginning."""
    horizon: int = 16
    """Actions from the present one on."""
    padding: Padding = "repeat"
    """What stands for actions after the episode's end, beside a mask: the last one, or zero."""
    goals: GoalConfig = field(default_factory=GoalConfig)
    """Goals in hindsight."""
    future: bool = False
    """Whether windows hold the observation after each action, too."""
    value_goals: GoalConfig | None = None
    """Where goals come from that values are learned of, if they are not those of the policy: it should also know goals
    that the episode does not lead to."""
    start: bool = False
    """Whether they also hold an observation from which on the goal was brought about: a label's first one, else any."""
    outcome: bool = False
    """Whether they hold each action's own reward, and whether the task ended with it."""
    whole: bool = False
    """Whether a window that would go past its episode's end is moved back, so that it ends there."""
    subgoals: Subgoals | None = None
    """Places on the way to the goals, which they hold as well; none of them if None."""
    actions: ActionKind = "executed"
    """What was done, or what was meant: they differ where noise was injected into what was executed."""

    def __post_init__(self) -> None:
        if min(self.history, self.horizon) < 1:
            raise ConfigError(f"history and horizon must be at least 1; got {self.history}, {self.horizon}")
        if self.padding not in PADDINGS:
            raise UnknownNameError("padding", self.padding, PADDINGS)
        if self.actions not in ACTION_KINDS:
            raise UnknownNameError("actions", self.actions, ACTION_KINDS)


@dataclass(frozen=True)
class Parts:
    """Labelled parts of episodes, by steps counted over all episodes: `begin <= step < end`."""

    begin: NDArray[np.int64]  # (L,)
    end: NDArray[np.int64]  # (L,)
    text: NDArray[np.int64]  # (L,) number of the text
    of_step: NDArray[np.int64]  # (N,) the part of each step, -1 for none; of several the shortest

    @classmethod
    def of(cls, cache: Cache, labels: Mapping[str, Sequence[Label]], texts: Sequence[str]) -> Parts:
        """`labels` by episode; `DataError` names one that is no part of an episode of the store."""
        if unknown := set(labels) - {info.episode_id for info in cache.infos}:
            raise DataError(f"labels speak of episodes that the store does not have, such as {sorted(unknown)[0]!r}")
        found: list[tuple[int, int, int]] = []
        number = {text: index for index, text in enumerate(texts)}
        begins = np.concatenate([[0], cache.ends])[:-1]
        for info, offset in zip(cache.infos, begins.tolist(), strict=True):
            for one in labels.get(info.episode_id, ()):
                if one.end > info.steps and info.usable:
                    raise DataError(f"label {one} ends after episode {info.episode_id}, which has {info.steps} steps")
                if info.usable:
                    found.append((offset + one.begin, offset + one.end, number[one.text]))
        found.sort(key=lambda part: part[0] - part[1])  # longest first: where parts overlap the shortest counts
        of_step = np.full(int(cache.ends[-1]) if len(cache.ends) else 0, -1, np.int64)
        for index, (begin, end, _) in enumerate(found):
            of_step[begin:end] = index
        begin, end, text = np.asarray(found, np.int64).reshape(-1, 3).T
        return cls(begin, end, text, of_step)


class WindowSampler:
    """Draws windows from whole arrays in memory (or memory maps). Batch k is the same whoever asks for it, and when."""

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        ends: NDArray[np.int64],
        config: WindowConfig,
        *,
        seed: int = 0,
        returns: Returns | None = None,
        episodes: NDArray[np.bool_] | None = None,
        labels: Parts | None = None,
        violation: NDArray[np.float32] | None = None,
        next_changes: Rows | None = None,
    ) -> None:
        """`arrays` and `ends` as in `data.cache.Cache`; `episodes` (E,): which ones to use (default: all).

        `violation` (N + E,) is that of each observation (`data.violations`), where windows shall hold it;
        `next_changes` (N + E,) is `robot_rl.changes.next_changes`, where goals are taken from there.
        """
        if next_changes is None and any(one and one.next_change for one in (config.goals, config.value_goals)):
            raise ConfigError("goals at the next change need to know where changes are: next_changes")
        self.config = config
        self._observations = {
            key.removeprefix(OBSERVATION): array for key, array in arrays.items() if key.startswith(OBSERVATION)
        }
        self._actions = arrays[f"{config.actions}_action"]
        self._rewards, self._terminated = arrays["reward"], arrays["terminated"]
        self._ends = np.asarray(ends, np.int64)
        self._begins = np.concatenate([[0], self._ends])[:-1]
        used = np.ones(len(self._ends), bool) if episodes is None else episodes
        lengths = (self._ends - self._begins) * used
        if not lengths.sum():
            raise DataError("there is no episode with a step to draw windows from")
        self._steps = np.flatnonzero(np.repeat(used, self._ends - self._begins))  # (N,) those that may be drawn
        self._rows = np.flatnonzero(np.repeat(lengths > 0, self._ends - self._begins + 1))  # of observations there
        self._returns = returns or Returns()
        self._returns_to_go = returns_to_go(self._rewards, self._ends, self._returns.discount)
        self._violation, self._next_changes = violation, next_changes
        self._labels = labels if labels is not None and len(labels.begin) else None
        self._seed = seed

    @classmethod
    def of(cls, cache: Cache, config: WindowConfig, *, seed: int = 0, returns: Returns | None = None) -> WindowSampler:
        """Over the usable episodes of a store."""
        usable = np.array([info.usable for info in cache.infos], bool)
        return cls(cache.arrays, cache.ends, config, seed=seed, returns=returns, episodes=usable)

    def __len__(self) -> int:
        """Steps that windows can begin at."""
        return len(self._steps)

    @property
    def span_of_returns(self) -> tuple[float, float]:
        """Lowest and highest return of a step that windows can begin at, by the task's rewards."""
        found = self._returns_to_go[self._steps]
        return float(found.min()), float(found.max())

    @property
    def labelled_steps(self) -> int:
        """Steps that windows can begin at and that lie in a labelled part."""
        return 0 if self._labels is None else int((self._labels.of_step[self._steps] >= 0).sum())

    def batch(self, number: int, size: int) -> Windows:
        """Batch `number` of `size` windows, drawn with replacement."""
        rng = np.random.default_rng((self._seed, number))
        return self.windows(self._steps[rng.integers(len(self._steps), size=size)], rng)

    def every(self, size: int) -> Iterator[Windows]:
        """All windows once, `size` at a time."""
        rng = np.random.default_rng(self._seed)
        for begin in range(0, len(self._steps), size):
            yield self.windows(self._steps[begin : begin + size], rng)

    def windows(self, steps: NDArray[np.int64], rng: np.random.Generator) -> Windows:
        """The windows at `steps` (B,), counted over all episodes; goals are drawn from `rng`."""
        episode = np.searchsorted(self._ends, steps, side="right")
        if self.config.whole:
            steps = np.maximum(np.minimum(steps, self._ends[episode] - self.config.horizon), self._begins[episode])
        first, last = self._begins[episode] + episode, self._ends[episode] + episode  # rows of observations
        row = steps + episode
        goal, start = self._goal_rows(self.config.goals, row, last, rng), first
        text = np.full(len(steps), WORDLESS, np.int64)
        if self.config.start:
            start = self._start_rows(first, row, goal, rng)
        if self._labels is not None:
            part = self._labels.of_step[steps]
            chosen = (part >= 0) & (rng.random(len(steps)) < self.config.goals.labelled)
            goal = np.where(chosen, self._labels.end[part] + episode, goal)
            start = np.where(chosen, self._labels.begin[part] + episode, start)
            text = np.where(chosen, self._labels.text[part], WORDLESS)
        valued = goal
        if self.config.value_goals is not None:
            valued = self._goal_rows(self.config.value_goals, row, last, rng)
        goal_steps = np.where(_leads_there(row, valued, last), valued - row, UNREACHED).astype(np.int64)
        history, ahead_rows = np.arange(1 - self.config.history, 1), np.arange(1, self.config.horizon + 1)
        action, mask = self._chunk(steps, self._ends[episode])
        ahead, reward, discount, terminated = sums_ahead(
            self._rewards, self._terminated, steps, self._ends[episode], self._returns
        )
        to_go = self._returns_to_go[steps]
        if self._returns.of_goals:
            reward, terminated = sums_to_goals(goal_steps, ahead, self._returns.discount)
            to_go = returns_to_goals(goal_steps, self._returns.discount)
        wanted = self.config.subgoals
        return Windows(
            observation=self._observe(np.maximum(row[:, None] + history, first[:, None])),
            action=action,
            mask=mask,
            goal=self._observe(goal),
            future=self._observe(np.minimum(row[:, None] + ahead_rows, last[:, None])) if self.config.future else {},
            start=self._observe(start) if self.config.start else {},
            text=text,
            value_goal=self._observe(valued) if self.config.value_goals is not None else {},
            goal_steps=goal_steps,
            reward=reward,
            discount=discount,
            next_observation=self._observe(row + ahead),
            terminated=terminated,
            returns_to_go=to_go,
            subgoal=self._observe(_on_the_way(row, goal, last, wanted.steps)) if wanted else {},
            option=self._observe(_on_the_way(row, valued, last, wanted.option_steps)) if wanted else {},
            violation=self._violations(row, last),
            **({"outcome": self._outcome(steps, self._ends[episode])} if self.config.outcome else {}),
        )

    def _violations(self, row: Rows, last: Rows) -> NDArray[np.float32]:
        """Those of the present observation and of the next ones that rewards are summed to (B, n + 1); else (B, 0)."""
        if self._violation is None:
            return np.empty((len(row), 0), np.float32)
        ahead = np.arange(self._returns.steps + 1)
        return self._violation[np.minimum(row[:, None] + ahead, last[:, None])]

    def _observe(self, rows: NDArray[np.int64]) -> Observation:
        return {key: array[rows] for key, array in self._observations.items()}

    def _chunk(self, steps: Rows, end: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Actions (B, H, A) from `steps` on, and 1 where they exist (B, H)."""
        wanted = steps[:, None] + np.arange(self.config.horizon)
        inside = wanted < end[:, None]
        action = self._actions[np.minimum(wanted, end[:, None] - 1)]
        if self.config.padding == "zero":
            action = action * inside[..., None]
        return action.astype(np.float32), inside.astype(np.float32)

    def _outcome(self, steps: Rows, end: Rows) -> NDArray[np.float32]:
        """Rewards, and 1 where the task ended (B, H, 2); all zero after the episode's end."""
        wanted = steps[:, None] + np.arange(self.config.horizon)
        index = np.minimum(wanted, end[:, None] - 1)
        found = np.stack([self._rewards[index], self._terminated[index]], -1)
        return (found * (wanted == index)[..., None]).astype(np.float32)

    def _goal_rows(self, goals: GoalConfig, row: Rows, last: Rows, rng: np.random.Generator) -> Rows:
        size = len(row)
        weights = np.array(goals.weights)
        kind = rng.choice(len(weights), size, p=weights / weights.sum())
        farthest = last if goals.max_steps is None else np.minimum(row + goals.max_steps, last)
        nearest = np.minimum(row + goals.min_steps, farthest)
        if goals.discount is None:
            future = rng.integers(nearest, farthest + 1)
        else:
            future = np.minimum(nearest + rng.geometric(1.0 - goals.discount, size) - 1, farthest)
        anywhere = self._rows[rng.integers(len(self._rows), size=size)]
        changed = last if self._next_changes is None else self._next_changes[row]
        return np.choose(kind, [future, last, row, anywhere, np.where(changed == NONE, last, changed)])

    def _start_rows(self, first: Rows, row: Rows, goal: Rows, rng: np.random.Generator) -> Rows:
        """Any row up to the window's own, no farther from the goal than goals may lie."""
        longest = self.config.goals.max_steps
        earliest = first if longest is None else np.maximum(first, goal - longest)
        return rng.integers(np.minimum(earliest, row), row + 1)


def _leads_there(row: Rows, goal: Rows, last: Rows) -> NDArray[np.bool_]:
    """Whether episodes come to the goal (B,) from `row` on."""
    return (goal >= row) & (goal <= last)


def _on_the_way(row: Rows, goal: Rows, last: Rows, steps: int) -> Rows:
    """Rows (B,) so many steps ahead, but not past the goal where the episode leads to it, nor past its end."""
    return np.minimum(row + steps, np.where(_leads_there(row, goal, last), goal, last))
