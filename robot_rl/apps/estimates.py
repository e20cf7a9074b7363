"""Off-policy estimates on disk: what `robot-rl twin estimate` found, for those that show it beside success rates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot_rl.errors import DataError
from robot_rl.paired import Rate

ESTIMATES = "estimates.json"


def read_estimates(folder: Path) -> dict[str, Any]:
    """What the folder's file holds, or nothing where there is none; `DataError` when it cannot be read."""
    path = folder / ESTIMATES
    if not path.exists():
        return {"policies": {}}
    try:
        content = json.loads(path.read_text())
        content["policies"].items()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error!r}; delete it, or run robot-rl twin estimate again") from error
    return content


def fitted_values(folder: Path, hashes: Mapping[str, str]) -> dict[str, Rate]:
    """FQE by policy, of those whose checkpoint is the one in `hashes` (name -> SHA-256, "" where it is not known)."""
    found = {}
    for name, one in read_estimates(folder)["policies"].items():
        if hashes.get(name) in (one["sha256"], ""):
            low, high = one["fqe"]["interval_95"]
            found[name] = Rate(one["fqe"]["value"], low, high, sum(one["episodes"].values()))
    return found
