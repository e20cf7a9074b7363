"""`robot-rl promote` from the command line, on runs and tables on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.apps import cli
from robot_rl.registry import Registry, checkpoint_hash
from tests.robot_rl.test_registry import make_run
from tests.twin_tables import even, rows, write


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Two runs `old` and `new`; a function that evaluates them with these rates; the command line there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runs = {name: make_run(tmp_path / name, name.encode()) for name in ("old", "new")}
    hashes = {name: checkpoint_hash(checkpoint) for name, (_, checkpoint) in runs.items()}

    def evaluate(**rates):
        return write(tmp_path / "evaluation", rows({name: even(*one) for name, one in rates.items()}, 100, hashes))

    return evaluate


def promote(*words):
    return cli.main(["promote", *words])


def test_promotion_status_history_and_roll_back(lab, capsys):
    assert promote("--status") == 0 and "nothing is in service" in capsys.readouterr().out
    lab(old=(0.7, 0.7), new=(0.9, 0.9))
    assert promote("old", "--evaluation", "evaluation", "--why", "the first") == 0
    assert promote("new", "--evaluation", "evaluation") == 0
    out = capsys.readouterr().out
    assert "new; then old" in out and "in service: promotion 2, new" in out and "0.20 [" in out
    assert promote("--status") == 0
    out = capsys.readouterr().out
    assert "in service: promotion 2, new" in out and "a roll-back returns to promotion 1, old" in out
    assert promote("--rollback", "--why", "it drops the cup") == 0
    assert "in service again: promotion 1, old" in capsys.readouterr().out
    assert promote("--list") == 0
    out = capsys.readouterr().out
    assert "it drops the cup" in out and "the first" in out and "rolled back" in out
    promoted = Registry(Path("runs/service")).promoted(2)
    assert promoted.figures["success"]["value"] == pytest.approx(0.9)


def test_an_overfitted_policy_is_refused_and_can_be_forced(lab, capsys):
    lab(new=(0.98, 0.31))
    assert promote("new", "--evaluation", "evaluation") == 1
    out = capsys.readouterr().out
    assert "overfitted to the twin: 0.98 in the point twin, 0.31 over the ensemble" in out and "refused: " in out
    assert promote("--status") == 0 and "nothing is in service" in capsys.readouterr().out
    assert promote("new", "--evaluation", "evaluation", "--force", "a demonstration, arm in a cage") == 0
    promote("--list")
    out = capsys.readouterr().out
    assert "promoted (forced)" in out and "forced: a demonstration, arm in a cage" in out


def test_limits_can_be_given(lab, capsys):
    lab(new=(0.7, 0.6))
    assert promote("new", "--evaluation", "evaluation", "required_success=0.7") == 1
    assert "its lower bound is below 0.70" in capsys.readouterr().out
    assert promote("new", "--evaluation", "evaluation", "required_success=0.5") == 0
    assert promote("new", "--evaluation", "evaluation", "required=0.5") == 2
    assert "required_success" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["new"], "one run and its evaluation"),
        (["new", "--evaluation", "nowhere"], "is no table of episodes"),
        (["nothing", "--evaluation", "evaluation"], "has no checkpoints"),
        (["--rollback"], "nothing to roll back to"),
    ],
)
def test_what_is_missing_is_told(lab, capsys, words, text):
    lab(new=(0.9, 0.9))
    assert promote(*words) == 2
    assert text in capsys.readouterr().err
