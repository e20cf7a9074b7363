"""Episodes come back from the store as they were lived, also when the writer was interrupted anywhere."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data.store
from data.cache import CACHE, open_cache
from data.episode import OBSERVATION, spans
from data.recorder import EpisodeRecorder
from data.recovery import journals
from data.replay import ReplayBuffer
from data.store import EpisodeStore
from data.verify import verify
from robot_rl.errors import DataError, SpecError
from robot_rl.types import ActionSpec, ArraySpec, EpisodeEnd, EpisodeStart, ObservationSpec
from robot_rl.wire import EpisodeDecoder, EpisodeEncoder, Event
from tests.data.episodes import ACTION_SPEC, SPEC, events, observation, publish, transition
from tests.robot_rl.test_wire import assert_same

EPISODES: list[list[Event]] = [
    list(events(1, 5, phase="demo", interventions=range(5), success=True)),
    list(events(2, 7, interventions=(1, 2, 5))),
    list(events(3, 1, discarded=True)),
    list(events(4, 6, phase="evaluate", success=True)),
]


def record(path: Path, episodes: list[list[Event]] = EPISODES, **options: Any) -> Path:
    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC, **options)
    for episode in episodes:
        publish(recorder, iter(episode))
    recorder.close()
    return path


def assert_holds(store: EpisodeStore, episodes: list[list[Event]]) -> None:
    assert len(store) == len(episodes)
    for index, expected in enumerate(episodes):
        for got, want in zip(store.episode(index).events(), expected, strict=True):
            assert_same(got, want)


def test_episodes_come_back_as_they_were(tmp_path: Path):
    store = EpisodeStore(record(tmp_path / "store"))
    assert_holds(store, EPISODES)
    assert store.steps == 19
    assert store.observation_spec == SPEC
    assert store.action_spec == ACTION_SPEC
    assert not journals(store)


def test_descriptions(tmp_path: Path):
    path = record(tmp_path / "store", configuration={"robot": "fr3", "path": Path("a")})
    store = EpisodeStore(path)
    info = store.infos[1]
    assert info.intervention_spans == ((1, 3), (5, 6))
    assert info.policy_versions == (0, 1)
    assert (info.phase, info.seed, info.steps, info.success) == ("learn", 2, 7, False)
    assert not info.recovered
    assert store.infos[2].discarded
    assert not store.infos[2].usable
    recording = store.recording(info.recording)
    assert recording["configuration"] == {"robot": "fr3", "path": "a"}
    assert recording["versions"]["numpy"] == np.__version__


def test_the_operator_is_kept_and_descriptions_of_before_name_none(tmp_path: Path):
    start, *rest = EPISODES[0]
    assert isinstance(start, EpisodeStart)
    path = record(tmp_path / "store", [[replace(start, operator="wrong"), *rest], EPISODES[1]])
    store = EpisodeStore(path)
    assert [info.operator for info in store.infos] == ["wrong", ""]
    description = path / "episodes" / "00000000.json"
    values = json.loads(description.read_text())
    del values["operator"]
    description.write_text(json.dumps(values))
    assert EpisodeStore(path).infos[0] == replace(store.infos[0], operator="")


def test_images_are_stored_once_as_uint8(tmp_path: Path):
    store = EpisodeStore(record(tmp_path / "store"))
    images = store.arrays[OBSERVATION + "image/front"]
    assert images.dtype == np.uint8
    rows = store.length(OBSERVATION + "image/front")
    assert rows == store.steps + len(store)
    assert not np.asarray(images[rows:]).any()


def test_recordings_follow_each_other(tmp_path: Path):
    path = record(tmp_path / "store", EPISODES[:2])
    record(path, EPISODES[2:])
    assert_holds(EpisodeStore(path), EPISODES)
    assert len({info.recording for info in EpisodeStore(path).infos}) == 2


def test_other_specs_are_refused(tmp_path: Path):
    path = record(tmp_path / "store")
    other = ObservationSpec({"state": ArraySpec((4,))})
    with pytest.raises(SpecError, match="choose another folder"):
        EpisodeRecorder(path, other, ACTION_SPEC)
    with pytest.raises(SpecError, match="choose another folder"):
        EpisodeRecorder(path, SPEC, ActionSpec(("x",), 0.02, 0.1))
    record(path, [])  # the refusals have released the lock


def test_a_store_has_one_writer_and_any_number_of_readers(tmp_path: Path):
    recorder = EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    publish(recorder, iter(EPISODES[0]))
    recorder.flush()
    with pytest.raises(DataError, match="another process"):
        EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    assert_holds(EpisodeStore(tmp_path / "store"), EPISODES[:1])
    recorder.close()


def test_folders_that_are_no_store(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="neither an episode store nor empty"):
        EpisodeRecorder(tmp_path, SPEC, ACTION_SPEC)
    with pytest.raises(DataError, match="not an episode store"):
        EpisodeStore(tmp_path)
    with pytest.raises(DataError, match="open for reading"):
        store = EpisodeStore(record(tmp_path / "store"))
        store.append(store.episode(0))


def test_what_the_store_cannot_hold_is_refused_before_it_is_journalled(tmp_path: Path):
    recorder = EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    with pytest.raises(SpecError):
        recorder.on_start(EpisodeStart("e", "learn", {"state": np.zeros(9, np.float32)}, 0.0))
    with pytest.raises(DataError, match="not being recorded"):
        recorder.on_step(transition(1, 0))
    recorder.close()
    assert verify(tmp_path / "store").findings == []


def test_an_episode_cut_short_is_sealed_as_truncated(tmp_path: Path):
    path = record(tmp_path / "store", [EPISODES[0], EPISODES[1][:4]])  # three steps, no end
    assert len(journals(EpisodeStore(path))) == 1
    record(path, [])
    store = EpisodeStore(path)
    info, arrays = store.infos[1], store.episode(1).arrays
    assert info.recovered
    assert info.steps == 3
    assert list(arrays["truncated"]) == [False, False, True]
    assert not arrays["terminated"].any()
    assert_same(store.episode(1).observation(3), observation(2, 3))
    assert info.recording == store.infos[0].recording  # of the run that recorded it
    assert not journals(store)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def dying_at(moment: int) -> Iterator[None]:
    """`Killed` at the given call among those that write to the store's arrays or wait for the disk."""
    calls = itertools.count()
    real_put, real_sync = EpisodeStore._put, data.store._sync

    def put(self: EpisodeStore, key: str, array: Any, start: int, rows: Any) -> Any:
        if next(calls) == moment:
            array.resize((max(start + len(rows), array.shape[0]), *array.shape[1:]))
            raise Killed  # grown, not written
        return real_put(self, key, array, start, rows)

    def sync(files: list[Path]) -> None:
        if next(calls) == moment:
            raise Killed
        real_sync(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpisodeStore, "_put", put)
        patch.setattr(data.store, "_sync", sync)
        yield


@pytest.mark.slow
def test_a_writer_killed_anywhere_in_sealing_loses_nothing(tmp_path: Path):
    base = record(tmp_path / "base", [*EPISODES[:2], EPISODES[3][:-1]])  # leaves a journal without an end
    moments = 13  # two observations, eight step arrays, the ends, and waiting for the disk twice
    for moment in range(moments + 1):
        path = tmp_path / f"store-{moment}"
        shutil.copytree(base, path)
        try:
            with dying_at(moment):
                EpisodeRecorder(path, SPEC, ACTION_SPEC).close()
            assert moment == moments
        except Killed:
            assert moment < moments
        assert len(EpisodeStore(path)) == (2 if moment < moments - 1 else 3)
        record(path, [EPISODES[2]])
        store = EpisodeStore(path)
        assert [info.episode_id for info in store.infos] == [f"episode-{i}" for i in (1, 2, 4, 3)]
        for index, want in ((0, EPISODES[0]), (1, EPISODES[1]), (3, EPISODES[2])):
            for got, one in zip(store.episode(index).events(), want, strict=True):
                assert_same(got, one)
        assert store.infos[2].steps == 6
        assert verify(path).findings == []


def test_load_into_a_replay(tmp_path: Path):
    store = EpisodeStore(record(tmp_path / "store"))

    def load(**options: Any) -> tuple[int, set[int]]:
        buffer = ReplayBuffer(SPEC, 3, 100, seed=0)
        count = store.load_into(buffer.feed, **options)
        return count, set(buffer.sample(400).reward.astype(int)) if len(buffer) else set()

    steps = {1: range(1000, 1005), 2: range(2000, 2007), 4: range(4000, 4006)}
    assert load() == (3, {*steps[1], *steps[2], *steps[4]})  # the discarded one is left out
    assert load(phases=("demo",)) == (1, {*steps[1]})
    assert load(successes_only=True) == (2, {*steps[1], *steps[4]})
    assert load(phases=()) == (0, set())


def test_a_receiver_continues_after_a_restart(tmp_path: Path):
    """The learner journals what it gets; killed in the middle of an episode, it goes on with it."""
    path = tmp_path / "store"
    encoder, decoder = EpisodeEncoder("actor"), EpisodeDecoder()
    frames = [encoder.encode(event)[1] for episode in EPISODES for event in episode]
    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC, keep_open=True)
    for frame in frames[:10]:
        envelope = decoder.decode(frame)
        assert envelope is not None
        recorder.write(envelope, frame)
    recorder.close()

    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC, keep_open=True)
    decoder = EpisodeDecoder()
    assert [len(events) for events in recorder.unfinished] == [3]
    decoder.restore(recorder.store.last_sequences(), recorder.unfinished[0])
    assert decoder.last("actor") == 9
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0)
    recorder.store.load_into(buffer.feed)
    for envelope in recorder.unfinished[0]:
        buffer.feed(envelope.event)
    for frame in frames[8:]:  # the sender repeats what was not acknowledged
        envelope = decoder.decode(frame)
        if envelope is not None:
            recorder.write(envelope, frame)
            buffer.feed(envelope.event)
    recorder.close()
    assert_holds(EpisodeStore(path), EPISODES)
    assert EpisodeStore(path).last_sequences() == {"actor": len(frames) - 1}
    assert len(buffer) == 5 + 7 + 6


def test_interleaved_episodes_of_one_sender_are_sealed_whole(tmp_path: Path):
    recorder = EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    one, two = list(events(1, 4)), list(events(2, 4))
    for pair in zip(one, two, strict=True):
        publish(recorder, iter(pair))
    recorder.close()
    assert_holds(EpisodeStore(tmp_path / "store"), [one, two])


def test_a_failure_to_seal_keeps_the_journal_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: EpisodeStore, episode: Any) -> None:
        raise OSError(28, "No space left on device")

    recorder = EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    with monkeypatch.context() as patch:
        patch.setattr(EpisodeStore, "append", full)
        publish(recorder, iter(EPISODES[0]))
        publish(recorder, iter(EPISODES[1]))
        with pytest.raises(DataError, match="No space left"):
            recorder.close()
    record(tmp_path / "store", EPISODES[2:])
    assert_holds(EpisodeStore(tmp_path / "store"), EPISODES)


def test_a_slow_disk_neither_stalls_nor_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    go_on = threading.Event()
    real_append = EpisodeStore.append

    def slow(self: EpisodeStore, episode: Any) -> None:
        go_on.wait(30)
        real_append(self, episode)

    monkeypatch.setattr(EpisodeStore, "append", slow)
    monkeypatch.setattr("data.recorder.QUEUE_LENGTH", 2)
    recorder = EpisodeRecorder(tmp_path / "store", SPEC, ACTION_SPEC)
    episodes = [list(events(number, 2)) for number in range(1, 8)]
    for episode in episodes:
        publish(recorder, iter(episode))  # returns although nothing can be sealed
    assert len(EpisodeStore(tmp_path / "store")) == 0
    go_on.set()
    recorder.close()
    assert len(EpisodeStore(tmp_path / "store")) < 7
    record(tmp_path / "store", [])
    store = EpisodeStore(tmp_path / "store")
    order = [int(info.episode_id.removeprefix("episode-")) - 1 for info in store.infos]
    assert sorted(order) == list(range(7))
    assert_holds(store, [episodes[index] for index in order])


def test_an_episode_without_a_step(tmp_path: Path):
    nothing: list[Event] = [
        EpisodeStart("episode-9", "learn", observation(9, 0), 0.0),
        EpisodeEnd("episode-9", False, 0, 0.0, 0, discarded=True),
    ]
    path = record(tmp_path / "store", [nothing, EPISODES[0], nothing[:1]])
    record(path, [])
    assert [info.steps for info in EpisodeStore(path).infos] == [0, 5]
    assert_holds(EpisodeStore(path), [nothing, EPISODES[0]])
    assert verify(path).ok


def test_cache_equals_the_store_and_follows_it(tmp_path: Path):
    path = record(tmp_path / "store", EPISODES[:2])
    for upto in (2, 4):
        store = EpisodeStore(path)
        cache = open_cache(store)
        for index in range(len(store)):
            for key, array in store.episode(index).arrays.items():
                np.testing.assert_array_equal(cache.arrays[key][store.rows(index, key)], array)
        assert isinstance(cache.arrays[OBSERVATION + "image/front"], np.memmap)
        assert len(list((path / CACHE).iterdir())) == 1
        if upto == 2:
            record(path, EPISODES[2:])


def test_cache_is_built_once_and_rebuilt_when_damaged(tmp_path: Path):
    store = EpisodeStore(record(tmp_path / "store"))
    first = open_cache(store).path
    file = first / "reward.npy"
    stamp = file.stat().st_mtime_ns
    open_cache(store)
    assert file.stat().st_mtime_ns == stamp
    with file.open("r+b") as stream:
        stream.truncate(140)
    np.testing.assert_array_equal(open_cache(store).arrays["reward"], store.arrays["reward"][:19])


def test_spans():
    flags = np.array([1, 1, 0, 1, 0, 0, 1], bool)
    assert spans(flags) == ((0, 2), (3, 4), (6, 7))
    assert spans(np.zeros(3, bool)) == spans(np.zeros(0, bool)) == ()
