"""Films episodes: a subscriber that keeps a camera's frames and writes one video."""

from __future__ import annotations

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from robot_rl.apps.config import check_writable, make_folder
from robot_rl.errors import ConfigError
from robot_rl.protocols import Camera
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition

BORDER_PX = 4
SMALL_PX = 256
GREEN, RED, BLUE = (46, 160, 67), (207, 34, 46), (36, 99, 194)
HOLD_FRAMES = 5  # how long the last frame of an episode stays


def check_film(path: Path) -> None:
    """`ConfigError` unless a film can be written to `path`, whose folder is there then: said before it is taken."""
    if path.suffix != ".mp4":
        raise ConfigError(f"cannot film into {path}: name an .mp4 file")
    make_folder(path.parent)
    check_writable(path)


class Film:
    """Subscriber; the frame's border is blue while the person acts, at the end green or red."""

    def __init__(self, camera: Camera, rate_hz: float) -> None:
        self._camera = camera
        self._rate_hz = rate_hz
        self._frames: list[NDArray[np.uint8]] = []

    def on_start(self, start: EpisodeStart) -> None:
        self.take()

    def on_step(self, transition: Transition) -> None:
        self.take(BLUE if transition.is_intervention else None)

    def on_end(self, end: EpisodeEnd) -> None:
        self.end(end.success)

    def end(self, success: bool) -> None:
        """The episode is over: its last frame stays for a while, framed by how it went."""
        last = _framed(self._frames[-1], GREEN if success else RED)
        self._frames.extend([last] * HOLD_FRAMES)

    def write(self, path: Path) -> Path:
        """Encode what was taken as H.264, readable by browsers; returns `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with imageio.get_writer(path, fps=self._rate_hz, codec="libx264", macro_block_size=2) as writer:
            for frame in self._frames:
                writer.append_data(frame)  # pyright: ignore[reportAttributeAccessIssue]
        return path

    def take(self, colour: tuple[int, int, int] | None = None) -> None:
        """Keep what the camera sees now, framed by `colour`."""
        frame = self._camera.read().color
        factor = max(SMALL_PX // len(frame), 1)  # what a policy sees is too small to look at
        frame = frame.repeat(factor, 0).repeat(factor, 1)
        frame = frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2]  # H.264 halves colours
        self._frames.append(_framed(frame, colour) if colour else frame)


def _framed(frame: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    framed = frame.copy()
    for edge in (framed[:BORDER_PX], framed[-BORDER_PX:], framed[:, :BORDER_PX], framed[:, -BORDER_PX:]):
        edge[:] = colour
    return framed
