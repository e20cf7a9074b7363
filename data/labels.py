"""What was done in parts of episodes, in words: `labels.jsonl` in a store, one line each, written by anyone.

    {"episode": "4f0c...", "begin": 120, "end": 201, "text": "open the drawer"}

The part are the steps `begin <= i < end`; it ends with the observation after step `end - 1`. A later line of the same
episode and part replaces an earlier one; an empty text takes it back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from data.store import write_file
from robot_rl.errors import DataError
from robot_rl.types import Label

LABELS = "labels.jsonl"


def read_labels(store: Path) -> dict[str, list[Label]]:
    """Labels by episode, in order; none when nobody wrote any. `DataError` names the line that is none."""
    path = store / LABELS
    parts: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            episode, begin, end, text = (value[key] for key in ("episode", "begin", "end", "text"))
            if not (isinstance(episode, str) and isinstance(text, str) and 0 <= int(begin) < int(end)):
                raise ValueError("need texts, and 0 <= begin < end")
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}, line {number} is not a label: {line[:120]!r} ({error})") from error
        parts[episode][int(begin), int(end)] = text.strip()
    whole = {
        episode: sorted(Label(*part, text) for part, text in found.items() if text) for episode, found in parts.items()
    }
    return {episode: found for episode, found in whole.items() if found}


def add_labels(store: Path, labels: Mapping[str, Iterable[Label]]) -> int:
    """Append labels by episode, all or none of them even if killed; how many there were."""
    lines = [
        json.dumps({"episode": episode, **asdict(one)}) + "\n" for episode, found in labels.items() for one in found
    ]
    path = store / LABELS
    before = path.read_text() if path.exists() else ""
    if before and not before.endswith("\n"):  # whoever edited it left out the last one
        before += "\n"
    write_file(path, before + "".join(lines))
    return len(lines)


def texts_of(labels: Mapping[str, Sequence[Label]]) -> list[str]:
    """All distinct texts, sorted."""
    return sorted({one.text for found in labels.values() for one in found})
