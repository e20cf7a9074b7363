"""Values over changes: how many changes of the scene a goal is away, learned from play in hindsight.

Implicit V-learning for goals (GCIVL of OGBench, 2410.20092; expectile regression of IQL, 2110.06169) in which a step is
a whole change (`robot_rl.changes`), as options are steps for OTA's high level (2505.12737): -1 a change until all
things are where the goal has them.

Shape letters: P places at which things rest, B batch, E elements that goals speak of, N members.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl import losses, offline_losses
from robot_rl.changes import Rows, Things
from robot_rl.errors import ConfigError, DataError
from robot_rl.types import FloatArray


@dataclass(frozen=True)
class ChangeValuesConfig:
    """Hyperparameters."""

    updates: int = 6000
    batch_size: int = 256
    learning_rate: float = 1e-3
    """Adam."""
    discount: float = 0.9
    """Per change."""
    expectile: float = 0.9
    """Of V: 0.5 is the mean over what play did next, 1 would be the best of it."""
    target_rate: float = 0.01
    """Polyak rate of the target network per update."""
    goal_changes: float = 5.0
    """Goals of the same episode lie so many changes ahead on average, geometrically."""
    goals: tuple[float, float, float] = (0.6, 0.3, 0.1)
    """Shares of goals that come later in the episode, of any place of any episode, of the place itself."""

    def __post_init__(self) -> None:
        rates = (self.learning_rate, self.target_rate, self.goal_changes - 1.0, min(self.updates, self.batch_size))
        if min(rates) <= 0.0 or not 0.0 < self.discount < 1.0 or not 0.0 < self.expectile < 1.0:
            raise ConfigError(f"need discount and expectile in (0, 1), goal_changes above 1, the rest positive: {self}")
        if len(self.goals) != 3 or min(self.goals) < 0.0 or sum(self.goals) <= 0.0:
            raise ConfigError(f"goals are three shares, not negative and not all zero; got {self.goals}")


@dataclass(frozen=True)
class Places:
    """Where all things rested in play, episode by episode, in standard deviations."""

    told: FloatArray  # (P, E)
    last: Rows  # (P,) the last place of the same episode

    @classmethod
    def of(cls, episodes: Iterable[FloatArray]) -> Places:
        """From each episode's places (P_e, E); `DataError` where nothing ever changes."""
        episodes = list(episodes)
        lengths = np.array([len(one) for one in episodes], np.int64)
        if not (lengths > 1).any():
            raise DataError(
                "in these episodes nothing that goals tell changes and rests again: see policy.inputs.goal_elements,"
                " changes.moved, .still and .rest of robot-rl imitate"
            )
        told = np.concatenate(episodes).astype(np.float32)
        return cls(told, np.repeat(np.cumsum(lengths) - 1, lengths))

    @property
    def left(self) -> Rows:
        """Places that another one follows."""
        return np.flatnonzero(np.arange(len(self.last)) < self.last)


@dataclass(frozen=True)
class Batch:
    """What one update learns from."""

    place: Tensor  # (B, E)
    following: Tensor  # (B, E) after the next change
    goal: Tensor  # (B, E)
    reward: Tensor  # (B,) -1, or 0 where the place is the goal already
    terminated: Tensor  # (B,) 1 where the place is the goal, or what follows is


def batches(places: Places, things: Things, moved: float, config: ChangeValuesConfig, seed: int) -> Iterator[Batch]:
    """Without end. A place is the goal where no thing is more than `moved` from where the goal has it."""
    random, left = np.random.default_rng(seed), places.left
    shares = np.array(config.goals) / sum(config.goals)
    size = config.batch_size
    while True:
        here = random.choice(left, size)
        later = np.minimum(here + random.geometric(1.0 / config.goal_changes, size), places.last[here])
        anywhere = random.integers(len(places.told), size=size)
        goal = np.choose(random.choice(3, size, p=shares), [later, anywhere, here])
        told = [places.told[rows] for rows in (here, here + 1, goal)]
        reached, reaches = (things.apart(one, told[2]).max(-1) <= moved for one in told[:2])
        outcome = (reached - np.float32(1.0), np.float32(reached | reaches))
        yield Batch(*(torch.from_numpy(one) for one in (*told, *outcome)))


def value_loss(online: nn.Module, target: nn.Module, batch: Batch, config: ChangeValuesConfig) -> Tensor:
    """Expectile regression (0-d) of V, summed over members; both networks are (B, E), (B, E) -> (N, B)."""
    with torch.no_grad():
        known, following = target(batch.place, batch.goal), target(batch.following, batch.goal)
        lowest = -1.0 / (1.0 - config.discount)
        aim = losses.td_target(batch.reward, batch.terminated, following, config.discount).clamp(lowest, 0.0)
        weight = offline_losses.implicit_value_weight(aim, known, config.expectile)
    return (weight * (online(batch.place, batch.goal) - aim).square()).mean(1).sum()


def learn(net: nn.Module, drawn: Iterator[Batch], config: ChangeValuesConfig) -> Iterator[float]:
    """Train `net` in place; yields each update's loss."""
    target = copy.deepcopy(net).requires_grad_(False)
    adam = torch.optim.Adam(net.parameters(), config.learning_rate)
    for _, batch in zip(range(config.updates), drawn, strict=False):
        loss = value_loss(net, target, batch, config)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, config.target_rate)
        yield float(loss.detach())
