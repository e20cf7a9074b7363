"""`robot-rl evaluate`: what cannot be is said before anything moves, with what to do instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot_rl.apps import evaluate
from robot_rl.apps.cli import main
from robot_rl.apps.runs import read_policy, read_run
from robot_rl.apps.train import prepare_run_dir
from robot_rl.apps.wiring import build_learner, load_experiment
from robot_rl.checkpoints import save_checkpoint
from robot_rl.errors import ConfigError, DataError
from robot_rl.types import FloatArray, Observation


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


def test_ctrl_c_keeps_the_episodes_until_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load_experiment(["task.env.max_steps=2"])
    prepare_run_dir(tmp_path / "run", experiment, resume=False, overwrite=False)
    save_checkpoint(tmp_path / "run" / "checkpoints", 1, build_learner(experiment).algorithm)
    load = evaluate.load_policy

    class Tired:
        """Somebody presses Ctrl-C in the third episode's second step."""

        def __init__(self, policy: Any) -> None:
            self.policy, self.acted = policy, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.policy, name)

        def act(self, observation: Observation) -> FloatArray:
            self.acted += 1
            if self.acted == 6:
                raise KeyboardInterrupt
            return self.policy.act(observation)

    monkeypatch.setattr(evaluate, "load_policy", lambda *given: Tired(load(*given)))
    out = tmp_path / "out.json"
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "5", "--out", str(out)]) == 130
    kept = json.loads(out.read_text())
    assert [one["steps"] for one in kept["episodes"]] == [2, 2] and kept["success_rate"] == 0.0
