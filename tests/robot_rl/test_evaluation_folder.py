"""The folder of an evaluation in twins: run again under other conditions, cut off, damaged, beside real trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot_rl.apps import evaluate_twin
from robot_rl.apps.cli import main
from robot_rl.apps.twin_cells import run_cell
from robot_rl.evaluation_table import EPISODES, read_table
from tests.robot_rl.twin_scene import write_policy, write_work

NAMES = ("act[v1]", "plain")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("folder")
    write_work(base / "kitchen")
    for seed, name in enumerate(NAMES):
        write_policy(base / name, seed, "policy=gcbc", "policy.hidden=[16]")
    return base


def command(place: Path, out: Path, *words: str) -> list[str]:
    runs = [str(place / name) for name in NAMES]
    small = ["episodes=2", "together=1", "twins.kinds=[point]", "guarded=false", "--jobs", "1"]
    return ["evaluate", "--twin", str(place / "kitchen"), *runs, *small, "--out", str(out), *words]


def test_a_ranking_of_before_does_not_stay_beside_other_episodes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(place, tmp_path)) == 0
    assert (tmp_path / "ranking.json").exists()
    done = []

    def cut_off(*arguments: Any) -> Path:
        if done:
            raise KeyboardInterrupt
        done.append(run_cell(*arguments))
        assert read_table(tmp_path / EPISODES) == []  # and a kill here leaves none either
        return done[0]

    monkeypatch.setattr(evaluate_twin, "run_cell", cut_off)
    assert main(command(place, tmp_path, "seed=9")) == 130
    assert [row.seed % 1_000_000 for row in read_table(tmp_path / EPISODES)] == [
        read_table(done[0])[0].seed % 1_000_000
    ]
    assert not (tmp_path / "ranking.json").exists()
    monkeypatch.undo()
    assert main(command(place, tmp_path, "seed=9")) == 0
    assert (tmp_path / "ranking.json").exists() and len(read_table(tmp_path / EPISODES)) == 4


def test_a_damaged_part_is_named_and_run_again(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(place, tmp_path)) == 0
    rows, parts = read_table(tmp_path / EPISODES), sorted((tmp_path / "parts").glob("*.parquet"))
    times = [path.stat().st_mtime_ns for path in parts]
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    capsys.readouterr()
    assert main(command(place, tmp_path)) == 0
    said = capsys.readouterr().out
    assert "run again" in said and parts[1].name in said and parts[0].name not in said
    assert read_table(tmp_path / EPISODES) == rows
    assert [path.stat().st_mtime_ns == time for path, time in zip(parts, times, strict=True)] == [
        True,
        False,
        True,
        True,
    ]


def test_names_with_brackets_are_told_and_so_is_who_ranks(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(place, tmp_path)) == 0
    said = capsys.readouterr().out
    assert said.count("act[v1]") >= 2  # in the table and in the sentence
    assert "no ensemble was evaluated: the ranking is by the point twin alone" in " ".join(said.split())


def test_real_trials_of_others(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = tmp_path / "trials.csv"
    trials.write_text("policy,start,success\nplain,0,1\nact,0,1\n")
    assert main(command(place, tmp_path / "out", "--real", str(trials))) == 0
    assert "'act' not evaluated (a misspelling?)" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "out" / "ranking.json").read_text())["real"]) == ["plain"]
    trials.write_text("policy,start,success\nact,0,1\n")
    assert main(command(place, tmp_path / "out", "--real", str(trials))) == 2
    assert "valid names: 'act[v1]', 'plain'" in capsys.readouterr().err


def test_real_trials_of_another_checkpoint_are_refused_by_both(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow
    from pyarrow import parquet

    out, trials = tmp_path / "out", tmp_path / "trials.parquet"
    assert main(command(place, out)) == 0
    found = parquet.read_table(out / EPISODES).to_pylist()
    real = [row | {"kind": "real", "world": "real", "checkpoint": "0" * 64} for row in found]
    parquet.write_table(pyarrow.Table.from_pylist(real), trials)
    said = []
    for words in (command(place, out), ["twin", "report", str(out)]):
        assert main([*words, "--real", str(trials)]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] and "two checkpoints go by the name" in said[0]


def test_two_scenes_of_one_name_are_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_work(tmp_path / "kitchen")
    assert main(command(place, tmp_path / "out", "--twin", str(other))) == 2
    said = capsys.readouterr().err
    assert str(place / "kitchen") in said and str(other) in said and "rename one" in said


def test_a_film_is_that_of_its_conditions(place: Path, tmp_path: Path) -> None:
    from sim.rendering import choose_gl

    try:
        choose_gl()
    except Exception as error:
        pytest.skip(str(error))

    def films(seed: int) -> dict[str, bytes]:
        assert main(command(place, tmp_path, "films=1", f"seed={seed}")) == 0
        return {row.film: (tmp_path / row.film).read_bytes() for row in read_table(tmp_path / EPISODES) if row.film}

    first, other = films(0), films(5)
    assert len(first) == len(other) == 2 and not set(first) & set(other)
    assert films(0) == first and list(first.values()) != list(other.values())
