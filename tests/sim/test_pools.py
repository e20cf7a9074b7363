"""A pool's processes end with their parent, however it ends, and say nothing at Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot_rl.errors import RobotRlError
from sim.pools import process_pool

PROGRAM = """
import sys
from pathlib import Path
from sim.pools import process_pool
from tests.sim.test_pools import note_and_sleep
if __name__ == "__main__":
    try:
        with process_pool(2) as together:
            list(together(note_and_sleep, [Path(sys.argv[1]) / str(number) for number in range(6)]))
    except KeyboardInterrupt:
        print("interrupted")
"""


def note_and_sleep(path: Path) -> None:
    path.touch()
    time.sleep(60.0)


def die(number: int) -> None:
    os._exit(number)


def refuse(number: int) -> None:
    raise ValueError(f"of item {number}")


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command, pipe = [sys.executable, str(program), str(tmp_path)], subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline_s = time.monotonic() + 60.0
        while not (tmp_path / "0").exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)  # at least one is at work; the other may still be importing
        yield process


def test_ctrl_c_ends_them_without_a_word(busy: subprocess.Popen[str]) -> None:
    os.killpg(busy.pid, signal.SIGINT)
    assert busy.communicate(timeout=20.0)[0] == "interrupted\n"


def test_they_end_when_the_parent_is_killed(busy: subprocess.Popen[str]) -> None:
    busy.kill()
    busy.communicate(timeout=20.0)  # the pipe's other end is held by every process that lives


def test_a_process_that_dies_is_told_and_an_error_keeps_its_words() -> None:
    with pytest.raises(RobotRlError, match="a process died"), process_pool(1) as together:
        list(together(die, [3]))
    with pytest.raises(ValueError, match="of item 5"), process_pool(1) as together:
        list(together(refuse, [5, 6]))
