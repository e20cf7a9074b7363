"""What an evaluation says beside its table, in `evaluation.json`: how policies were configured, and the guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robot_rl.errors import DataError
from robot_rl.evaluation_table import DESCRIPTION, EPISODES
from robot_rl.files import file_hash, read_object

EXPERIMENT = "experiment_sha256"
RANKING, TABLE = "ranking.json", "episodes_sha256"


@dataclass(frozen=True)
class Described:
    """What it says; nothing by itself."""

    experiments: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """SHA-256 of the experiment.json of each policy, by its name and the SHA-256 of its checkpoint."""
    guarded: bool | None = None
    """Whether commands passed the guard's limits; None where it does not say."""

    def experiment(self, name: str, checkpoint: str) -> str:
        """Of one policy; "" where it does not say."""
        return self.experiments.get((name, checkpoint), "")


def read_description(folder: Path) -> Described:
    """What the folder's file says; a missing one says nothing. `DataError` when it cannot be read."""
    path = folder / DESCRIPTION
    if not path.exists():
        return Described()
    content = read_object(path)
    try:
        policies = {
            (name, one["sha256"]): one[EXPERIMENT] for name, one in content["policies"].items() if EXPERIMENT in one
        }
        guarded = content["configuration"].get("guarded")
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} does not describe an evaluation: {error!r}; evaluating again writes it") from error
    return Described(policies, guarded if isinstance(guarded, bool) else None)


def table_hash(folder: Path) -> str:
    """SHA-256, in hexadecimal, of the evaluation's table as it is now."""
    return file_hash(folder / EPISODES)


def is_altered(folder: Path) -> bool:
    """Whether the table is another one than its ranking was made from; no ranking, or one of before, says nothing."""
    path = folder / RANKING
    said = read_object(path).get(TABLE) if path.exists() else None
    return said is not None and said != table_hash(folder)
