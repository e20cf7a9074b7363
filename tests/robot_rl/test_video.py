"""Films that browsers play, from cameras of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import imageio.v2 as imageio
import numpy as np
import pytest

from robot_rl.apps.video import Film
from robot_rl.protocols import Camera
from robot_rl.types import CameraFrame


class Still:
    """A camera that sees one picture."""

    def __init__(self, *size: int) -> None:
        self._frame = CameraFrame(0.0, np.zeros((*size, 3), np.uint8))

    def read(self) -> CameraFrame:
        return self._frame


@pytest.mark.parametrize(("size", "shown"), [((84, 84), (252, 252)), ((85, 84), (254, 252))])
def test_a_film_is_as_large_as_what_was_seen_without_a_warning(
    size: tuple[int, int], shown: tuple[int, int], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    film = Film(cast(Camera, Still(*size)), 10.0)
    film.take()
    film.end(True)
    path = film.write(tmp_path / "film.mp4")
    assert imageio.mimread(path)[0].shape[:2] == shown
    assert "macro_block" not in caplog.text + capfd.readouterr().err
