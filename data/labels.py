"""What was done in parts of episodes, in words: `labels.jsonl` in a store, one line each, written by anyone.

    {"episode": "4f0c...", "begin": 120, "end": 201, "text": "open the drawer"}

The part are the steps `begin <= i < end`; it ends with the observation after step `end - 1`. A later line of the same
episode and part replaces an earlier one; an empty text takes it back.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from data.journal import lock_file
from robot_rl.errors import DataError
from robot_rl.files import write_file
from robot_rl.types import Label, plain

LABELS = "labels.jsonl"


def read_labels(store: Path) -> dict[str, list[Label]]:
    """Labels by episode, in order, texts as `plain`. `DataError` names the line that is no label."""
    return {
        episode: sorted(Label(*part, text) for part, text in parts.items() if text)
        for episode, parts in _read(store).items()
        if any(parts.values())
    }


def labelled_episodes(store: Path) -> set[str]:
    """Ids of the episodes that any line speaks of, also one that takes a label back."""
    return set(_read(store))


def _read(store: Path) -> dict[str, dict[tuple[int, int], str]]:
    """Text of each part of each episode, empty where it was taken back."""
    parts: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
    for number, line in enumerate(_text(store / LABELS).split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            episode, begin, end, text = (value[key] for key in ("episode", "begin", "end", "text"))
            if not (isinstance(episode, str) and isinstance(text, str) and type(begin) is type(end) is int):
                raise ValueError("episode and text are texts, begin and end whole numbers")
            if not 0 <= begin < end:
                raise ValueError("need 0 <= begin < end")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{store / LABELS}, line {number} is not a label: {line[:120]!r} ({error})") from error
        parts[episode][begin, end] = plain(text)
    return parts


def add_labels(store: Path, labels: Mapping[str, Iterable[Label]]) -> int:
    """Append labels by episode, all or none of them even if killed; how many there were."""
    lines = [
        json.dumps({"episode": episode, **asdict(one)}) + "\n" for episode, found in labels.items() for one in found
    ]
    lock = lock_file(store / f".{LABELS}.lock")
    try:
        before = _text(store / LABELS)
        gap = "\n" if before and not before.endswith("\n") else ""  # whoever edited it left out the last one
        write_file(store / LABELS, before + gap + "".join(lines))
    finally:
        os.close(lock)
    return len(lines)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as text (UTF-8): {error}") from error


def texts_of(labels: Mapping[str, Sequence[Label]]) -> list[str]:
    """All distinct texts, sorted."""
    return sorted({one.text for found in labels.values() for one in found})
