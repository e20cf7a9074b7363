"""The table of episodes: what is written is read, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from robot_rl.errors import ConfigError, DataError
from robot_rl.evaluation_table import COLUMNS, EpisodeRow, read_table, read_trials, trials_of, write_table


def row(
    policy: str = "a", world: str = "point", kind: str = "point", start: int = 0, success: bool = True
) -> EpisodeRow:
    return EpisodeRow(
        policy, "00ff", world, kind, "kitchen", "", start, 7, success, 31, 1.0, 2, 1, 0.5, 0.1, 0.2, 0.6, 0.0, 3.1, ""
    )


def test_what_is_written_is_read_by_its_agreed_columns(tmp_path: Path) -> None:
    rows = [row(start=0), row("b", "ensemble_00", "ensemble", 1, False)]
    write_table(tmp_path / "episodes.parquet", rows)
    assert read_table(tmp_path / "episodes.parquet") == rows
    table = pyarrow.parquet.read_table(tmp_path / "episodes.parquet")
    assert table.column_names == list(COLUMNS) and len(COLUMNS) == 20
    assert table["return"].to_pylist() == [1.0, 1.0] and str(table.schema.field("tcp_x_m").type) == "double"
    assert [one.name for one in tmp_path.iterdir()] == ["episodes.parquet"]


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    with pytest.raises(ConfigError, match="point, identified, ensemble, real"):
        write_table(path, [row(kind="dream")])
    write_table(path, [row()])
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.drop_columns(["steps"]), path)
    with pytest.raises(DataError, match="steps is missing, not int64"):
        read_table(path)
    changed = table.set_column(table.column_names.index("success"), "success", pyarrow.array([1.0]))
    pyarrow.parquet.write_table(changed.append_column("note", pyarrow.array(["x"])), path)
    with pytest.raises(DataError, match="success is double, not bool"):
        read_table(path)
    empty = table.set_column(table.column_names.index("success"), "success", pyarrow.array([None], pyarrow.bool_()))
    pyarrow.parquet.write_table(empty, path)
    with pytest.raises(DataError, match="rows without success"):
        read_table(path)
    path.write_text("no parquet")
    with pytest.raises(DataError, match="no table of episodes"):
        read_table(path)


def test_trials_of_a_person_and_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_text("policy,start,success\na,3,1\na,4,false\n")
    trials = read_trials(tmp_path / "trials.csv")
    assert [(one.policy, one.start, one.success, one.kind) for one in trials] == [
        ("a", 3, True, "real"),
        ("a", 4, False, "real"),
    ]
    write_table(tmp_path / "t.parquet", [row(), row(world="real", kind="real")])
    assert read_trials(tmp_path / "t.parquet") == [row(world="real", kind="real")]
    (tmp_path / "trials.csv").write_text("policy,start,success\na,3,perhaps\n")
    with pytest.raises(DataError, match="success \\(0 or 1\\)"):
        read_trials(tmp_path / "trials.csv")


def test_a_line_that_is_too_short_is_named_and_excels_mark_is_none(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_bytes(b"\xef\xbb\xbfpolicy,start,success\r\na,3,1\r\n")
    assert [(one.policy, one.start, one.success) for one in read_trials(path)] == [("a", 3, True)]
    path.write_text("policy,start,success\na,3,1\na,4\n")
    with pytest.raises(DataError, match=r"line 3: .*no success"):
        read_trials(path)


def test_trials_of_others_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text("policy,start,success\na,3,1\nA,4,0\nA,5,0\n")
    trials, note = trials_of(path, {"a": "00ff", "b": ""})
    assert [one.start for one in trials] == [3]
    assert "'A' not evaluated (a misspelling?), 2 of 3 real trials left out; valid names: 'a', 'b'" in note
    assert trials_of(path, {"a": "", "A": ""})[1] == ""
    with pytest.raises(DataError, match=r"no real trial is of a policy of this evaluation.*valid names: 'c'"):
        trials_of(path, {"c": ""})


def test_trials_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [row(world="real", kind="real")])
    assert len(trials_of(path, {"a": "00ff"})[0]) == len(trials_of(path, {"a": ""})[0]) == 1
    with pytest.raises(ConfigError, match="two checkpoints go by the name a"):
        trials_of(path, {"a": "beef"})
