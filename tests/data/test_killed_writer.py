"""`kill -9` of a recording process at random moments: the store opens, verifies, and misses no step."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data.recorder import EpisodeRecorder
from data.store import EpisodeStore
from data.verify import verify
from tests.data.episodes import ACTION_SPEC, SPEC, value

KILLS = 10
EPISODES_PER_RUN = 100_000
ROOT = Path(__file__).resolve().parents[2]


def record_until_killed(path: Path, first: int, after_s: float, log: Path) -> list[tuple[int, int]]:
    """(episode, step) of every `on_step` that returned before the process was killed."""
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "tests.data.writer", str(path), str(first)]
        child = subprocess.Popen(command, stdout=stream, cwd=ROOT)
        try:
            deadline = time.monotonic() + 60
            while not log.read_bytes().startswith(b"ready\n"):
                assert child.poll() is None, "the writer could not open the store"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(after_s)
        finally:
            child.kill()
            child.wait()
    lines = log.read_text().split("\n")[1:-1]
    return [(int(episode), int(step)) for episode, step in (line.split() for line in lines)]


@pytest.mark.slow
@pytest.mark.timeout(600)  # ten processes start and are killed, on however busy a machine
def test_no_step_is_lost_to_kill_9(tmp_path: Path):
    rng = random.Random(0)
    path = tmp_path / "store"
    returned: list[tuple[int, int]] = []
    for run in range(KILLS):
        first = 1 + run * EPISODES_PER_RUN
        returned += record_until_killed(path, first, rng.uniform(0.0, 0.3), tmp_path / "log")
        report = verify(path)
        assert report.ok, report.findings
    EpisodeRecorder(path, SPEC, ACTION_SPEC).close()
    assert verify(path).findings == []

    store = EpisodeStore(path)
    held = set()
    for index, info in enumerate(store.infos):
        number = int(info.episode_id.removeprefix("episode-"))
        rewards = store.episode(index).arrays["reward"]
        expected = [value(number, step) for step in range(info.steps)]
        np.testing.assert_array_equal(rewards, np.asarray(expected, np.float32))
        held |= {(number, step) for step in range(info.steps)}
    assert len(held) == store.steps
    assert set(returned) <= held
    assert len(returned) > KILLS
    # at most the one step that was under way at each kill was written without having been reported
    assert len(held - set(returned)) <= KILLS
    assert sum(info.recovered for info in store.infos) <= KILLS
