"""Append-only journal of frames that survives `kill -9` and power loss with a readable prefix.

File: 8 bytes of magic, then frames of `length (u32), crc32 of the length (u32), crc32 of the payload
(u32), payload`, little-endian. The length has a checksum of its own, so a frame that runs past the
end of the file is known to be torn, and is never taken for damage in the middle or the reverse.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, overload

from robot_rl.errors import DataError

MAGIC = b"RRLJ0001"
LENGTH = struct.Struct("<I")
HEADER = struct.Struct("<III")


class Frames(Sequence[bytes]):
    """The whole frames of a journal, read from the file when they are asked for."""

    def __init__(self, path: Path, places: list[tuple[int, int]]) -> None:
        self._path = path
        self._places = places  # (offset, length) of each payload

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Frames: ...
    def __getitem__(self, index: int | slice) -> bytes | Frames:
        if isinstance(index, slice):
            return Frames(self._path, self._places[index])
        return next(iter(Frames(self._path, [self._places[index]])))

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as stream:
            for offset, length in self._places:
                stream.seek(offset)
                yield stream.read(length)


@dataclass(frozen=True, slots=True)
class JournalContent:
    """What can be read of a journal. `damage` is empty for a whole or merely torn one."""

    frames: Frames
    good_bytes: int
    torn_bytes: int
    damage: str = ""


class Journal:
    """The single writer of one journal file. `append` reaches the operating system before it returns."""

    def __init__(self, path: Path) -> None:
        """Create `path`, or continue it behind its last whole frame.

        Raises `DataError` when another writer holds it or when it is damaged before its end.
        """
        self.path = path
        self._fd = lock_file(path)
        try:
            content = read_journal(path)
            if content.damage:
                raise DataError(f"{path}: {content.damage}; run `robot-rl data verify {path} --repair`")
            os.ftruncate(self._fd, content.good_bytes)
            self._size = content.good_bytes
            if self._size == 0:
                self._write(MAGIC)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, payload: bytes) -> None:
        """Write one frame. After an error (disk full) the journal ends behind its last whole frame."""
        length = LENGTH.pack(len(payload))
        header = HEADER.pack(len(payload), zlib.crc32(length), zlib.crc32(payload))
        self._write(header + payload)

    def sync(self) -> None:
        """Wait until everything appended is on the disk itself."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise DataError(f"{self.path}: cannot write {len(data)} bytes: {error.strerror}") from error
        self._size += len(data)


def read_journal(path: Path) -> JournalContent:
    """Find every whole frame from the beginning on, and what stands behind the last of them.

    One frame at a time is in memory, however long the journal is.
    """
    places: list[tuple[int, int]] = []
    damage = ""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        magic = stream.read(len(MAGIC))
        offset = len(magic)
        if magic != MAGIC[: len(magic)]:
            return JournalContent(Frames(path, []), 0, size, "is not a journal of this version")
        if offset < len(MAGIC):
            return JournalContent(Frames(path, []), 0, size)
        while offset + HEADER.size <= size:
            header = stream.read(HEADER.size)
            length, length_crc, payload_crc = HEADER.unpack(header)
            begin, end = offset + HEADER.size, offset + HEADER.size + length
            if zlib.crc32(header[: LENGTH.size]) != length_crc:
                # A file system may leave zeros where data had not reached the disk at a power loss.
                if _holds_data(stream, header):
                    damage = f"frame {len(places)} at byte {offset} has a damaged header"
                break
            if end > size:
                break
            if zlib.crc32(stream.read(length)) != payload_crc:
                if end < size:
                    damage = f"frame {len(places)} at byte {offset} is damaged"
                break
            places.append((begin, length))
            offset = end
    return JournalContent(Frames(path, places), offset, size - offset, damage)


def _holds_data(stream: BinaryIO, block: bytes) -> bool:
    """Whether anything but zeros stands in `block` and behind it."""
    while block and not block.strip(b"\0"):
        block = stream.read(1 << 20)
    return bool(block)


def lock_file(path: Path) -> int:
    """Open `path` for appending, held by this process alone; the lock ends when the descriptor closes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise DataError(f"{path} is being written by another process; stop that one first") from error
    return fd
