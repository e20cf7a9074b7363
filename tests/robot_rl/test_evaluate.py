"""`robot-rl evaluate`: what cannot be is said before anything moves, with what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.apps.cli import main
from robot_rl.apps.runs import read_policy, read_run
from robot_rl.apps.train import prepare_run_dir
from robot_rl.apps.wiring import load_experiment
from robot_rl.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--video", "film.txt"], "name an .mp4 file"),
        (["--video", "/proc/films/film.mp4"], "cannot write to the folder"),
        (["seed=5"], "start states are those of --seed"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert main(["evaluate", str(tmp_path), *given]) == 2
    assert said in capsys.readouterr().err


def test_a_run_keeps_its_task(tmp_path: Path) -> None:
    prepare_run_dir(tmp_path / "run", load_experiment(), resume=False, overwrite=False)
    with pytest.raises(ConfigError, match=r"task=door: a run keeps its task; give single values, as task\.NAME="):
        read_run(tmp_path / "run", ["task=door"])
    assert read_run(tmp_path / "run", ["task.env.max_steps=7"]).task.env.max_steps == 7


def test_a_damaged_checkpoint_names_its_neighbours(tmp_path: Path) -> None:
    for name in ("step_000000010", "step_000000020"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"step_000000020 holds no readable policy.*neighbours: step_000000010"):
        read_policy(tmp_path / "step_000000020")
