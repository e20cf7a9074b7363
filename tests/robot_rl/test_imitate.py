"""`robot-rl imitate`: from a store to a policy that runs, resumed as if nothing had happened."""

import json
import os
import shutil
import signal
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from safetensors.numpy import load_file

from data.cache import open_cache
from data.episode import checksum
from data.recorder import EpisodeRecorder
from data.store import EpisodeStore
from policies.chunking import ExecutionConfig
from robot_rl.algorithms.flat import FlatAdam
from robot_rl.algorithms.imitation import Imitation
from robot_rl.apps import imitate
from robot_rl.apps.cli import main
from robot_rl.apps.config import CONF_DIR, compose
from robot_rl.apps.held_out import choose_episodes
from robot_rl.apps.imitation import ImitationExperiment, build_imitation, build_model, open_material
from robot_rl.apps.runs import read_goal
from robot_rl.errors import ConfigError, SpecError

pytest.importorskip("ogbench")

SMALL = ["task=cube-single", "policy.network.width=32", "policy.network.blocks=1", "batch_size=16"]
LEVELS = ["task=cube-single", "policy=hiql", "policy.hidden=[16]", "critic.hidden=[16]", "batch_size=16"]
POLICIES = (
    "act",
    "act_jepa",
    "beso",
    "diffusion_policy",
    "family",
    "flow",
    "gcbc",
    "regression",
    "score",
    "score_pixels",
    "score_transformer",
    "score_words",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three episodes of play, 40 steps each."""
    path = tmp_path_factory.mktemp("play") / "store"
    short = ["--episodes", "3", "--steps", "40", "--jobs", "1"]
    assert main(["play", "cube-single", *short, "--out", str(path)]) == 0
    return path


def run(data, run_dir, *extra, command=("imitate", *SMALL)):
    return main([*command, f"data={data}", "--run-dir", str(run_dir), "--threads", "1", *extra])


def weights(run_dir: Path, step: int):
    return load_file(run_dir / "checkpoints" / f"step_{step:09d}" / "policy.safetensors")


def test_a_store_becomes_a_policy_that_evaluate_runs(data, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(data, run_dir, "algorithm.updates=8", "--evaluate", "1") == 0
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["episodes"] == 5 and len(summary["success_rate_by_goal"]) == 5 and summary["updates"] == 8
    assert main(["evaluate", str(run_dir), "--episodes", "1", "policy.steps=1", "policy.guidance=2"]) == 0
    assert "goal 5: success" in capsys.readouterr().out
    assert main(["evaluate", str(run_dir), "policy.sampler=dimm"]) == 2
    assert "dpm_solver_2" in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ["hiql", "ota"])
def test_two_levels_are_learned_and_act(data, tmp_path, capsys, algorithm):
    run_dir, summary = tmp_path / "run", tmp_path / "result.json"
    command = ("offline", *LEVELS, f"algorithm={algorithm}", f"critic={algorithm}")
    assert run(data, run_dir, "algorithm.updates=4", command=command) == 0
    assert main(["evaluate", str(run_dir), "--episodes", "1", "--out", str(summary)]) == 0
    assert len(json.loads(summary.read_text())["success_rate_by_goal"]) == 5
    assert main(["steer", str(run_dir), str(run_dir)]) == 2
    assert "does not value actions" in capsys.readouterr().err


def test_two_levels_go_together(data, tmp_path, capsys):
    for wrong in (["algorithm=hiql"], ["critic=goal", "policy=hiql"], ["algorithm=hiql", "critic=goal", "policy=hiql"]):
        assert run(data, tmp_path / "run", *wrong, command=("offline", "task=cube-single")) == 2
        assert "critic=hiql policy=hiql" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [("imitate", *SMALL), ("offline", *LEVELS, "algorithm=ota", "critic=ota")], ids=lambda one: one[0]
)
def test_an_interrupted_run_ends_with_the_same_weights(data, tmp_path, monkeypatch, command):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    updates = "algorithm.updates=12"
    assert run(data, whole, updates, command=command) == 0
    original = Imitation.update

    def update(self, windows):
        if self.updates == 5:
            raise KeyboardInterrupt
        return original(self, windows)

    monkeypatch.setattr(Imitation, "update", update)
    assert run(data, broken, updates, command=command) == 130
    monkeypatch.setattr(Imitation, "update", original)
    assert [one.name for one in (broken / "checkpoints").iterdir()] == ["step_000000005"]
    assert main([command[0], "--run-dir", str(broken), "--resume", "--threads", "1"]) == 0
    for name, value in weights(whole, 12).items():
        np.testing.assert_array_equal(value, weights(broken, 12)[name])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupt_in_the_midst_of_an_update_waits_for_its_end(data, tmp_path, monkeypatch, workers):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    planned = ("algorithm.updates=8", f"workers={workers}")
    assert run(data, whole, *planned) == 0
    original = FlatAdam.minimise

    def minimise(self, loss):
        original(self, loss)
        if float(self.state_dict()["step"]) == 5:
            signal.raise_signal(signal.SIGINT)  # learned, not counted yet

    monkeypatch.setattr(FlatAdam, "minimise", minimise)
    assert run(data, broken, *planned) == 130
    monkeypatch.undo()
    assert [one.name for one in (broken / "checkpoints").iterdir()] == ["step_000000005"]
    assert main(["imitate", "--run-dir", str(broken), "--resume", "--threads", "1"]) == 0
    for name, value in weights(whole, 8).items():
        np.testing.assert_array_equal(value, weights(broken, 8)[name])


def test_data_with_nan_are_refused_before_anything_is_made(data, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged, ignore=shutil.ignore_patterns("cache"))
    states = zarr.open_group(str(damaged), mode="r+")["observation/state"]
    row = states[3]
    row[1] = np.nan
    states[3] = row
    store = EpisodeStore(damaged)
    described = damaged / "episodes" / "00000000.json"
    content = json.loads(described.read_text())
    content["crc32"]["observation/state"] = checksum(states[store.rows(0, "observation/state")])
    described.write_text(json.dumps(content))
    assert run(damaged, tmp_path / "run") == 2
    assert "state holds NaN or Inf; see robot-rl data verify" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_learning_that_diverges_is_said_and_not_saved(data, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(data, run_dir, "algorithm.updates=200", "algorithm.learning_rate=1e30") == 2
    said = capsys.readouterr().err
    assert "learning has diverged" in said and "after 100 updates" in said and "algorithm.learning_rate" in said
    assert not list(run_dir.glob("checkpoints/step_*"))


def test_the_weights_know_the_data_they_are_for(data, tmp_path):
    run_dir = tmp_path / "run"
    assert run(data, run_dir, "algorithm.updates=1") == 0
    tensors = weights(run_dir, 1)
    assert abs(tensors["inputs.normalizer.mean"]).max() > 0.1 and tensors["actions.std"].min() > 0.0


def test_wrong_data_and_policies_are_refused_before_anything_is_made(data, tmp_path, capsys):
    run_dir, empty = tmp_path / "run", tmp_path / "empty"
    store = EpisodeStore(data)
    EpisodeRecorder(empty, store.observation_spec, store.action_spec, configuration={}).close()
    for wrong, said in (
        ([f"data={empty}"], "no episode to learn from"),
        (["task=scene"], "choose another task"),
        (["policy=gaussian"], "does not learn chunks"),
        ([f"data={tmp_path / 'nothing'}"], "nothing"),
        (["policy.process.sigma=3"], "sigma_max"),
        (["policy.horizon=4"], "execution.execute must not exceed"),
        (["phases=[demonstration]"], "valid choices: demo, evaluate, learn, play"),
    ):
        assert main(["imitate", *SMALL[:1], f"data={data}", *wrong, "--run-dir", str(run_dir)]) == 2
        assert said in capsys.readouterr().err
        assert not run_dir.exists()


def test_an_episode_without_a_step_is_neither_learned_from_nor_held_out(data):
    cache = open_cache(EpisodeStore(data))
    first, *others = cache.infos
    cache = replace(cache, infos=(replace(first, steps=0), *others))
    learned, out = choose_episodes(cache, compose("imitate", SMALL, ImitationExperiment))
    np.testing.assert_array_equal(learned, [False, False, True])
    np.testing.assert_array_equal(out, [False, True, False])


@pytest.mark.parametrize("command", ["imitate", "offline"])
def test_help_shows_overrides_that_are_valid(command):
    parser = ArgumentParser()
    imitate.add_arguments(parser)
    shown = next(one.help for one in parser._actions if one.dest == "overrides")
    assert compose(command, shown.removesuffix(" ...").split(), ImitationExperiment).policy.horizon == 24


def test_another_experiment_does_not_go_on_in_the_same_folder(data, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(data, run_dir, "algorithm.updates=1") == 0
    assert run(data, run_dir, "algorithm.updates=1") == 2
    assert "--resume" in capsys.readouterr().err
    assert run(data, run_dir, "algorithm.updates=2", "--resume") == 2
    assert "another algorithm" in capsys.readouterr().err
    assert main(["imitate", "--run-dir", str(run_dir), "--resume", "policy.horizon=8"]) == 2  # not of data that it has
    assert "was begun with another" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_damaged_store_is_not_learned_from_before_it_is_mended(data, tmp_path, capsys, damage):
    store = shutil.copytree(data, tmp_path / "store", ignore=shutil.ignore_patterns("cache"))
    chunk = next(one for one in sorted((store / "executed_action" / "c").rglob("*")) if one.is_file())
    if damage == "lost":
        chunk.unlink()
    else:
        os.truncate(chunk, 10)
    assert run(store, tmp_path / "run", "algorithm.updates=1") == 2
    assert "data verify" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_cloning_stays_what_it_is_when_one_field_is_another():
    overrides = ["policy=gcbc", "policy.inputs.history=2", "policy.execution.blend=1"]
    policy = compose("imitate", overrides, ImitationExperiment).policy
    assert not policy.inputs.goal_difference and policy.inputs.history == 2
    assert policy.execution == ExecutionConfig(execute=1, blend=1)
    with pytest.raises(ConfigError, match="asynchronous=false"):
        compose("imitate", ["policy=beso", "policy.execution.asynchronous=true"], ImitationExperiment)


def test_diffusion_policy_reaches_all_actions_of_the_data(data):
    experiment = compose("imitate", ["policy=diffusion_policy", f"data={data}"], ImitationExperiment)
    material = open_material(experiment)
    model = build_imitation(experiment, material).model
    actions = material.cache.arrays["executed_action"]
    ends = model.actions.inverse(torch.tensor([[-1.0], [1.0]]))
    np.testing.assert_allclose(ends.numpy(), [actions.min(0), actions.max(0)], atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_of_conf_is_built(policy):
    experiment = compose("imitate", [f"policy={policy}"], ImitationExperiment)
    model = build_model(experiment, experiment.task.observation_spec, experiment.task.action_spec)
    assert model.horizon == experiment.policy.horizon


def test_the_list_of_policies_is_that_of_conf():
    elsewhere = {"gaussian", "gaussian_pixels", "expo", "q_chunking", "korr", "hiql"}
    assert {path.stem for path in (CONF_DIR / "policy").glob("*.yaml")} - elsewhere == set(POLICIES)
    with pytest.raises(ConfigError):
        compose("imitate", ["held_out=1.0"], ImitationExperiment)


def test_play_is_labelled_and_its_words_are_learned_and_obeyed(data, tmp_path, capsys):
    pytest.importorskip("sentence_transformers")
    from tests.policies.encoder import make_encoder

    store = tmp_path / "store"
    shutil.copytree(data, store)
    encoder = make_encoder(tmp_path / "encoder")
    words = ["policy=score_words", f"data={store}", f"policy.inputs.words.encoder={encoder}"]
    sizes = ["policy.inputs.words.sentence_features=32", "policy.inputs.words.features=8"]
    wanted = ["imitate", *SMALL, *words, *sizes, "algorithm.updates=4", "--run-dir", str(tmp_path / "run")]
    assert main(wanted) == 2
    assert "robot-rl data label" in capsys.readouterr().err
    assert main(["data", "label", str(store)]) == 0  # 40 steps are too few for anything to be done
    by_hand = ["--episode", "1", "--begin", "5", "--end", "20", "--text", "move the cube to the left"]
    assert main(["data", "label", str(store), *by_hand]) == 0
    assert "move the cube to the left" in capsys.readouterr().out
    assert main(wanted) == 0
    said = ["--words", "move the cube to the left", "push the cube away"]
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "1", *said, "--out", str(tmp_path / "out.json")]) == 0
    assert "push the cube away: success" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out.json").read_text())["episodes"]) == 2
    assert main(["evaluate", str(tmp_path / "run"), "--words", "fly"]) == 2
    assert "move the cube away" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--words", "push the cube away"]) == 0
    bundle = json.loads((tmp_path / "run" / "bundle" / "bundle.json").read_text())
    assert sorted(bundle["words"]) == ["move the cube to the left", "push the cube away"]
    exported = ["evaluate", str(tmp_path / "run"), "--bundle", str(tmp_path / "run" / "bundle"), "--episodes", "1"]
    assert main([*exported, "--words", "fly"]) == 2
    assert main([*exported, "policy.execution.execute=4", "policy.steps=9"]) == 2
    assert "policy.steps=9: that is part of a bundle's graph" in capsys.readouterr().err
    bundle["elements"]["state"][0] = "lid.angle"  # as many elements, but of another task
    (tmp_path / "run" / "bundle" / "bundle.json").write_text(json.dumps(bundle))
    assert main(exported) == 2
    assert "lid.angle" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--episode", "0"],
        ["--episode", "9", "--text", "x"],
        ["--episode", "0", "--text", "x", "--begin", "40"],
        ["--begin", "5", "--end", "10"],
        ["--episode", "0", "--text", ""],
    ],
)
def test_a_label_by_hand_names_a_part_of_an_episode(data, words, capsys):
    assert main(["data", "label", str(data), *words]) == 2
    assert capsys.readouterr().err


def test_a_goal_shown_by_an_episode_must_be_what_the_policy_sees(data, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(data, run_dir, "algorithm.updates=2") == 0
    assert main(["evaluate", str(run_dir), "--goal", f"{data}#1"]) == 2
    assert "tells goals of its own" in capsys.readouterr().err
    lift = compose("imitate", ["task=lift"], ImitationExperiment)
    with pytest.raises(SpecError, match="block_0"):
        read_goal(lift, "", f"{data}#1")
    with pytest.raises(ConfigError, match="STORE#EPISODE"):
        read_goal(lift, "", str(data))
    cube = compose("imitate", ["task=cube-single"], ImitationExperiment)
    goal = read_goal(cube, "", f"{data}#1")
    episode = EpisodeStore(data).episode(1)
    np.testing.assert_array_equal(goal.observation["state"], episode.arrays["observation/state"][-1])


def test_resuming_with_another_encoder_is_refused(data, tmp_path, capsys):
    pytest.importorskip("sentence_transformers")
    from policies.sentences import open_encoder
    from tests.policies.encoder import make_encoder

    store, run_dir = tmp_path / "store", tmp_path / "run"
    shutil.copytree(data, store)
    assert main(["data", "label", str(store), "--episode", "0", "--text", "wave"]) == 0
    encoder = make_encoder(tmp_path / "one")
    wanted = [
        "policy=score_words",
        f"policy.inputs.words.encoder={encoder}",
        "policy.inputs.words.sentence_features=32",
    ]
    words = ["imitate", *SMALL, f"data={store}", *wanted, "algorithm.updates=2", "--run-dir", str(run_dir)]
    assert main(words) == 2  # the first episode is held out
    assert "held_out=0" in capsys.readouterr().err
    assert main([*words, "held_out=0"]) == 0
    shutil.rmtree(encoder)
    shutil.move(make_encoder(tmp_path / "two", seed=1), encoder)
    open_encoder.cache_clear()
    assert main([*words, "held_out=0", "--resume"]) == 2
    assert "not the one that this policy learned with" in capsys.readouterr().err
