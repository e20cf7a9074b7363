"""What a run begins with besides nothing: episodes that exist already, and a policy that another run learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from data.store import EpisodeStore
from policies.base import pin_base
from robot_rl.algorithms.off_policy import OffPolicy
from robot_rl.apps.config import read_configuration
from robot_rl.checkpoints import ALGORITHM
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.types import ActionSpec, ObservationSpec
from robot_rl.wire import Event

Stores = Path | tuple[Path, ...]
"""One, or several."""
CRITICS = ("num_critics", "hidden", "activation")
"""What an algorithm's configuration says of its critics, where it has them; shapes do not tell all of it."""


def each(stores: Stores) -> tuple[Path, ...]:
    return (stores,) if isinstance(stores, Path) else stores


def pinned(stores: Stores) -> tuple[Path, ...]:
    """The same stores, from whatever folder the run is resumed."""
    return tuple(path.resolve() for path in each(stores))


def load_stores(
    stores: Stores,
    consume: Callable[[Event], None],
    observation_spec: ObservationSpec,
    action_spec: ActionSpec,
    *,
    successes_only: bool = False,
) -> None:
    """Feed their usable recorded episodes; `SpecError` unless all see and do what this task does."""
    for path in each(stores):
        store = EpisodeStore(path)
        _check_specs(f"the episodes of {path}", store, observation_spec, action_spec)
        if not store.load_into(consume, successes_only=successes_only):
            wanted = "successful episode" if successes_only else "usable episode"
            raise DataError(
                f"{path} has no {wanted} to learn from (synthetic ones do not count); "
                f"`robot-rl data info {path}` shows what it has"
            )


def start_from(
    path: Path, algorithm: Any, experiment: Any, observation_spec: ObservationSpec, action_spec: ActionSpec
) -> None:
    """Let `algorithm` begin with what the run at `path` (or that checkpoint) learned.

    `SpecError` unless that run sees, does and computes the same: its policy, and its critics if it has any.
    """
    if not isinstance(algorithm, OffPolicy):
        raise ConfigError(
            f"init is for algorithms with critics (rlpd, h2o, expo, ...), not for {type(algorithm).__name__}"
        )
    checkpoint = pin_base(path)
    other: Any = read_configuration(_run_of(checkpoint), object)
    _check_specs(f"the policy of {checkpoint}", other.task, observation_spec, action_spec)
    _check_networks(checkpoint, other, experiment)
    try:
        algorithm.start_from(load_file(checkpoint / "policy.safetensors"), load_file(checkpoint / ALGORITHM))
    except (OSError, SafetensorError) as error:
        raise DataError(f"{checkpoint} cannot be read: {error}") from error
    except DataError as error:
        raise SpecError(f"{checkpoint} has other networks: {error}") from error


def _check_specs(what: str, has: Any, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
    for name, wanted in (("observation_spec", observation_spec), ("action_spec", action_spec)):
        if getattr(has, name) != wanted:
            raise SpecError(f"the {name} of {what} is {getattr(has, name)}, the task has {wanted}")


def _check_networks(checkpoint: Path, other: Any, mine: Any) -> None:
    if type(other.policy) is not type(mine.policy):
        raise SpecError(
            f"{checkpoint} is of a {type(other.policy).__name__}, this run learns a {type(mine.policy).__name__}; "
            "a policy of `robot-rl imitate` is corrected by algorithm=korr policy=korr policy.base=RUN"
        )
    pairs = [("policy", other.policy, mine.policy, tuple(one.name for one in fields(mine.policy)))]
    if hasattr(other.algorithm, "num_critics"):  # else its critics are the policy's, or it has none
        pairs.append(("algorithm", other.algorithm, mine.algorithm, CRITICS))
    names = [
        f"{part}.{name}"
        for part, theirs, ours, names in pairs
        for name in names
        if getattr(theirs, name, None) != getattr(ours, name, None)
    ]
    if names:
        raise SpecError(f"{checkpoint} has other networks: {', '.join(names)} differ")


def _run_of(checkpoint: Path) -> Path:
    """RUN/checkpoints/step_..., or RUN/learner/checkpoints/step_... where actor and learner were apart."""
    for run_dir in checkpoint.parents[1:3]:
        if (run_dir / "experiment.json").exists():
            return run_dir
    raise DataError(f"{checkpoint} lies in no run: there is no experiment.json above it")
