"""What of algorithm, critic, policy and data does not go together in offline RL, said before anything is learned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from data.windows import WindowSampler
from policies.feasibility import FeasibleCriticConfig
from policies.hiql import HIQLCriticConfig, HIQLPolicyConfig
from robot_rl.algorithms.fisor import FISORConfig
from robot_rl.algorithms.hiql import HIQLConfig
from robot_rl.algorithms.offline import OfflineConfig
from robot_rl.errors import ConfigError
from robot_rl.value_heads import ClassHead

ROUNDING = 1e-4


def check_levels(algorithm: Any, critic: Any, policy: Any) -> None:
    """`ConfigError` unless all three have two levels, or none."""
    parts = (algorithm, critic, policy)
    kinds = (HIQLConfig, HIQLCriticConfig, HIQLPolicyConfig)
    if len({isinstance(one, kind) for one, kind in zip(parts, kinds, strict=True)}) > 1:
        raise ConfigError(
            "two levels are learned by robot-rl offline, and go together: algorithm=hiql critic=hiql policy=hiql, "
            "or algorithm=ota critic=ota policy=hiql; got " + ", ".join(type(one).__name__ for one in parts)
        )


def check_critic(algorithm: Any, critic: Any, policy: Any) -> None:
    """`ConfigError` unless the critic is what the algorithm learns, and fits the policy's chunks."""
    kind = type(algorithm).__name__
    if isinstance(algorithm, OfflineConfig) != (critic is not None):
        raise ConfigError(f"offline RL has a critic, imitation has none; got {kind} and critic {critic}")
    if isinstance(algorithm, FISORConfig) != isinstance(critic, FeasibleCriticConfig):
        raise ConfigError(f"algorithm=fisor and critic=fisor go together; got {kind} and {type(critic).__name__}")
    if not isinstance(algorithm, OfflineConfig):
        return
    if critic.horizon > policy.horizon:
        raise ConfigError(
            f"the policy's chunks are shorter than what the critic values: {policy.horizon} < {critic.horizon}"
        )
    if algorithm.rewards == "goal" and not critic.inputs.goal:
        raise ConfigError("rewards of goals want a critic that is told goals: critic=goal")
    possible = algorithm.possible_values
    if isinstance(critic.head, ClassHead) and not critic.head.holds(possible):
        raise ConfigError(
            f"classes of values from {critic.head.low:g} to {critic.head.high:g} do not hold all that are possible, "
            f"{possible} (algorithm.value_range): set critic.head.low and critic.head.high to its ends"
        )


def check_returns(algorithm: Any, train: WindowSampler, data: Path) -> None:
    """`ConfigError` where targets would be clipped to other values than were really had."""
    if not isinstance(algorithm, OfflineConfig) or algorithm.rewards != "task" or algorithm.value_range is None:
        return
    (low, high), had = algorithm.value_range, train.span_of_returns
    if had[0] < low - ROUNDING or had[1] > high + ROUNDING:
        wide = f"[{math.floor(min(had[0], low))},{math.ceil(max(had[1], high))}]"
        raise ConfigError(
            f"{data} has returns from {had[0]:g} to {had[1]:g}, which algorithm.value_range = "
            f"{list(algorithm.value_range)} excludes: algorithm.value_range={wide}, say"
        )
