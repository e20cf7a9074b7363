"""The registry: what it says after promotions, roll-backs, kills at any time and several writers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from robot_rl.errors import ConfigError, DataError
from robot_rl.identity import checkpoint_hash, experiment_hash, identity_of
from robot_rl.registry import DeployedEpisode, Registry

EPISODE = DeployedEpisode("a", "2030-01-01T00:00:00+00:00", "runs/deploy", 100, 7, True, False, 1, 2)


def make_run(folder: Path, weights: bytes, step: int = 7) -> tuple[Path, Path]:
    checkpoint = folder / "checkpoints" / f"step_{step:09d}"
    checkpoint.mkdir(parents=True)
    (folder / "experiment.json").write_text("{}")
    (checkpoint / "policy.safetensors").write_bytes(weights)
    return folder, checkpoint


def promote(registry: Registry, folder: Path, name: str) -> int:
    return registry.promote(*make_run(folder / name, name.encode()), name=name, why="it is good").number


def test_promotions_and_roll_backs(tmp_path):
    registry = Registry(tmp_path / "service")
    assert registry.newest is None and registry.history() == [] and registry.in_service() is None
    with pytest.raises(ConfigError, match="nothing to roll back to"):
        registry.roll_back("why not")
    first = promote(registry, tmp_path, "first")
    with pytest.raises(ConfigError, match="nothing to roll back to"):
        registry.roll_back("there is no other")
    second = promote(registry, tmp_path, "second")
    assert registry.in_service()[1].name == "second"
    event = registry.roll_back("it drops the cup")
    assert event.in_service == first and registry.in_service()[1].name == "first"
    third = promote(registry, tmp_path, "third")
    assert registry.newest.serving == (first, third)  # what was rolled back is not returned to
    assert registry.roll_back("again").in_service == first
    assert [(one.kind, one.in_service) for one in registry.history()] == [
        *(("promoted", first), ("promoted", second), ("rolled back", first), ("promoted", third)),
        ("rolled back", first),
    ]
    assert registry.history()[2].why == "it drops the cup" and "@" in registry.history()[0].by


def test_a_roll_back_that_comes_too_late_does_nothing(tmp_path):
    registry = Registry(tmp_path / "service")
    first, second = promote(registry, tmp_path, "first"), promote(registry, tmp_path, "second")
    assert registry.roll_back("a person", expected=second).in_service == first
    with pytest.raises(ConfigError, match=f"promotion {second} is not in service any more"):
        registry.roll_back("the watch", expected=second)


def test_the_copy_outlives_the_run_and_is_checked(tmp_path):
    registry = Registry(tmp_path / "service")
    run, checkpoint = make_run(tmp_path / "run", b"weights")
    registry.promote(run, checkpoint, name="run", why="")
    (checkpoint / "policy.safetensors").write_bytes(b"trained on")
    _, promoted = registry.in_service()
    copy = registry.checkpoint(promoted)
    assert (copy / "policy.safetensors").read_bytes() == b"weights" and copy.name == checkpoint.name
    assert (copy.parents[1] / "experiment.json").read_text() == "{}"
    assert promoted.checkpoint == checkpoint_hash(copy) and promoted.source == str(checkpoint)
    (copy / "policy.safetensors").write_bytes(b"tampered")
    with pytest.raises(DataError, match="was altered"):
        registry.checkpoint(promoted)


@pytest.mark.parametrize("recorded", [True, False])
def test_an_altered_experiment_is_told_and_promoting_again_mends_the_copy(tmp_path, recorded):
    """A record of before lacks the experiment's hash; the name of the copy's folder has its first digits."""
    registry = Registry(tmp_path / "service")
    run, checkpoint = make_run(tmp_path / "run", b"weights")
    number = registry.promote(run, checkpoint, name="run", why="").number
    promoted = registry.promoted(number)
    assert promoted.experiment == experiment_hash(run) and promoted.identity == identity_of(run, checkpoint)
    if not recorded:
        promoted = replace(promoted, experiment="")
    copy = registry.checkpoint(promoted)
    (copy.parents[1] / "experiment.json").write_text('{"translation_m": 0.5}')
    assert "was altered: its experiment.json hashes to" in registry.altered(promoted)
    with pytest.raises(DataError, match="was altered"):
        registry.checkpoint(promoted)
    registry.promote(run, checkpoint, name="run", why="")
    assert registry.altered(promoted) == "" and (copy.parents[1] / "experiment.json").read_text() == "{}"
    (copy / "policy.safetensors").unlink()
    assert "holds no readable policy" in registry.altered(promoted)


def test_a_change_may_be_made_of_several(tmp_path):
    """Who holds the registry promotes without waiting for themselves; others wait."""
    registry = Registry(tmp_path / "service")
    make_run(tmp_path / "second", b"second")
    with registry.changing():
        run = tmp_path / "second"
        other = threading.Thread(
            target=Registry(registry.folder).promote,
            args=(run, run / "checkpoints" / "step_000000007"),
            kwargs={"name": "second", "why": ""},
        )
        other.start()
        other.join(0.3)
        assert promote(registry, tmp_path, "first") == 1 and registry.in_service()[0] == 1
    other.join()
    assert registry.in_service()[0] == 2


def test_an_event_that_nothing_points_to_has_not_happened(tmp_path):
    """Killed between the event's file and the pointer: the state is the old one, and the number is not used again."""
    registry = Registry(tmp_path / "service")
    (registry.folder / "policies" / ".partial" / "checkpoints").mkdir(parents=True)
    first = promote(registry, tmp_path, "first")
    assert not list((registry.folder / "policies").glob(".*"))
    pointer = (registry.folder / "in_service.json").read_text()
    promote(registry, tmp_path, "second")
    (registry.folder / "in_service.json").write_text(pointer)
    (registry.folder / "history" / ".000003.json.partial").write_text('{"torn')
    assert registry.in_service()[0] == first and len(registry.history()) == 1
    third = promote(registry, tmp_path, "third")
    assert third == 3 and [one.number for one in registry.history()] == [1, 3]


@pytest.mark.parametrize(
    ("pointer", "text"),
    [
        ("{", r"in_service\.json cannot be read"),
        ("[1]", r"in_service\.json cannot be read: it holds \[1\], not an object"),
        ('{"event": "1"}', r"in_service\.json names no event.*got '1'"),
        ("{}", r"in_service\.json names no event.*got None"),
        ('{"event": 7}', r"000007\.json cannot be read"),
    ],
)
def test_a_damaged_pointer_is_told(tmp_path, pointer, text):
    registry = Registry(tmp_path / "service")
    promote(registry, tmp_path, "first")
    (registry.folder / "in_service.json").write_text(pointer)
    with pytest.raises(DataError, match=text):
        registry.in_service()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda event: [event], "not an object"),
        (lambda event: event | {"serving": []}, "is not event 1"),
        (lambda event: event | {"parent": 1}, "is not event 1"),
        (lambda event: event | {"kind": "stolen"}, "is no event: .*stolen"),
    ],
)
def test_a_damaged_event_is_told(tmp_path, change, text):
    registry = Registry(tmp_path / "service")
    promote(registry, tmp_path, "first")
    path = registry.folder / "history" / "000001.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=text):
        registry.history()


def test_what_cannot_be_a_registry_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is no folder: a registry is one"):
        Registry(tmp_path / "file")
    with pytest.raises(ConfigError, match="inner cannot be changed"):
        promote(Registry(tmp_path / "file" / "inner"), tmp_path, "first")


def test_episodes_of_a_deployment_outlive_a_torn_line(tmp_path):
    registry = Registry(tmp_path / "service")
    assert registry.episodes(1) == []
    registry.add_episode(1, EPISODE)
    path = next((registry.folder / "deployments").iterdir())
    with path.open("ab") as stream:
        stream.write(b'[1]\n\xff\n{"episode_id": "to')
    assert registry.episodes(1) == [EPISODE]
    registry.add_episode(1, EPISODE)
    assert registry.episodes(1) == [EPISODE, EPISODE] and registry.episodes(2) == []


def test_writers_take_turns(tmp_path):
    registry = Registry(tmp_path / "service")
    runs = [make_run(tmp_path / str(number), b"%d" % number) for number in range(8)]
    threads = [
        threading.Thread(target=registry.promote, args=run, kwargs={"name": run[0].name, "why": ""}) for run in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.number for one in registry.history()] == list(range(1, 9))
    assert registry.newest.serving == tuple(range(1, 9))


@pytest.mark.slow
def test_readable_after_a_kill_at_any_time(tmp_path):
    """A writer that promotes and rolls back without a pause is killed again and again."""
    make_run(tmp_path / "a", b"a" * 10_000), make_run(tmp_path / "b", b"b" * 10_000)
    code = """
import sys
from pathlib import Path
from robot_rl.registry import Registry
folder = Path(sys.argv[1])
registry = Registry(folder / "service")
while True:
    for name in "ab":
        run = folder / name
        registry.promote(run, run / "checkpoints" / "step_000000007", name=name, why="")
    registry.roll_back("")
"""
    registry, happened = Registry(tmp_path / "service"), 0
    for round in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        deadline_s = time.monotonic() + 30.0
        while time.monotonic() < deadline_s and not (registry.newest and registry.newest.number > happened):
            time.sleep(0.01)
        time.sleep(0.013 * round)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        number, promoted = registry.in_service()
        assert registry.checkpoint(promoted).is_dir() and registry.promoted(number).name in "ab"
        events = registry.history()
        assert all(json.dumps(one.why) is not None for one in events) and events[-1].in_service == number
        assert events[-1].number > happened
        happened = events[-1].number
