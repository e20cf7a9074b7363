"""Matching's files in a work folder: what was seen comes from extraction's, what was found goes to matches.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from robot_rl.apps.cousins_config import CousinsConfig
from robot_rl.apps.cousins_files import EXTRACTION, SCAN
from robot_rl.errors import DataError, UnknownNameError
from robot_rl.files import digest, read_object, write_file
from sim.assets.library import Library, LibraryConfig
from sim.cousins.matching import Candidate, Seen, load_seen
from sim.cousins.scan_folder import read_scan
from sim.cousins.scene import Scene

Matches = dict[str, list[Candidate]]
"""Each object's assets, nearest first."""


def matches_origin(scene_text: str, config: CousinsConfig) -> str:
    """What matches are made from."""
    encoder = () if config.encoder is None else (config.encoder,)
    return digest(scene_text, config.library, config.weights, *encoder)


def read_library(config: LibraryConfig, console: Console) -> Library:
    """All assets, with a clock beside what takes long."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bars.add_task("library")
        return Library.index(config, lambda text: bars.console.print(text, markup=False, highlight=False))


def objects_seen(folder: Path, scene: Scene, with_looks: bool, tell: Callable[[str], None]) -> list[Seen]:
    """All objects; where looks count, with their pixels, and who has none is said."""
    color = read_scan(folder / SCAN).views[0].color if with_looks else None
    found = [load_seen(folder / EXTRACTION, scene, one.name, color) for one in scene.objects]
    unseen = ", ".join(one.object.name for one in found if one.crop is None)
    if with_looks and unseen:
        tell(f"[yellow]no pixels in the first view, so looks do not count: {unseen}[/yellow]")
    return found


def keep_matches(path: Path, found: Matches) -> Matches:
    """Write what was found, or return it as the file, perhaps corrected by hand, has it."""
    if path.exists():
        kept = read_object(path)
        return {name: _as_kept(path, name, kept.get(name, []), candidates) for name, candidates in found.items()}
    rows = {
        name: [{"asset": one.asset.name, "distance": one.distance, "terms": one.terms} for one in candidates]
        for name, candidates in found.items()
    }
    write_file(path, json.dumps(rows, indent=1) + "\n")
    return found


def _as_kept(path: Path, name: str, rows: Any, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that are in the file, in its order."""
    known = {one.asset.name: one for one in candidates}
    assets = [str(row.get("asset")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not assets:
        raise DataError(f"{path} has no assets for {name}; mend it, or delete it to match anew")
    for asset in assets:
        if asset not in known:
            raise UnknownNameError(f"asset for {name} in {path}", asset, known)
    return [known[asset] for asset in assets]
