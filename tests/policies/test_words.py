"""Goals in words: what they are aligned with, whom they reach, and what is said when they cannot be understood."""

import math
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers")

from safetensors.torch import load_file, save_file

from policies import sentences
from policies.act import ACTConfig
from policies.denoisers import MLPConfig
from policies.gcbc import GCBCConfig
from policies.inputs import START, TEXT, WORDED, InputConfig, fill_goal
from policies.score import ScoreConfig
from policies.sentences import SentenceEncoder
from policies.torch_source import TorchSource
from policies.words import TaskSpace, WordsConfig
from robot_rl.algorithms.imitation import Imitation, ImitationConfig
from robot_rl.errors import ConfigError
from tests.policies.encoder import make_encoder
from tests.policies.test_score import MIXED, STATE, build, observe, tensors, windows

SIDES = ("go to the left", "go to the right")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(make_encoder(tmp_path_factory.mktemp("encoder")))


def words(encoder, **options):
    return WordsConfig(encoder=encoder, sentence_features=32, features=8, hidden=32, **options)


def score(encoder, **options):
    return ScoreConfig(horizon=4, network=MLPConfig(64, 1), inputs=InputConfig(words=words(encoder, **options)))


def sided(number, labelled=0.3, batch=128):
    """From a start near 0 the goal lies left or right, and so does the action; some goals have words."""
    rng = np.random.default_rng(number)
    side = rng.integers(2, size=batch)
    x = np.where(side, 0.8, -0.8).astype(np.float32)
    start = rng.normal(0, 0.1, (batch, 3)).astype(np.float32)
    goal = start + np.stack([x, *np.zeros((2, batch))], -1).astype(np.float32)
    text = np.where(rng.random(batch) < labelled, side, -1)
    action = np.repeat(x[:, None, None], 4, 1) * np.array([1.0, 0.5], np.float32)
    one = windows(batch=batch, action=action, goal={"state": goal}, start={"state": start}, text=text)
    one.observation["state"][:] = start[:, None]
    return one


@pytest.mark.parametrize("told_share", [0.5, 0.0])
def test_words_lead_where_the_change_that_they_name_leads(encoder, told_share):
    """Also where no action was ever imitated under words: then by their alignment with changes alone."""
    model = build(score(encoder, told_share=told_share, align_weight=1.0))
    model.inputs.words.learn_texts(list(SIDES))
    algorithm = Imitation(ImitationConfig(learning_rate=3e-3, updates=300, warmup_updates=0, ema_decay=0.9), model)
    for number in range(300):
        metrics = algorithm.update(sided(number))
    assert float(metrics["words_found"]) > 0.9
    source = TorchSource(algorithm.acting)
    start = {"state": np.zeros(3, np.float32)}
    for text, x in zip(SIDES, (-0.8, 0.8), strict=True):
        shown = {"state": np.array([x, 0, 0], np.float32)}
        for goal in (source.tell({}, text, start), source.tell(shown, "", start)):
            history = {"state": np.zeros((1, 3), np.float32)}
            noise = np.random.default_rng(0).normal(size=(20, 4, 2)).astype(np.float32)
            chunks = [source.sample(history, goal, one, 0, None) for one in noise]
            assert np.mean(np.sign(np.mean(chunks, (1, 2))) == np.sign(x)) > 0.9


def test_the_contrastive_loss_is_clips_with_equal_texts_together():
    space = TaskSpace(WordsConfig(sentence_features=4, features=3), 2)
    changes, said = torch.eye(3), torch.eye(3)[[0, 1, 1]]
    scale = 1.0 / 0.07
    loss, found = space.align(changes, said, torch.tensor([5, 7, 7]))
    # rows: likeness (s 0 0), (0 s s), (0 0 0) against targets (1 0 0), (0 .5 .5), (0 .5 .5); columns alike
    alone, pair = math.log(math.exp(scale) + 2), math.log(2 * math.exp(scale) + 1)
    rows = (alone - scale) + (pair - scale) + math.log(3)
    columns = (alone - scale) + 2 * (math.log(math.exp(scale) + 2) - 0.5 * scale)
    assert float(loss.detach()) == pytest.approx(0.5 * (rows + columns) / 3, rel=1e-5)
    assert float(found) == pytest.approx(2 / 3)


def test_nothing_labelled_is_nothing_to_align(encoder):
    model = build(score(encoder))
    one = tensors(windows(start=observe(STATE, 8, None, 3)))
    loss, metrics = model.loss(one, torch.Generator().manual_seed(0))
    assert torch.isfinite(loss) and float(metrics["align"]) == 0.0
    loss.backward()


@pytest.mark.parametrize("kind", [ScoreConfig, GCBCConfig, ACTConfig])
def test_all_chunk_policies_learn_words_from_states_and_images(encoder, kind):
    sizes = {ScoreConfig: {"network": MLPConfig(32, 1)}, GCBCConfig: {}, ACTConfig: {"width": 32, "encoder_layers": 1}}
    config = kind(horizon=4, inputs=InputConfig(words=words(encoder)), **sizes[kind])
    model = build(config, MIXED)
    model.inputs.words.learn_texts(list(SIDES))
    text = np.array([0, 1, 0, 1, -1, -1, -1, -1])
    one = tensors(windows(MIXED, start=observe(MIXED, 8, None, 3), text=text))
    loss, metrics = model.loss(one, torch.Generator().manual_seed(0))
    loss.backward()
    assert "align" in metrics and model.inputs.words.of_words[0].weight.grad.abs().sum() > 0


def test_a_goal_told_in_words_is_no_longer_a_change(encoder):
    model = build(score(encoder))
    model.inputs.words.learn_texts(list(SIDES))
    goal = fill_goal(model.goal_arrays, {}, 2, torch.device("cpu"))
    said = goal | {TEXT: torch.from_numpy(np.stack([model.inputs.words.encode(one) for one in SIDES]))}
    other = {"state": torch.ones(2, 3), START + "state": -torch.ones(2, 3)}
    history = {"state": torch.zeros(2, 1, 3)}
    worded, plain = {WORDED: torch.ones(2)}, {WORDED: torch.zeros(2)}
    assert torch.equal(model.inputs(history, said | worded), model.inputs(history, said | other | worded))
    assert torch.equal(model.inputs(history, goal | other | plain), model.inputs(history, said | other | plain))
    assert not torch.equal(*model.inputs(history, said | worded)[:, 1])


def test_another_encoder_is_noticed(encoder, tmp_path):
    model = build(score(encoder))
    model.inputs.words.learn_texts(list(SIDES))
    other = build(score(str(make_encoder(tmp_path, seed=1))))
    other.load_state_dict(model.state_dict())
    with pytest.raises(ConfigError, match="not the one that this policy learned with"):
        TorchSource(other).tell({}, SIDES[0], {})
    wide = build(ScoreConfig(inputs=InputConfig(words=WordsConfig(encoder=encoder))))
    with pytest.raises(ConfigError, match=r"words\.sentence_features=32"):
        wide.inputs.words.learn_texts([])


def test_a_policy_without_words_says_so():
    source = TorchSource(build(ScoreConfig(horizon=4, network=MLPConfig(32, 1))))
    with pytest.raises(ConfigError, match="trained without words"):
        source.tell({}, "open the drawer", {})
    shown = {"state": np.zeros(3, np.float32)}
    assert source.tell(shown, "open the drawer", {}) == shown
    assert source.tell({}, "", {}) is None


def test_without_an_encoder_one_is_told_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.delenv(sentences.VARIABLE, raising=False)
    monkeypatch.setattr(sentences, "DEFAULT_FOLDER", tmp_path / "none")
    with pytest.raises(ConfigError, match="hf download sentence-transformers/all-MiniLM-L6-v2"):
        SentenceEncoder()
    monkeypatch.setenv(sentences.VARIABLE, str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match=r"no sentence encoder at .*elsewhere"):
        SentenceEncoder()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no sentence encoder that can be read"):
        SentenceEncoder(str(tmp_path / "empty"))


def test_vectors_have_length_one_and_tell_texts_apart(encoder):
    vectors = SentenceEncoder(encoder)(SIDES)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert vectors[0] @ vectors[1] < 0.999


@pytest.mark.parametrize(
    "damage",
    ["empty weights", "cut weights", "some weights", "no tokenizer", "no pooling", "pickle"],
)
def test_a_damaged_encoder_is_named_and_nothing_is_unpickled(encoder, tmp_path, damage):
    path = tmp_path / "damaged"
    shutil.copytree(encoder, path)
    weights = path / "model.safetensors"
    if damage == "empty weights":
        weights.write_bytes(b"")
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "some weights":
        save_file(dict(sorted(load_file(weights).items())[:3]), weights, metadata={"format": "pt"})
    elif damage == "no tokenizer":
        (path / "tokenizer.json").unlink()
    elif damage == "no pooling":
        shutil.rmtree(path / "1_Pooling")
    else:
        (path / "2_Dense").mkdir()
        (path / "2_Dense" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch unpickled'\ntR.")
    with pytest.raises(ConfigError, match="hf download"):
        SentenceEncoder(str(path))


def test_letter_case_does_not_matter(encoder):
    model = build(score(encoder))
    model.inputs.words.learn_texts(list(SIDES))
    np.testing.assert_array_equal(model.inputs.words.encode("Go  to the LEFT "), model.inputs.words.encode(SIDES[0]))


def test_words_are_of_policies_with_goals():
    with pytest.raises(ConfigError, match="goal=true"):
        InputConfig(goal=False, words=WordsConfig())
