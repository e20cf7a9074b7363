"""What is in a work folder of `robot-rl cousins`.

scan/         colour, depth, calibration          extraction/   every step of extraction, scene.json
posterior.json  the arm, by `robot-rl twin identify WORK` or from the scan's log of motion
settings.json what was set by key=value
counts.json   doors, drawers, lids as the user counts them (--parts)
task.json     what is to be done                  matches.json  every object's assets, nearest first
scenes/       the family, a folder each           episodes/     demonstrations in it, failures marked
family.json   the task in all of them: robot-rl train task=WORK/family.json
policy/       the run of `robot-rl imitate`       results.json  success by scene
gallery.html  all of it to look at
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.errors import ConfigError, DataError
from robot_rl.files import write_file
from robot_rl.typed import to_dataclass, to_plain
from sim.cousins.counts import PartCounts

SCAN, EXTRACTION, SCENE = "scan", "extraction", "scene.json"
TASK, COUNTS, MATCHES, SCENES, FAMILY, EPISODES, POLICY, RESULTS = (
    "task.json", "counts.json", "matches.json", "scenes", "family.json", "episodes", "policy", "results.json",
)  # fmt: skip


@dataclass(frozen=True)
class UserCounts:
    """`counts.json`."""

    counts: dict[str, PartCounts]
    """Moving parts by object."""


def files_of(source: Path, folder: Path) -> dict[str, Path]:
    """Every file in `source` by its name there, but for what is in the work folder."""
    files = [one for one in sorted(source.rglob("*")) if one.is_file()]
    own = folder.resolve()
    if source.resolve() in own.parents:
        files = [one for one in files if own not in one.resolve().parents]
    return {str(one.relative_to(source)): one for one in files}


def write_json(path: Path, value: Any) -> None:
    write_file(path, json.dumps(to_plain(value), indent=1) + "\n")


def read_json(path: Path, kind: Any) -> Any:
    try:
        return to_dataclass(kind, json.loads(path.read_text()))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
