"""Which policy a deployment may act by: on a real arm the one in service, as it was promoted, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robot_rl.apps.runs import find_checkpoint, read_run
from robot_rl.errors import ConfigError
from robot_rl.identity import checkpoint_hash
from robot_rl.registry import Registry

IN_SERVICE = "in_service"


@dataclass(frozen=True)
class Chosen:
    """What acts."""

    path: Path
    """A run or a checkpoint."""
    promotion: int | None
    """Its number, when it is in service and acts as it was promoted."""


def choose_policy(registry: Registry, policy: str, changes: Sequence[str], *, unpromoted: bool) -> Chosen:
    """The policy named, or `in_service`. `changes` are settings that make it another one than was promoted.

    `ConfigError` says why it may not run; with `unpromoted` (a simulated arm, or a person who wants it so) all may.
    """
    found = registry.in_service()
    if policy == IN_SERVICE:
        if found is None:
            raise ConfigError(
                f"nothing is in service in {registry.folder}: `robot-rl promote RUN --evaluation FOLDER`, "
                "or name a run by policy=RUN"
            )
        path = registry.checkpoint(found[1])
    else:
        path = find_checkpoint(Path(policy))[1]
    serves = found is not None and checkpoint_hash(path) == found[1].checkpoint
    if found is not None and serves and not changes:
        return Chosen(registry.checkpoint(found[1]), found[0])
    if not unpromoted:
        what = f"{', '.join(changes)}: this is not what was promoted" if serves else f"{policy} is not in service"
        raise ConfigError(
            f"{what}, and this is a real arm. `robot-rl promote RUN --evaluation FOLDER` puts a policy in service; "
            "unpromoted=true runs this one nevertheless, of which no twin has said that it is safe or good"
        )
    return Chosen(path, None)


def acts_alike(checkpoint: Path, other: Path) -> bool:
    """Whether the two differ in weights alone, so that one can be loaded in place of the other."""
    first, second = (read_run(find_checkpoint(one)[0]) for one in (checkpoint, other))
    return (first.task, first.policy) == (second.task, second.policy)
