"""`robot-rl promote` from the command line, on runs and tables on disk."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from robot_rl.apps import cli
from robot_rl.evaluation_description import EXPERIMENT, RANKING, TABLE, table_hash
from robot_rl.evaluation_table import EPISODES
from robot_rl.identity import checkpoint_hash, experiment_hash
from robot_rl.promotion import judge
from robot_rl.registry import Registry
from tests.robot_rl.test_registry import make_run
from tests.twin_tables import even, rows, write


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Two runs `old` and `new`; a function that evaluates them with these rates; the command line there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runs = {name: make_run(tmp_path / name, name.encode()) for name in ("old", "new")}
    hashes = {name: checkpoint_hash(checkpoint) for name, (_, checkpoint) in runs.items()}

    def evaluate(guarded=True, told=(EXPERIMENT,), **rates):
        said = {name: {"sha256": hashes[name], EXPERIMENT: experiment_hash(runs[name][0])} for name in rates}
        said = {name: {key: one[key] for key in ("sha256", *told)} for name, one in said.items()}
        folder = write(tmp_path / "evaluation", rows({name: even(*one) for name, one in rates.items()}, 100, hashes))
        description = {"policies": said, "configuration": {"guarded": guarded}}
        (folder / "evaluation.json").write_text(json.dumps(description))
        return folder

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


def test_a_table_that_was_altered_after_the_evaluation_promotes_nothing(lab, capsys):
    folder = lab(new=(0.9, 0.9))
    (folder / RANKING).write_text(json.dumps({TABLE: table_hash(folder)}))
    honest = (folder / EPISODES).read_bytes()
    lab(new=(0.95, 0.95))
    assert promote("new", "--evaluation", "evaluation") == 1
    assert "refused: table: episodes.parquet was altered after the evaluation" in capsys.readouterr().out
    (folder / EPISODES).write_bytes(honest)
    assert promote("new", "--evaluation", "evaluation") == 0


def test_a_roll_back_takes_no_run_that_it_would_pass_over(lab, capsys):
    lab(old=(0.7, 0.7), new=(0.9, 0.9))
    assert promote("old", "--evaluation", "evaluation") == promote("new", "--evaluation", "evaluation") == 0
    for words in (("new", "--rollback"), ("--rollback", "--force", "it hurts"), ("old", "--status")):
        assert promote(*words) == 2
        assert "a roll-back returns to the one before" in capsys.readouterr().err
    assert promote("--status") == 0 and "in service: promotion 2, new" in capsys.readouterr().out


def test_an_evaluation_that_is_not_there_is_told_as_such(lab, capsys):
    assert promote("old", "--evaluation", "elsewhere") == 2
    assert "there is no table of episodes elsewhere/episodes.parquet" in capsys.readouterr().err


def test_the_history_tells_times_in_whole_on_a_narrow_terminal(lab, capsys, monkeypatch):
    lab(old=(0.7, 0.7))
    promote("old", "--evaluation", "evaluation", "--why", "a long word for the record " * 4)
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "80")
    assert promote("--list") == 0 and "…" not in capsys.readouterr().out


def test_limits_can_be_given(lab, capsys):
    lab(new=(0.7, 0.6))
    assert promote("new", "--evaluation", "evaluation", "required_success=0.7") == 1
    assert "its lower bound is below 0.70" in capsys.readouterr().out
    assert promote("new", "--evaluation", "evaluation", "required_success=0.5") == 0
    assert promote("new", "--evaluation", "evaluation", "required=0.5") == 2
    assert "required_success" in capsys.readouterr().err


def test_a_copy_of_the_run_configured_otherwise_is_refused(lab, capsys):
    lab(new=(0.9, 0.9))
    shutil.copytree("new", "tampered")
    Path("tampered/experiment.json").write_text('{"translation_m": 0.5}')
    assert promote("tampered", "--evaluation", "evaluation") == 1
    assert "this run's experiment.json is another one" in capsys.readouterr().out
    assert promote("new", "--evaluation", "evaluation") == 0
    assert Registry(Path("runs/service")).promoted(1).experiment == experiment_hash(Path("new"))


def test_an_older_evaluation_or_none_that_was_guarded_is_refused(lab, capsys):
    lab(new=(0.9, 0.9), told=())
    assert promote("new", "--evaluation", "evaluation") == 1
    assert "refused: configuration: the evaluation does not say" in capsys.readouterr().out
    folder = lab(new=(0.9, 0.9), guarded=False)
    assert promote("new", "--evaluation", "evaluation") == 1
    assert "refused: guard: nobody guarded this evaluation" in capsys.readouterr().out
    (folder / "evaluation.json").unlink()
    assert promote("new", "--evaluation", "evaluation") == 1
    out = capsys.readouterr().out
    assert "configuration: " in out and "does not say whether anybody guarded it" in out
    (folder / "evaluation.json").write_text("[1]")
    assert promote("new", "--evaluation", "evaluation") == 2 and "not an object" in capsys.readouterr().err


def test_of_two_at_once_the_second_is_compared_with_the_first(lab, monkeypatch):
    lab(old=(0.9, 0.9), new=(0.7, 0.7))
    codes, compared, second = {}, [], []

    def judged(table, described, policy, in_service, config):
        compared.append(in_service and in_service.checkpoint)
        if not second:  # while the first is judged, the second begins
            second.append(
                threading.Thread(target=lambda: codes.update(new=promote("new", "--evaluation", "evaluation")))
            )
            second[0].start()
            second[0].join(1.0)
        return judge(table, described, policy, in_service, config)

    monkeypatch.setattr("robot_rl.apps.promote.judge", judged)
    codes["old"] = promote("old", "--evaluation", "evaluation")
    second[0].join()
    assert codes == {"old": 0, "new": 1}
    assert compared == [None, Registry(Path("runs/service")).promoted(1).checkpoint]


def test_words_with_brackets_stay_as_they_were_said(lab, capsys):
    lab(old=(0.9, 0.9), new=(0.9, 0.9))
    promote("old", "--evaluation", "evaluation", "--why", "the [bold]first[/bold] :smile:")
    promote("new", "--evaluation", "evaluation", "required_success=1", "--force", "I [bold]want[/bold] it")
    assert promote("--status") == 0
    assert promote("--rollback", "--why", "[/red] drops") == 0
    assert promote("--list") == 0
    out = capsys.readouterr().out
    assert "the [bold]first[/bold] :smile:" in out and "[/red] drops" in out
    assert out.count("forced: I [bold]want[/bold] it") == 2


@pytest.mark.parametrize("what", ["policy.safetensors", "experiment.json"])
def test_an_altered_copy_is_told_of(lab, capsys, what):
    lab(old=(0.9, 0.9), new=(0.9, 0.9))
    for name in ("old", "new"):
        assert promote(name, "--evaluation", "evaluation") == 0
    registry = Registry(Path("runs/service"))
    copy = registry.checkpoint(registry.promoted(1))
    next(path for path in (copy / what, copy.parents[1] / what) if path.exists()).write_text("altered")
    capsys.readouterr()
    assert promote("--status") == 0
    out = capsys.readouterr().out
    assert "promotion 1 cannot act: " in out and "was altered" in out and "promotion 2 cannot act" not in out
    assert promote("--rollback") == 0
    out = capsys.readouterr().out
    assert "in service again: promotion 1, old" in out and "promotion 1 cannot act: " in out


def test_a_registry_that_is_none_is_told(lab, capsys):
    Path("file").write_text("")
    for what in ("--status", "--list", "--rollback"):
        assert promote(what, "--service", "file") == 2
        assert "file is no folder" in capsys.readouterr().err
    Path("service").mkdir()
    Path("service/in_service.json").write_text("[1]")
    assert promote("--status", "--service", "service") == 2 and "not an object" in capsys.readouterr().err


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
