"""labels.jsonl: what is written is read, later lines win, and a broken line is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.cache import open_cache
from data.labels import LABELS, add_labels, read_labels, texts_of
from data.store import EpisodeStore
from data.windows import Parts
from robot_rl.errors import DataError
from robot_rl.types import Label
from tests.data.test_store import record

ROOT = Path(__file__).resolve().parents[2]


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
    assert dict(zip(parts.text.tolist(), parts.begin.tolist(), strict=True)) == {0: offset + 1, 1: offset}
    of_step = [int(parts.text[one]) if one >= 0 else None for one in parts.of_step[offset - 1 : offset + 3]]
    assert of_step == [None, 1, 1, 0] and len(parts.of_step) == cache.ends[-1]
    with pytest.raises(DataError, match="ends after episode"):
        Parts.of(cache, {second.episode_id: [Label(0, second.steps + 1, "a")]}, ["a"])


def test_an_editor_may_leave_out_the_last_line_break(tmp_path):
    (tmp_path / LABELS).write_text('{"episode": "a", "begin": 0, "end": 1, "text": "one"}')
    add_labels(tmp_path, {"a": [Label(1, 2, "two")]})
    assert [one.text for one in read_labels(tmp_path)["a"]] == ["one", "two"]


WRONG = [
    {"episode": 3},
    {"begin": 2},
    {"begin": "x"},
    {"begin": 0.5},
    {"end": float("inf")},
    {"end": True},
    {"text": None},
]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "[" * 100000, '{"episode": "a"}']
    + [json.dumps({"episode": "a", "begin": 0, "end": 2, "text": "x"} | one) for one in WRONG],
)
def test_a_line_that_is_no_label_is_named(tmp_path, line):
    (tmp_path / LABELS).write_text('{"episode": "a", "begin": 0, "end": 1, "text": "one"}\n\n' + line + "\n")
    with pytest.raises(DataError, match=r"labels\.jsonl, line 3"):
        read_labels(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / LABELS).write_bytes('{"episode": "a", "begin": 0, "end": 1, "text": "öffne"}'.encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_labels(tmp_path)


def test_texts_are_compared_without_case_and_lines_end_at_line_breaks_alone(tmp_path):
    line = json.dumps({"episode": "a", "begin": 0, "end": 1, "text": " Open\u2028the  DOOR"}, ensure_ascii=False)
    (tmp_path / LABELS).write_text("\ufeff" + line + "\n", encoding="utf-8")
    assert read_labels(tmp_path) == {"a": [Label(0, 1, "open the door")]}


def test_two_writers_lose_nothing(tmp_path):
    code = "import sys; from pathlib import Path; from data.labels import *; from robot_rl.types import Label\n" + (
        "from robot_rl.errors import DataError\n"
        "for i in range(40):\n"
        "    while True:\n"
        "        try: add_labels(Path(sys.argv[1]), {sys.argv[2]: [Label(i, i + 1, 'x')]}); break\n"
        "        except DataError: pass\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT) for name in "ab"]
    assert [one.wait(60) for one in writers] == [0, 0]
    assert {name: len(found) for name, found in read_labels(tmp_path).items()} == {"a": 40, "b": 40}


def test_labels_of_no_episode_of_the_store_are_named_and_the_shortest_part_counts(tmp_path):
    cache = open_cache(EpisodeStore(record(tmp_path)))
    first = cache.infos[0]
    with pytest.raises(DataError, match="'nobody'"):
        Parts.of(cache, {"nobody": [Label(0, 1, "a")]}, ["a"])
    parts = Parts.of(cache, {first.episode_id: [Label(0, 1, "b"), Label(0, first.steps, "a")]}, ["a", "b"])
    assert parts.text[parts.of_step[:2]].tolist() == [1, 0]
