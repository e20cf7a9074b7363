"""Statistics taken block by block are those of the whole."""

import numpy as np
import pytest

from data.cache import STATISTICS, open_cache
from data.recorder import EpisodeRecorder
from data.statistics import RunningStatistics, read_statistics
from data.store import EpisodeStore
from robot_rl.errors import DataError
from tests.data.episodes import ACTION_SPEC, SPEC, events, publish


@pytest.mark.parametrize("blocks", [[50], [1] * 50, [49, 1], [0, 20, 30]])
def test_blocks_are_merged_exactly(blocks):
    rows = np.random.default_rng(0).normal(1e4, 1e-2, (50, 3))  # far from zero: sums of squares would lose it all
    running = RunningStatistics((3,))
    for block in np.split(rows, np.cumsum(blocks)[:-1]):
        running.update(block)
    result = running.result()
    assert result.count == 50
    np.testing.assert_allclose(result.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.std, rows.std(0), rtol=1e-6)
    np.testing.assert_array_equal(result.low, rows.min(0))
    np.testing.assert_array_equal(result.high, rows.max(0))


def test_a_cache_knows_the_statistics_of_the_usable_episodes(tmp_path):
    recorder = EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    for episode in (events(1, 5), events(2, 4, discarded=True), events(3, 1)):
        publish(recorder, episode)
    recorder.close()
    statistics = open_cache(EpisodeStore(tmp_path / "store")).statistics
    states = np.array([[1, t, 1000 + t] for t in range(6)] + [[3, t, 3000 + t] for t in range(2)], np.float64)
    assert statistics["observation/state"].count == 8
    np.testing.assert_allclose(statistics["observation/state"].mean, states.mean(0))
    np.testing.assert_allclose(statistics["observation/state"].std, states.std(0))
    assert statistics["executed_action"].count == 6
    assert not any("image" in key for key in statistics)


def test_lost_statistics_are_taken_anew(tmp_path):
    recorder = EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    publish(recorder, events(1, 5))
    recorder.close()
    store = EpisodeStore(tmp_path / "store")
    cache = open_cache(store)
    file = cache.path / STATISTICS
    file.write_text("{")
    with pytest.raises(DataError, match="no statistics"):
        read_statistics(file)
    again = open_cache(store)
    np.testing.assert_array_equal(again.statistics["reward"].mean, cache.statistics["reward"].mean)
