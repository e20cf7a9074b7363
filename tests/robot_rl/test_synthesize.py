"""`robot-rl synthesize`: from a store to marked episodes, gone on with; what training and checks make of the mark."""

import json

import numpy as np
import pytest
import torch

from data.cache import open_cache
from data.recorder import EpisodeRecorder
from data.store import EpisodeStore
from data.verify import verify
from policies.guidance import SquashedGaussian
from robot_rl.apps import synthesize
from robot_rl.apps.cli import main
from robot_rl.apps.config import compose
from robot_rl.apps.gathering import gathered
from robot_rl.apps.imitation import ImitationExperiment, build_imitation, open_material
from robot_rl.apps.origins import load_stores
from robot_rl.apps.runs import read_goal
from robot_rl.apps.synthesis import read_target
from robot_rl.apps.wiring import load_experiment
from robot_rl.checkpoints import save_checkpoint
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.typed import to_plain
from robot_rl.types import STATE_KEY, ActionSpec, EpisodeEnd, EpisodeStart, Transition
from tests.untrained import LIFT, Untrained, write_policy, write_run

TASK = compose("imitate", LIFT, ImitationExperiment).task
SMALL = ["model.horizon=4", "model.steps=4", "model.network.width=16", "model.network.blocks=1", "batch_size=8"]
QUICK = [*SMALL, "algorithm.updates=3", "--threads", "1"]
STEPS = 9


def record(path, episodes=4):
    """Episodes of lift's specs whose states wander; every second one succeeds."""
    rng = np.random.default_rng(0)
    size, actions = TASK.observation_spec.state_dim, TASK.action_spec.dim
    recorder = EpisodeRecorder(path, TASK.observation_spec, TASK.action_spec)
    for episode in range(episodes):
        name, success = f"recorded-{episode}", episode % 2 == 0
        states = rng.normal(0.0, 1.0, (STEPS + 1, size)).cumsum(0).astype(np.float32)
        recorder.on_start(EpisodeStart(name, "demo", {STATE_KEY: states[0]}, 0.0, episode))
        for step in range(STEPS):
            last = step == STEPS - 1
            action = rng.uniform(-1.0, 1.0, actions).astype(np.float32)
            seen, following = {STATE_KEY: states[step]}, {STATE_KEY: states[step + 1]}
            end = (last and success, last and not success)
            reward = float(last and success)
            recorder.on_step(Transition(name, step, seen, action, action, False, reward, following, *end, step + 1, 0))
        recorder.on_end(EpisodeEnd(name, success, STEPS, float(STEPS), 0))
    recorder.close()
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Recorded episodes, a cloned policy, and 66 synthetic episodes made in two goes."""
    path = tmp_path_factory.mktemp("synthesize")
    record(path / "data")
    write_run(path / "policy", "imitate", "policy=regression", "policy.inputs.goal=false", "policy.hidden=[16]")
    for episodes in (2, 66):
        assert go(path, "--episodes", str(episodes)) == 0
    return path


def go(path, *words, out="out", model="out.model"):
    common = ["synthesize", str(path / "data"), "--policy", str(path / "policy"), "--out", str(path / out)]
    return main([*common, "--model", str(path / model), *QUICK, *words])


def test_episodes_are_marked_sound_and_have_the_commands_numbers(work):
    store = EpisodeStore(work / "out")
    assert len(store) == 66 and all(info.synthetic and info.operator == "diffusion" for info in store.infos)
    assert sorted(gathered(store, 0, synthetic=True)) == list(range(66)) and not gathered(store, 0)
    assert verify(work / "out").ok
    episode = store.episode(5)
    assert 1 <= episode.info.steps <= 4 and set(np.unique(episode.arrays["reward"])) <= {0.0, 1.0}
    assert (episode.arrays["policy_version"] == 7).all() and episode.info.phase == "demo"
    assert next(iter(episode.events())).synthetic
    assert not any(info.synthetic for info in EpisodeStore(work / "data").infos)


def test_an_episode_is_the_same_whenever_it_is_made(work):
    assert go(work, "--episodes", "66", out="again") == 0
    one, two = (EpisodeStore(work / name) for name in ("out", "again"))
    numbers = [{info.seed: index for index, info in enumerate(store.infos)} for store in (one, two)]
    for seed, index in numbers[0].items():
        arrays = one.episode(index).arrays
        for key, array in two.episode(numbers[1][seed]).arrays.items():
            np.testing.assert_array_equal(arrays[key], array)


def test_other_guidance_wants_another_seed(work, capsys):
    assert go(work, "--episodes", "70", "--guidance", "2") == 2
    assert "guidance" in capsys.readouterr().err
    assert go(work, "--episodes", "1", "--guidance", "2", "--seed", "1", out="other") == 0
    assert go(work, "--episodes", "1", out="other") == 0
    assert len(EpisodeStore(work / "other")) == 2


def test_training_takes_them_or_leaves_them_and_scales_by_what_was_recorded(work):
    record(work / "mixed")
    before = {key: one.mean for key, one in open_cache(EpisodeStore(work / "mixed")).statistics.items()}
    recorded = len(EpisodeStore(work / "mixed"))
    for _ in range(2):  # into the data's own store; the second go adds nothing, and learns nothing of the first
        words = ["synthesize", str(work / "mixed"), "--out", str(work / "mixed"), *QUICK, "--episodes", "10"]
        assert main(words) == 0
    words = [*LIFT, f"data={work / 'mixed'}", "policy=regression", "policy.inputs.goal=false", "outcomes=all"]
    kept = {}
    for synthetic in ("true", "false"):
        experiment = compose("imitate", [*words, f"synthetic={synthetic}"], ImitationExperiment)
        kept[synthetic] = open_material(experiment)
        assert kept[synthetic].held_out is not None and len(kept[synthetic].held_out) == STEPS
    cache = kept["true"].cache
    synthetic_steps = sum(info.steps for info in cache.infos if info.synthetic)
    assert len(cache.infos) == recorded + 10
    assert len(kept["false"].train) == STEPS * (recorded - 1)
    assert len(kept["true"].train) == len(kept["false"].train) + synthetic_steps
    for key, mean in before.items():
        np.testing.assert_allclose(cache.statistics[key].mean, mean)
    assert cache.synthetic_statistics["reward"].count == synthetic_steps
    trainer = build_imitation(compose("imitate", words, ImitationExperiment), kept["true"])
    np.testing.assert_allclose(trainer.model.inputs.normalizer.mean, before["observation/state"], rtol=1e-5)


def test_synthetic_episodes_alone_are_enough_unless_they_are_not_wanted(work):
    words = [*LIFT, f"data={work / 'out'}", "policy=regression", "policy.inputs.goal=false", "outcomes=all"]
    material = open_material(compose("imitate", words, ImitationExperiment))
    assert build_imitation(compose("imitate", words, ImitationExperiment), material).model.actions.std.min() > 0.01
    with pytest.raises(DataError, match="synthetic False"):
        open_material(compose("imitate", [*words, "synthetic=false"], ImitationExperiment))


def test_online_learning_and_goals_take_what_was_recorded_alone(work):
    store, experiment = EpisodeStore(work / "out"), compose("imitate", LIFT, ImitationExperiment)
    assert store.load_into(lambda event: None) == 0
    with pytest.raises(DataError, match="synthetic ones do not count"):
        load_stores(work / "out", lambda event: None, store.observation_spec, store.action_spec)
    with pytest.raises(ConfigError, match="synthetic"):
        read_goal(experiment, "", f"{work / 'out'}#0")


def test_info_tells_them_apart(work, capsys):
    assert main(["data", "info", str(work / "out")]) == 0
    assert "diffusion" in (said := capsys.readouterr().out) and "yes" in said


def test_the_actor_of_train_guides_as_well(tmp_path):
    experiment = load_experiment(LIFT)
    specs = (experiment.task.observation_spec, experiment.task.action_spec)
    networks = experiment.policy.build_networks(*specs, 0)
    (tmp_path / "experiment.json").write_text(json.dumps(to_plain(experiment)))
    save_checkpoint(tmp_path / "checkpoints", 7, Untrained(networks.state_dict(), {}))
    target, version = read_target(tmp_path, *specs)
    assert isinstance(target, SquashedGaussian) and version == 7
    states, actions = torch.zeros(3, specs[0].state_dim), torch.zeros(3, specs[1].dim)
    assert target.log_prob(states, actions).shape == (3,)
    with pytest.raises(SpecError):
        read_target(tmp_path, specs[0], ActionSpec(("x",), 0.1, 0.1))


def test_a_policy_without_a_known_density_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="policy=gcbc"):
        read_target(write_policy(tmp_path / "score"), TASK.observation_spec, TASK.action_spec)


def test_an_interruption_keeps_what_is_whole(work, monkeypatch, capsys):
    record_one, count = synthesize._record, iter(range(100))

    def interrupted(*args):
        if next(count) == 3:
            raise KeyboardInterrupt
        record_one(*args)

    monkeypatch.setattr(synthesize, "_record", interrupted)
    assert go(work, "--episodes", "5", out="cut") == 130
    assert len(EpisodeStore(work / "cut")) == 3
    monkeypatch.undo()
    assert go(work, "--episodes", "5", out="cut") == 0
    assert len(EpisodeStore(work / "cut")) == 5


def test_an_interruption_of_learning_saves(work, monkeypatch, capsys):
    update, count = synthesize.SynthesisRun.save, iter(range(100))

    def interrupted(self):
        if next(count) == 0:
            raise KeyboardInterrupt
        update(self)

    monkeypatch.setattr(synthesize.SynthesisRun, "save", interrupted)
    assert go(work, "--episodes", "2", out="late", model="late.model") == 130
    assert "goes on" in capsys.readouterr().out
    assert (work / "late.model" / "checkpoints" / "step_000000003").exists()
