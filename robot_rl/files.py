"""Files that are replaced as a whole, and folders that say what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from robot_rl.errors import DataError
from robot_rl.typed import to_plain


def write_file(path: Path, text: str) -> None:
    """Replace `path` as a whole: a reader sees the old text or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; `DataError` when it cannot be read, or holds something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} cannot be read: it holds {content!r:.40}, not an object")
    return content


def digest(*parts: Any) -> str:
    """SHA-256, in hexadecimal, of values that `to_plain` knows."""
    text = json.dumps([to_plain(part) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256, in hexadecimal, of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_from(folder: Path) -> str:
    """What `renew` was last told of the folder; "" if it never was."""
    stamp = _stamp(folder)
    return stamp.read_text() if stamp.exists() else ""


def renew(folder: Path, origin: str) -> bool:
    """Remove `folder` (or file) if it was made from something else than `origin`, noted beside it; whether it was."""
    is_old = folder.exists() and made_from(folder) != origin
    if is_old and folder.is_dir():
        shutil.rmtree(folder)
    elif is_old:
        folder.unlink()
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_file(_stamp(folder), origin)
    return is_old


def _stamp(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.made_from.txt"
