"""The journal keeps every whole frame, wherever the writer died and whatever the disk left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.journal import HEADER, MAGIC, Journal, read_journal
from robot_rl.errors import DataError

FRAMES = [b"first", b"", b"third frame " * 3, bytes(range(40))]
ENDS = [len(MAGIC)]
for _frame in FRAMES:
    ENDS.append(ENDS[-1] + HEADER.size + len(_frame))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.journal"
    journal = Journal(path)
    for frame in FRAMES:
        journal.append(frame)
    journal.close()
    return path


def frames(path: Path) -> list[bytes]:
    return list(read_journal(path).frames)


def test_what_was_appended_is_read(path: Path):
    content = read_journal(path)
    assert frames(path) == FRAMES
    assert content.frames[-1] == FRAMES[-1]
    assert list(content.frames[1:3]) == FRAMES[1:3]
    assert (content.good_bytes, content.torn_bytes, content.damage) == (ENDS[-1], 0, "")


def test_truncation_at_every_byte_leaves_the_whole_frames_and_a_writable_journal(path: Path):
    data = path.read_bytes()
    assert len(data) == ENDS[-1]
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = [frame for frame, end in zip(FRAMES, ENDS[1:], strict=True) if end <= size]
        content = read_journal(path)
        assert frames(path) == whole, size
        assert not content.damage
        assert content.good_bytes + content.torn_bytes == size
        journal = Journal(path)
        journal.append(b"continued")
        journal.close()
        assert frames(path) == [*whole, b"continued"], size


def test_zeros_after_a_power_cut_are_a_torn_tail(path: Path):
    with path.open("ab") as stream:
        stream.write(bytes(5000))
    assert frames(path) == FRAMES
    assert read_journal(path).damage == ""
    assert read_journal(path).torn_bytes == 5000


def test_a_changed_byte_is_found_and_never_overwritten(path: Path):
    data = path.read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x40
        path.write_bytes(changed)
        content = read_journal(path)
        intact = sum(end <= position for end in ENDS[1:]) if position >= len(MAGIC) else 0
        assert frames(path) == FRAMES[:intact]
        in_last_payload = position >= ENDS[-2] + HEADER.size - 4  # or in its checksum
        if not in_last_payload:  # there it cannot be told from data that never reached the disk
            assert content.damage, position
            with pytest.raises(DataError, match=r"data verify .* --repair"):
                Journal(path)
            assert path.read_bytes() == changed


def test_a_journal_has_one_writer(path: Path):
    journal = Journal(path)
    with pytest.raises(DataError, match="another process"):
        Journal(path)
    journal.close()
    Journal(path).close()


def test_a_writer_in_another_process_keeps_the_lock_until_it_dies(path: Path):
    code = "import sys; from pathlib import Path; from data.journal import Journal; "
    code += f"journal = Journal(Path({str(path)!r}))"
    child = subprocess.Popen(
        [sys.executable, "-c", code + "; print('locked', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        with pytest.raises(DataError, match="another process"):
            Journal(path)
    finally:
        child.kill()
        child.communicate()
    Journal(path).close()


def test_a_full_disk_leaves_whole_frames(path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(path)
    real_write = os.write

    def write_a_bit(fd: int, data: memoryview) -> int:
        if len(data) <= 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data[:7])

    monkeypatch.setattr(os, "write", write_a_bit)
    with pytest.raises(DataError, match="No space left"):
        journal.append(b"x" * 50)
    monkeypatch.undo()
    assert frames(path) == FRAMES
    journal.append(b"space again")
    journal.close()
    assert frames(path) == [*FRAMES, b"space again"]


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("something else entirely")
    with pytest.raises(DataError, match="not a journal"):
        Journal(path)
    assert path.read_text() == "something else entirely"
