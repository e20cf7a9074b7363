"""`verify` finds each kind of damage, and its repair keeps every sound episode and every byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from rich.console import Console

from data.cache import open_cache
from data.journal import Journal, read_journal
from data.layout import EPISODES as DESCRIPTIONS
from data.layout import QUARANTINE
from data.recorder import EpisodeRecorder
from data.recovery import journals
from data.store import EpisodeStore
from data.verify import verify
from robot_rl.errors import DataError
from robot_rl.types import Transition
from tests.data.episodes import ACTION_SPEC, SPEC, events, publish
from tests.data.test_store import EPISODES, record
from tests.robot_rl.test_wire import assert_same


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return record(tmp_path / "store")


def array(path: Path, key: str) -> zarr.Array:
    found = zarr.open_group(path)[key]
    assert isinstance(found, zarr.Array)
    return found


def description(path: Path, index: int) -> Path:
    return path / DESCRIPTIONS / f"{index:08d}.json"


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refresh_checksum(path: Path, index: int, key: str) -> None:
    """Make a changed array pass for written like that, so that only the later checks can find it."""
    from data.episode import checksum

    store = EpisodeStore(path)
    crc = dict(store.infos[index].crc32) | {key: checksum(store.episode(index).arrays[key])}
    change(description(path, index), crc32=crc)


def poke(path: Path, key: str, row: int, value: float, index: int) -> None:
    array(path, key)[row] = value
    refresh_checksum(path, index, key)


def corrupt_chunk(path: Path) -> None:
    chunk = path / "reward/c/0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 0xFF
    chunk.write_bytes(data)


# Episode 1 has the steps 5 ... 11 and the observations 6 ... 13.
EPISODE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed value": (
        lambda path: array(path, "reward").__setitem__(7, 5.0),
        "reward does not have its checksum",
    ),
    "a changed image": (
        lambda path: array(path, "observation/image/front").__setitem__((6, 0, 0, 0), 99),
        "observation/image/front does not have its checksum",
    ),
    "NaN": (lambda path: poke(path, "observation/state", 8, np.nan, 1), "observation/state holds NaN"),
    "stamps that fall": (lambda path: poke(path, "stamp_s", 8, 0.0, 1), "stamps do not rise"),
    "an end in the middle": (lambda path: poke(path, "terminated", 7, True, 1), "goes on after its end"),
    "no end": (lambda path: poke(path, "truncated", 11, False, 1), "neither terminates nor truncates"),
    "other spans": (
        lambda path: change(description(path, 1), intervention_spans=[[0, 1]]),
        "intervention spans do not fit",
    ),
    "a wrong length": (lambda path: change(description(path, 1), steps=3), "says 3 steps, episode_ends 7"),
    "no description": (lambda path: description(path, 1).unlink(), "no readable description"),
    "a torn description": (
        lambda path: description(path, 1).write_text('{"episode'),
        "no readable description",
    ),
    "an id twice": (
        lambda path: change(description(path, 1), episode_id="episode-1"),
        "same id as episode 0",
    ),
}  # fmt: skip


def test_a_sound_store_passes(path: Path):
    report = verify(path)
    assert report.ok
    assert report.findings == []
    assert (report.episodes, report.usable, report.steps) == (4, 3, 19)


@pytest.mark.parametrize(("damage", "what"), EPISODE_FAULTS.values(), ids=EPISODE_FAULTS.keys())
def test_a_damaged_episode_is_found_and_left_out(path: Path, damage: Callable[[Path], object], what: str):
    damage(path)
    report = verify(path)
    assert not report.ok
    assert [finding.where for finding in report.findings] == ["episode 1"]
    assert what in report.findings[0].what

    repaired = verify(path, repair=True)
    assert repaired.ok
    assert repaired.findings[0].done
    after = verify(path)
    assert after.ok
    assert (after.episodes, after.usable, after.steps) == (4, 2, 19)
    seen = []
    EpisodeStore(path).load_into(seen.append)
    wanted = [event for index in (0, 3) for event in EPISODES[index]]
    for got, want in zip(seen, wanted, strict=True):
        assert_same(got, want)


def test_a_chunk_that_cannot_be_decoded_takes_out_only_what_lies_in_it(path: Path):
    corrupt_chunk(path)
    report = verify(path, repair=True)
    assert report.ok
    assert {finding.where for finding in report.findings} == {f"episode {index}" for index in range(4)}
    assert report.usable == 0
    assert (path / QUARANTINE / "reward.c.0").exists()
    more = list(events(8, 3))
    record(path, [more])  # its rewards go where the damaged chunk was
    assert verify(path).ok
    for got, want in zip(EpisodeStore(path).episode(4).events(), more, strict=True):
        assert_same(got, want)


def test_an_unreadable_chunk_stops_sealing_until_the_repair_and_loses_nothing(path: Path):
    corrupt_chunk(path)
    more = list(events(8, 3))
    with pytest.raises(DataError, match="could not seal"):
        record(path, [more])
    assert len(journals(EpisodeStore(path))) == 1
    assert verify(path, repair=True).ok
    assert not journals(EpisodeStore(path))
    for got, want in zip(EpisodeStore(path).episode(4).events(), more, strict=True):
        assert_same(got, want)


@pytest.mark.parametrize("key", ["reward", "observation/image/front", "executed_action"])
def test_missing_rows_cut_the_last_episodes_off_and_keep_their_remains(path: Path, key: str):
    whole = np.asarray(array(path, key)[:])
    array(path, key).resize((11, *whole.shape[1:]))
    report = verify(path)
    assert not report.ok
    assert "too few for episode 1" in report.findings[0].what

    assert verify(path, repair=True).ok
    store = EpisodeStore(path)
    assert len(store) == 1
    kept = next((path / QUARANTINE).iterdir())
    first = 6 if key.startswith("observation") else 5
    np.testing.assert_array_equal(np.load(kept / f"{key.replace('/', '.')}.npy"), whole[first:11])
    stamps = [step.stamp_s for step in EPISODES[1] if isinstance(step, Transition)]
    np.testing.assert_array_equal(np.load(kept / "stamp_s.npy")[:7], stamps)
    assert len(list(kept.glob("0*.json"))) == 3
    record(path, EPISODES[1:])
    assert verify(path).findings == []
    assert len(EpisodeStore(path)) == 4


def test_ends_that_fall_cut_off_what_follows(path: Path):
    array(path, "episode_ends")[2] = 4
    report = verify(path)
    assert not report.ok
    assert "falls at episode 2" in report.findings[0].what
    assert verify(path, repair=True).ok
    assert verify(path).ok
    assert len(EpisodeStore(path)) == 2


def test_an_uncommitted_end_is_no_fault(path: Path):
    array(path, "reward")[19:30] = 5.0  # a writer died before it committed
    array(path, "observation/state")[23:30] = np.nan
    report = verify(path)
    assert report.findings == []
    assert report.episodes == 4
    record(path, [list(events(8, 3))])
    assert verify(path).findings == []


def test_an_interrupted_recording_is_noted_and_sealed_by_the_repair(path: Path):
    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC)
    publish(recorder, iter(list(events(6, 5))[:4]))
    report = verify(path)
    assert report.ok
    assert report.findings[0].what == "3 steps, not sealed yet"
    with pytest.raises(DataError, match="another process"):
        verify(path, repair=True)
    recorder.close()
    repaired = verify(path, repair=True)
    assert repaired.ok
    assert (repaired.episodes, repaired.steps) == (5, 22)
    assert EpisodeStore(path).infos[4].recovered
    assert verify(path).findings == []


def test_a_damaged_journal_is_sealed_up_to_the_damage_and_kept(path: Path):
    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC)
    publish(recorder, iter(list(events(6, 5))[:5]))  # start and four steps
    recorder.close()
    (journal,) = journals(EpisodeStore(path))
    data = bytearray(journal.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    journal.write_bytes(data)
    report = verify(path)
    assert not report.ok
    assert "is damaged" in report.findings[0].what
    assert verify(path, repair=True).ok
    store = EpisodeStore(path)
    assert 1 <= store.infos[4].steps < 4
    assert (path / QUARANTINE / f"journal.{journal.name}").read_bytes() == data
    assert verify(path).ok


def test_a_stale_cache_is_noted(path: Path):
    open_cache(EpisodeStore(path))
    assert verify(path).findings == []
    record(path, [list(events(7, 2))])
    report = verify(path)
    assert report.ok
    assert "out of date" in report.findings[0].what


def test_the_table_names_the_faults(path: Path):
    description(path, 1).unlink()
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(verify(path).table())
    text = console.export_text()
    assert "episode 1" in text
    assert "no readable description" in text
    assert "faults found" in text


def test_no_store(tmp_path: Path):
    with pytest.raises(DataError, match="not an episode store"):
        verify(tmp_path)


@pytest.mark.parametrize("key", ["reward", "observation/state", "episode_ends"])
@pytest.mark.parametrize("damage", ["gone", "torn", "empty"])
def test_lost_array_metadata_is_made_anew_from_the_stores_own(path: Path, key: str, damage: str) -> None:
    before = [EpisodeStore(path).episode(index) for index in range(len(EpisodeStore(path)))]
    metadata = path / key / "zarr.json"
    if damage == "gone":
        metadata.unlink()
    else:
        metadata.write_bytes(metadata.read_bytes()[:20] if damage == "torn" else b"")
    with pytest.raises(DataError, match=f"data verify {path} --repair"):
        EpisodeStore(path)
    report = verify(path, repair=True)
    assert report.ok and [finding.where for finding in report.findings] == [f"{key}/zarr.json"]
    store = EpisodeStore(path)
    assert len(store) == len(before) and verify(path).ok
    for index, episode in enumerate(before):
        assert store.episode(index).info == episode.info
        assert all(np.array_equal(store.episode(index).arrays[name], rows) for name, rows in episode.arrays.items())


def test_one_bad_byte_in_a_description_costs_that_episode_alone(path: Path) -> None:
    text = bytearray(description(path, 1).read_bytes())
    text[20] |= 0x80
    description(path, 1).write_bytes(text)
    store = EpisodeStore(path)
    assert [bool(info.damage) for info in store.infos] == [index == 1 for index in range(len(store))]
    assert verify(path, repair=True).ok and len(EpisodeStore(path)) == len(store)


def test_an_episode_that_cannot_be_read_says_what_to_run(path: Path) -> None:
    corrupt_chunk(path)
    with pytest.raises(DataError, match=r"data verify .* --repair"):
        EpisodeStore(path).load_into(lambda event: None)


def test_a_damaged_journal_by_itself_is_cut_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    for payload in (b"first", b"second", b"third"):
        journal.append(payload)
    journal.close()
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"second")] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match=f"data verify {path} --repair"):
        Journal(path)
    assert not verify(path).ok and path.read_bytes() == whole
    assert verify(path, repair=True).ok
    assert list(read_journal(path).frames) == [b"first"]
    assert [kept.read_bytes() for kept in tmp_path.glob("journal.damaged-*")] == [whole]
    Journal(path).close()
    assert not verify(path).findings


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    """It was emptied, and its content put into a copy."""
    path = tmp_path / "notes.txt"
    path.write_text("something else entirely")
    for repair in (False, True):
        with pytest.raises(DataError, match="is not a journal of this version"):
            verify(path, repair=repair)
    assert path.read_text() == "something else entirely"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, None])
def test_lost_ends_are_those_of_the_descriptions(path: Path, damage: bytes | None) -> None:
    """The one file that is written anew with every episode: empty after a power cut, or gone."""
    before = [info.episode_id for info in EpisodeStore(path).infos]
    chunk = path / "episode_ends/c/0"
    chunk.unlink() if damage is None else chunk.write_bytes(damage)
    if damage is None:
        assert not verify(path).ok
    else:
        with pytest.raises(DataError, match="--repair"):
            verify(path)
    assert verify(path, repair=True).ok and verify(path).findings == []
    assert [info.episode_id for info in EpisodeStore(path).infos] == before
    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC)
    publish(recorder, events(9, 4))
    recorder.close()
    assert len(EpisodeStore(path)) == len(before) + 1 and verify(path).ok
