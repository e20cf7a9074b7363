"""`robot-rl twin estimate` on a chain whose success rates are known, recorded by another policy."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from data.recorder import EpisodeRecorder
from policies.gaussian import GaussianActor
from robot_rl.apps import twin_estimate
from robot_rl.apps.cli import main
from robot_rl.apps.config import compose
from robot_rl.apps.estimates import ESTIMATES, fitted_values
from robot_rl.apps.imitation import ImitationExperiment, build_model
from robot_rl.apps.recorded import by_effect, open_recorded
from robot_rl.apps.twin_ranking import print_ranking
from robot_rl.apps.wiring import load_experiment
from robot_rl.checkpoints import save_checkpoint
from robot_rl.errors import DataError
from robot_rl.typed import to_plain
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from tests.twin_tables import digest, even, rows, write
from tests.untrained import LIFT, Untrained

TASK = compose("imitate", LIFT, ImitationExperiment).task
HOLD = 0.8
"""Probability that a step to the right succeeds; three of them in a row do the task."""
MEAN, STD = 0.5, 0.6
QUICK = ["fqe.updates=1000", "critic.hidden=[64]", "cloning_updates=600"]


def place(number: int) -> dict[str, np.ndarray]:
    """Where the chain is."""
    state = np.zeros(TASK.observation_spec.state_dim, np.float32)
    state[number] = 1.0
    return {"state": state}


def record(path: Path, episodes: int, seed: int = 0, mean: float = 0.25, phase: str = "demo") -> Path:
    """x from tanh N(mean, STD): right holds with `HOLD`; left, and a slip, end the episode without success."""
    rng = np.random.default_rng(seed)
    recorder = EpisodeRecorder(path, TASK.observation_spec, TASK.action_spec)
    for episode in range(episodes):
        name, step, going, done = f"{seed}-{episode}", 0, True, False
        recorder.on_start(EpisodeStart(name, phase, place(0), 0.0, episode))
        while going:
            action = np.tanh(rng.normal([mean, 0.0, 0.0, 0.0], STD)).astype(np.float32)
            action[-1] = rng.choice([-1.0, 0.0, 1.0])
            held = action[0] > 0.0 and rng.random() < HOLD
            done = held and step == 2
            going = held and not done
            seen, following, ends = place(step), place(min(step + 1, 2)), (not going, False)
            reward = float(done)
            recorder.on_step(Transition(name, step, seen, action, action, False, reward, following, *ends, step + 1, 0))
            step += 1
        recorder.on_end(EpisodeEnd(name, bool(done), step, float(step), 0))
        recorder.flush()
    recorder.close()
    return path


def write_mean(run_dir: Path, x: float, *words: str) -> Path:
    """A run of `robot-rl imitate` whose policy always does `x`."""
    small = ["policy=regression", "policy.inputs.goal=false", "policy.hidden=[8]", "policy.horizon=2", *words]
    experiment = compose("imitate", [*LIFT, *small, "policy.execution.execute=1"], ImitationExperiment)
    model = build_model(experiment, experiment.task.observation_spec, experiment.task.action_spec)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    weights["net.2.weight"].zero_()
    weights["net.2.bias"].zero_()
    weights["net.2.bias"][[0, 4]] = x
    return save(run_dir, experiment, weights)


def write_gaussian(run_dir: Path) -> Path:
    """A run of `robot-rl train` whose policy samples x from tanh N(MEAN, STD), the rest as recorded."""
    experiment = load_experiment([*LIFT, "policy.hidden=[8]", "policy.gripper_epsilon=1.0"])
    networks = experiment.policy.build_networks(TASK.observation_spec, TASK.action_spec, 0).requires_grad_(False)
    *_, weight, bias = cast(GaussianActor, networks.actor).net.layers
    weight.zero_()
    bias.zero_()
    bias[..., 0] = MEAN
    bias[..., 3:] = math.log(STD)
    return save(run_dir, experiment, networks.state_dict())


def save(run_dir: Path, experiment, weights) -> Path:
    run_dir.mkdir(parents=True)
    (run_dir / "experiment.json").write_text(json.dumps(to_plain(experiment)))
    save_checkpoint(run_dir / "checkpoints", 1, Untrained(weights, {}))
    return run_dir


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("estimate")
    record(path / "data", 400)
    write_mean(path / "right", 0.5)
    write_mean(path / "left", -0.5)
    write_gaussian(path / "gaussian")
    assert go(path, "right", "left", "gaussian") == 0
    return path


def go(path: Path, *names: str, data: str = "data", out: str = "out", words: tuple[str, ...] = ()) -> int:
    runs = [str(path / name) for name in names]
    return main(
        ["twin", "estimate", str(path / data), *runs, *QUICK, *words, "--threads", "1", "--out", str(path / out)]
    )


def found(path: Path, out: str = "out") -> dict:
    return json.loads((path / out / ESTIMATES).read_text())


def test_success_is_within_the_interval_and_the_interval_is_worth_something(work: Path) -> None:
    policies = found(work)["policies"]
    for name, truth in (("right", HOLD**3), ("left", 0.0), ("gaussian", HOLD**3)):  # of the Gaussian the mean acts
        one = policies[name]["fqe"]
        low, high = one["interval_95"]
        assert low - 0.02 <= truth <= high + 0.02 and high - low < 0.55, name
        assert one["value"] == pytest.approx(truth, abs=0.15) and one["spread"] < 0.15
    assert policies["right"]["near"]["share"] > 0.5


def test_importance_sampling_where_there_is_a_density_and_words_where_there_is_none(work: Path) -> None:
    policies = found(work)["policies"]
    assert policies["right"]["importance"] is None and "GCBCConfig" in policies["right"]["importance_words"]
    one = policies["gaussian"]["importance"]
    truth = (HOLD * stats.norm.cdf(MEAN / STD)) ** 3
    assert one["interval_95"][0] <= truth <= one["interval_95"][1]
    assert one["value"] == pytest.approx(truth, abs=0.1) and 20 < one["effective_episodes"] < 400


def test_what_is_estimated_is_not_estimated_again(work: Path, monkeypatch, capsys) -> None:
    asked, real = [], twin_estimate.estimate

    def counted(candidate, *rest):
        asked.append(candidate.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(candidate, *rest)

    monkeypatch.setattr(twin_estimate, "estimate", counted)
    few = {"out": "cut", "words": ("fqe.updates=5",)}
    assert go(work, "left", "right", "gaussian", **few) == 130
    kept = found(work, "cut")["policies"]
    assert "1 of 3 policies are kept" in capsys.readouterr().out and set(kept) == {"left"}
    assert go(work, "left", "right", **few) == 0 and asked == ["left", "right", "right"]
    assert found(work, "cut")["policies"]["left"] == kept["left"] and "right" in found(work, "cut")["policies"]
    assert go(work, "left", out="cut", words=("fqe.updates=6",)) == 0  # other settings: nothing of before counts
    assert asked[3:] == ["left"] and set(found(work, "cut")["policies"]) == {"left"}
    assert found(work)["versions"].keys() >= {"robot-rl", "torch"} and found(work)["store"].endswith("data")


def test_a_policy_that_is_configured_otherwise_is_estimated_again_and_called_as_it_is(tmp_path: Path, capsys) -> None:
    """The same weights with another experiment.json act otherwise; square brackets in a name are no markup."""
    record(tmp_path / "data", 40)
    run = write_mean(tmp_path / "mean[b]", 0.5)
    few = {"words": ("fqe.updates=5",)}
    assert go(tmp_path, "mean[b]", **few) == 0 and "mean[b]" in capsys.readouterr().out
    before = found(tmp_path)["policies"]["mean[b]"]
    text = (run / "experiment.json").read_text()
    (run / "experiment.json").write_text(text.replace('"execute": 1', '"execute": 2'))
    assert go(tmp_path, "mean[b]", **few) == 0
    after = found(tmp_path)["policies"]["mean[b]"]
    assert after["sha256"] == before["sha256"] and after["experiment_sha256"] != before["experiment_sha256"]


def test_the_clock_and_the_phase_decide_what_counts(tmp_path: Path) -> None:
    record(tmp_path / "data", 40)
    record(tmp_path / "data", 20, seed=1, phase="play")
    whole = open_recorded(tmp_path / "data", TASK, ("demo",))
    assert sum(whole.counts().values()) == 40 and whole.used.sum() == 40
    succeeded = whole.success.sum()
    assert whole.reward.sum() == succeeded and whole.terminated[whole.reward > 0].all()
    hasty = replace(TASK, env=replace(TASK.env, max_steps=2))
    with pytest.raises(DataError, match="0 successes"):
        open_recorded(tmp_path / "data", hasty, ("demo",))
    everything = open_recorded(tmp_path / "data", TASK, ("demo", "play"))
    state, spec = everything.timed()
    assert (
        state.shape == (60 + len(everything.step), spec.state_dim)
        and spec.state_dim == TASK.observation_spec.state_dim + 1
    )
    first = everything.begins + np.arange(60)
    assert (state[first, -1] == 0.0).all() and state[first + 1, -1] == pytest.approx(1 / 30)


def test_gripper_commands_are_told_by_what_they_change(tmp_path: Path) -> None:
    chunk = np.zeros((2, 5, 4))
    chunk[:, :, 3] = [0.3, -0.9, -0.9, 0.0, 0.8]  # too weak to count, shut, repeated, none, open
    told = by_effect(chunk, TASK.action_spec, np.array([1.0, -1.0]))[:, :, 3]
    assert told.tolist() == [[0.0, -1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    drawn = by_effect(np.stack([chunk, -chunk], 1), TASK.action_spec, np.array([1.0, -1.0]))  # (R, K, h, A)
    assert drawn[0, 0, :, 3].tolist() == told[0].tolist() and drawn[0, 1, :, 3].tolist() == [0.0, 0.0, 0.0, 0.0, -1.0]
    record(tmp_path / "data", 40)
    whole = open_recorded(tmp_path / "data", TASK, ("demo",))
    executed, repeated = whole.cache.arrays["executed_action"][:, -1], whole.actions[:, -1]
    # whoever says at every step what holds already has recorded what says it once
    for begin, end in zip(whole.begins, whole.cache.ends, strict=True):
        state = 1.0
        for step in range(begin, end):
            command = float(np.sign(executed[step])) if abs(executed[step]) > 0.5 else 0.0
            assert repeated[step] == (command if command not in (0.0, state) else 0.0)
            state = command or state
            assert whole.gripper_told[step + 1 + whole.episode[step]] == state


def test_estimates_stand_beside_success_in_twins(work: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "twins", rows({"right": even(0.9, 0.5), "other": even(0.9, 0.3)}, starts=20))
    content = found(work)
    content["policies"]["right"]["sha256"] = digest("right")
    (folder / ESTIMATES).write_text(json.dumps(content))
    assert fitted_values(folder, {"right": digest("right"), "left": digest("left")}).keys() == {"right"}
    assert main(["twin", "report", str(folder)]) == 0
    text = re.sub(r"data:[^']+", "", (folder / "report.html").read_text())
    value = content["policies"]["right"]["fqe"]["value"]
    console = Console(record=True, width=200)
    success = {"right": {"point": {"rate": 0.5, "interval_95": [0.3, 0.7]}}}
    summary = {"success": success, "ranking": {"by": "point", "order": ["right"], "words": []}}
    print_ranking(summary, console, fitted_values(folder, {"right": ""}))
    shown = console.export_text()
    assert "FQE" in shown and f"{value:.2f} [" in shown
    assert "<th>FQE</th>" in text and f"<td>{value:.2f} [" in text and ESTIMATES in text


def test_what_is_wrong_is_said(work: Path, tmp_path: Path, capsys) -> None:
    def said(*names: str, data: Path = work / "data", words: tuple[str, ...] = ()) -> str:
        runs = [str(work / name) for name in names]
        assert main(["twin", "estimate", str(data), *runs, *words, "--out", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err

    record(tmp_path / "failures", 5, mean=-9.0)
    assert "0 successes and 5 failures" in said("right", data=tmp_path / "failures")
    assert "has no checkpoints" in said("nothing")
    assert "two policies are called right" in said("right", "right")
    assert "name a policy's run" in said(words=("seed=1",))
    assert "nowhere" in said("right", data=tmp_path / "nowhere")
    assert "critic.members=3" in said("right", words=("critic.members=2",))
    assert "updatez" in said("right", words=("fqe.updatez=2",))
    write_mean(tmp_path / "door", 0.5, "task=door", "task.env.max_steps=30")
    assert "the policy sees state" in said(str(tmp_path / "door"))
    write_mean(tmp_path / "longer", 0.5, "task.env.translation_m=0.01")
    assert "was recorded with" in said(str(tmp_path / "longer"))
