"""labels.jsonl: what is written is read, later lines win, and a broken line is named."""

import pytest

from data.cache import open_cache
from data.labels import LABELS, add_labels, read_labels, texts_of
from data.store import EpisodeStore
from data.windows import Parts
from robot_rl.errors import DataError
from robot_rl.types import Label
from tests.data.test_store import record


def test_what_is_added_is_read_and_a_later_line_wins(tmp_path):
    assert read_labels(tmp_path) == {}
    add_labels(tmp_path, {"a": [Label(3, 5, "close it"), Label(0, 3, "open it")], "b": [Label(0, 2, "wait")]})
    add_labels(tmp_path, {"a": [Label(3, 5, "shut it")], "b": [Label(0, 2, "")]})
    found = read_labels(tmp_path)
    assert found == {"a": [Label(0, 3, "open it"), Label(3, 5, "shut it")]}
    assert texts_of(found) == ["open it", "shut it"]


def test_parts_count_steps_over_all_episodes_and_stay_within_their_own(tmp_path):
    cache = open_cache(EpisodeStore(record(tmp_path)))
    second, offset = cache.infos[1], int(cache.ends[0])
    parts = Parts.of(cache, {second.episode_id: [Label(0, 2, "b"), Label(1, second.steps, "a")]}, ["a", "b"])
    assert parts.begin.tolist() == [offset, offset + 1] and parts.text.tolist() == [1, 0]
    assert parts.of_step[offset - 1 : offset + 2].tolist() == [-1, 0, 1] and len(parts.of_step) == cache.ends[-1]
    with pytest.raises(DataError, match="ends after episode"):
        Parts.of(cache, {second.episode_id: [Label(0, second.steps + 1, "a")]}, ["a"])


def test_an_editor_may_leave_out_the_last_line_break(tmp_path):
    (tmp_path / LABELS).write_text('{"episode": "a", "begin": 0, "end": 1, "text": "one"}')
    add_labels(tmp_path, {"a": [Label(1, 2, "two")]})
    assert [one.text for one in read_labels(tmp_path)["a"]] == ["one", "two"]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"episode": "a"}', '{"episode": "a", "begin": 2, "end": 2, "text": "x"}', '{"episode": 3, "begin": 0, '
     '"end": 2, "text": "x"}', '{"episode": "a", "begin": "x", "end": 2, "text": "x"}'],
)  # fmt: skip
def test_a_line_that_is_no_label_is_named(tmp_path, line):
    (tmp_path / LABELS).write_text('{"episode": "a", "begin": 0, "end": 1, "text": "one"}\n\n' + line + "\n")
    with pytest.raises(DataError, match=r"labels\.jsonl, line 3"):
        read_labels(tmp_path)
