"""`robot-rl train`: what is written down is what goes on, whatever the run was begun with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from robot_rl.apps.cli import main
from robot_rl.apps.train import prepare_run_dir
from robot_rl.apps.wiring import load_experiment, read_experiment
from robot_rl.errors import ConfigError, DataError
from robot_rl.records import find_records

TINY = (
    "policy.hidden=[8]",
    "algorithm.hidden=[8]",
    "learner.batch_size=8",
    "learner.pretrain_updates=2",
    "learner.warmup_steps=5",
    "schedule.demos=1",
    "schedule.learn_steps=30",
    "schedule.evaluate_episodes=1",
    "task.env.max_steps=80",
)


@pytest.mark.parametrize(
    "overrides",
    [
        ("task=door", "seed=3"),
        ("algorithm=bc",),
        ("policy=gaussian_pixels",),
        ("algorithm=expo", "policy=expo"),
        ("algorithm=q_chunking", "policy=q_chunking"),
        ("algorithm=korr", "policy=korr"),
        ("algorithm=h2o", "sim_data=runs/cousins/episodes", "demos=[runs/one,runs/two]"),
    ],
)
def test_what_is_written_down_is_the_same_experiment(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    experiment = load_experiment(overrides)
    prepare_run_dir(tmp_path / "run", experiment, resume=False, overwrite=False)
    assert read_experiment(tmp_path / "run") == experiment
    prepare_run_dir(tmp_path / "run", experiment, resume=True, overwrite=False)
    with pytest.raises(ConfigError, match="begun with another seed"):
        prepare_run_dir(tmp_path / "run", replace(experiment, seed=9), resume=True, overwrite=False)
    with pytest.raises(ConfigError, match="add --resume"):
        prepare_run_dir(tmp_path / "run", experiment, resume=False, overwrite=False)


def test_what_does_not_go_together_leaves_no_run_and_deletes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    prepare_run_dir(kept, load_experiment(), resume=False, overwrite=False)
    refused = {
        "algorithm=expo": "EXPOPolicyConfig",
        "task=real_arm": "unknown simulated task",
        "task.env.objects=[sphere]": "valid choices: cube",
    }
    for override, said in refused.items():
        for run_dir in (tmp_path / "new", kept):
            assert main(["train", "--run-dir", str(run_dir), "--overwrite", override]) == 2
            assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and read_experiment(kept) == load_experiment()


def test_a_run_is_either_resumed_or_deleted(tmp_path: Path) -> None:
    prepare_run_dir(tmp_path / "kept", load_experiment(), resume=False, overwrite=False)
    with pytest.raises(SystemExit):
        main(["train", "--run-dir", str(tmp_path / "kept"), "--resume", "--overwrite", "algorithm=expo"])
    assert read_experiment(tmp_path / "kept") == load_experiment()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to the folder .*file/run"):
        prepare_run_dir(tmp_path / "file" / "run", load_experiment(), resume=False, overwrite=False)


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text('{"seed": ')
    with pytest.raises(DataError, match=r"experiment\.json cannot be read"):
        prepare_run_dir(tmp_path, load_experiment(), resume=True, overwrite=False)


@pytest.mark.slow
def test_a_run_cut_off_before_its_first_checkpoint_goes_on_as_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun with overrides, continued with none; a report with a film at the end."""
    from robot_rl.apps import train

    class Cut(BaseException):
        pass

    def cut(self: train.TrainingRun) -> str:
        raise Cut

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(train.TrainingRun, "_log_learning", cut)
        main(["train", "--threads", "1", "--run-dir", str(run_dir), *TINY, "schedule.learn_steps=100"])
    before = find_records(run_dir)
    assert before[-1].phase == "learn" and not list(run_dir.glob("checkpoints/step_*"))
    assert main(["train", "--threads", "1", "--run-dir", str(run_dir), "--resume"]) == 0
    records = find_records(run_dir)
    assert records[: len(before)] == before and records[-1].env_steps >= 30
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["episodes"] == 1
    assert summary["learner_updates"] == 2 + 2 * summary["env_steps"]
    assert (run_dir / "report.html").exists()
    curves = EventAccumulator(str(run_dir / "tensorboard"))
    curves.Reload()
    learned = [record.env_steps for record in records if record.phase == "learn"]
    names = ("episode/success_rate", "episode/intervention_rate", "episode/steps", "realized_utd", "updates_per_s")
    for name in names:
        assert [point.step for point in curves.Scalars(name)] == learned[1:]  # the first was cut off
