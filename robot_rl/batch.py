"""A batch of transitions in memory, as the replay hands it to an algorithm."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.types import Observation


@dataclass(frozen=True, slots=True)
class Returns:
    """How much of what followed a transition goes with it: n-step returns (Sutton and Barto, section 7.1)."""

    steps: int = 1
    """Rewards summed before bootstrapping; fewer where the episode ends or the person takes over or lets go."""
    discount: float = 1.0
    """Per control step."""
    of_goals: bool = False
    """Whether the reward is -1 a step until the goal is observed (and ends it), whatever the task's is (2410.20092)."""
    chunk: bool = False
    """Whether all actions of these steps are wanted, as one (Q-chunking, 2507.07969). Then the sum goes on where the
    person takes over or lets go: it is that of the actions that were executed, whoever chose them."""
    path: int = 0
    """How many of these steps are wanted one by one, too, with action and observation, to learn how things move."""

    def __post_init__(self) -> None:
        if not 0 <= self.path <= self.steps:
            raise ConfigError(f"the path is part of the steps that are summed: 0 <= path <= {self.steps}; {self.path}")


@dataclass(frozen=True, slots=True)
class Subgoals:
    """What policies of two levels want beside a window: places on the way to its goals."""

    steps: int = 10
    """A subgoal is the observation so many steps ahead; nearer, where the goal or the episode's end is (2307.11949)."""
    option_steps: int = 1
    """So many steps (an option) count as one for the high level's value, less up to its goal (2505.12737)."""

    def __post_init__(self) -> None:
        if min(self.steps, self.option_steps) < 1:
            raise ConfigError(f"subgoals and options lie at least 1 step ahead; got {self.steps}, {self.option_steps}")


@dataclass(frozen=True, slots=True)
class Path:
    """The first K steps of each of B transitions of several steps."""

    observation: Observation  # each (B, K, ...) after the actions
    action: NDArray[np.float32]  # (B, K, A) executed actions
    mask: NDArray[np.float32]  # (B, K) 1 where there was such a step


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions; arrays may be views of buffers that the next `sample` overwrites.

    With n-step returns "next" is up to n steps later: that many rewards are summed, and `discount` fits.
    """

    observation: Observation  # each (B, ...): state float32, images uint8
    action: NDArray[np.float32]  # (B, A) executed action
    reward: NDArray[np.float32]  # (B,) discounted sum up to the next observation
    next_observation: Observation  # each (B, ...)
    discount: NDArray[np.float32]  # (B,) weight of the next observation's value
    terminated: NDArray[np.float32]  # (B,) 1 where the task ended by then: do not bootstrap
    is_demonstration: NDArray[np.float32]  # (B,) 1 where the action is one to imitate
    toggled: NDArray[np.float32]  # (B,) 1 where the gripper command changed the gripper's target
    toggles: NDArray[np.float32]  # (B,) discounted number of such changes up to the next observation
    chunk: NDArray[np.float32] | None = None  # (B, H, A) executed actions up to the next observation, if asked for
    chunk_mask: NDArray[np.float32] | None = None  # (B, H) 1 where there was such an action; those after are zero
    path: Path | None = None  # if asked for
    simulated: int = 0  # so many rows, the last ones, are of a simulation; the others of the world that is learned in

    def __len__(self) -> int:
        return len(self.reward)


@dataclass(frozen=True, slots=True)
class Windows:
    """B windows of episodes: T observations up to the present one, H actions from it on, a goal in hindsight.

    "Next" is as many steps later as the returns that were asked for have, less where the episode ends before.
    """

    observation: Observation  # each (B, T, ...)
    action: NDArray[np.float32]  # (B, H, A) executed actions
    mask: NDArray[np.float32]  # (B, H) 1 where the episode had such an action
    goal: Observation  # each (B, ...)
    future: Observation  # each (B, H, ...), the observations after each action; empty unless asked for
    start: Observation  # each (B, ...), from where the goal was brought about; empty unless asked for
    text: NDArray[np.int64]  # (B,) number of the text that the goal is worded by; -1 for none
    value_goal: Observation  # each (B, ...), the goal that the next four speak of; empty where that is `goal`
    goal_steps: NDArray[np.int64]  # (B,) steps until the goal was observed; -1 where that never was
    reward: NDArray[np.float32]  # (B,) discounted sum up to the next observation
    discount: NDArray[np.float32]  # (B,) weight of the next observation's value
    next_observation: Observation  # each (B, ...)
    terminated: NDArray[np.float32]  # (B,) 1 where the task ended by then: do not bootstrap
    returns_to_go: NDArray[np.float32]
    """(B,) discounted sum to the episode's end; if cut short, of what was seen; of a goal, until that is reached."""
    subgoal: Observation = field(default_factory=dict)  # each (B, ...), on the way to `goal`; empty unless asked for
    option: Observation = field(default_factory=dict)  # each (B, ...), where an option towards the value's goal ends
    violation: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(B, n + 1) h of the present observation and of those after each of the n steps that rewards are summed over, the
    episode's last one repeated; (B, 0) unless asked for."""
    outcome: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 2), np.float32))
    """(B, H, 2) each action's own reward, and 1 where the task ended with it; empty unless asked for."""

    def __len__(self) -> int:
        return len(self.action)
