"""An exported policy does what the policy does, without torch and without this project."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript")

from policies.act import ACTConfig
from policies.bundle import Bundle, BundleError
from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.denoisers import MLPConfig, TransformerConfig
from policies.export import compare, export_bundle
from policies.gcbc import GCBCConfig
from policies.hiql import HIQLPolicyConfig
from policies.inputs import InputConfig
from policies.processes import DDPMProcess
from policies.score import ScoreConfig
from policies.torch_source import TorchSource
from robot_rl.errors import ConfigError, SpecError
from robot_rl.types import ActionSpec, ArraySpec, Goal, ObservationSpec

STATE = ObservationSpec({"state": ArraySpec((3,), names=("a", "b", "c"))})
MIXED = ObservationSpec({**STATE.arrays, "image/front": ArraySpec((32, 32, 3), "uint8", 0, 255)})
THINGS = ObservationSpec(
    {"state": ArraySpec((9,), names=tuple(f"{one}.{a}" for one in ("tcp", "cup", "ball") for a in "xyz"))}
)
ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
SMALL = MLPConfig(width=32, blocks=1)
CASES = {
    "score": (ScoreConfig(horizon=6, network=SMALL, guidance=2.0, max_prefix=2, temperature=0.5), STATE),
    "images": (
        ScoreConfig(horizon=6, inputs=InputConfig(history=2), network=TransformerConfig(width=32, layers=1, heads=4)),
        MIXED,
    ),
    "ddpm": (ScoreConfig(horizon=6, network=SMALL, process=DDPMProcess(), sampler="ddpm", steps=5, clip=1.0), STATE),
    "things": (
        ScoreConfig(
            horizon=6,
            network=SMALL,
            inputs=InputConfig(offsets_from="tcp", goal_offsets=True, goal_one_by_one=("cup", "*")),
        ),
        THINGS,
    ),
    "gcbc": (GCBCConfig(), STATE),
    "hiql": (HIQLPolicyConfig(horizon=2), MIXED),
    "act": (ACTConfig(horizon=6, width=32, heads=4, encoder_layers=1, execution=ExecutionConfig(execute=4)), STATE),
}


def build(name):
    config, spec = CASES[name]
    torch.manual_seed(0)
    net = config.build(spec, ACTION)
    rng = np.random.default_rng(0)
    size = spec.state_dim
    net.fit_normalizers(
        {"state": (rng.normal(size=size), rng.random(size) + 0.5), "action": (np.zeros(2), np.full(2, 0.4))}
    )
    return net, spec


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Path of the bundle of a case, each made once."""
    made = {}

    def get(name):
        if name not in made:
            net, spec = build(name)
            made[name] = tmp_path_factory.mktemp("export") / name
            export_bundle(net, made[name], spec, ACTION, {"task": "test", "rate_hz": 10.0})
        return made[name]

    return get


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_bundle_samples_the_same_chunks(name, exported):
    net, spec = build(name)
    bundle = Bundle(exported(name))
    assert compare(net.eval(), bundle, spec) < 1e-4
    rng = np.random.default_rng(1)
    seen = {key: np.ones((net.history, *one.shape), one.dtype) for key, one in spec.arrays.items()}
    noise = rng.standard_normal((net.horizon, ACTION.dim), np.float32)
    chunks = [one.sample(seen, None, noise, 5, None) for one in (bundle, TorchSource(net))]  # drawn from one seed
    np.testing.assert_allclose(*chunks, atol=1e-4)


def test_the_bundle_runs_without_torch_and_without_the_project(exported):
    path = exported("score")
    code = """
import sys, json, numpy as np
sys.path.insert(0, sys.argv[1])
from runtime import Bundle
rng = np.random.default_rng(3)
bundle = Bundle(sys.argv[1])
noise = rng.standard_normal((6, 2)).astype(np.float32)
chunk = bundle.sample({"state": np.ones((1, 3), np.float32)}, {"state": np.full(3, 0.5, np.float32)}, noise, 0, None)
foreign = [name for name in sys.modules if name.split(".")[0] in ("torch", "robot_rl", "policies", "diffusers")]
print(json.dumps([chunk.tolist(), foreign]))
"""
    result = subprocess.run([sys.executable, "-I", "-c", code, str(path)], capture_output=True, text=True, check=True)
    chunk, foreign = json.loads(result.stdout)
    assert foreign == []
    noise = np.random.default_rng(3).standard_normal((6, 2)).astype(np.float32)
    source = TorchSource(build("score")[0])
    wanted = source.sample(
        {"state": np.ones((1, 3), np.float32)}, {"state": np.full(3, 0.5, np.float32)}, noise, 0, None
    )
    np.testing.assert_allclose(chunk, wanted, atol=1e-4)


def test_a_bundle_acts_in_the_place_of_the_network(exported):
    execution = ExecutionConfig(execute=3)
    policies = [
        ChunkPolicy(source, execution, STATE, ACTION, seed=4)
        for source in (Bundle(exported("score")), TorchSource(build("score")[0]))
    ]
    for policy in policies:
        policy.reset(Goal({"state": np.array([1.0, 2.0, 3.0], np.float32)}))
    for k in range(10):
        actions = [policy.act({"state": np.full(3, k / 10, np.float32)}) for policy in policies]
        np.testing.assert_allclose(*actions, atol=1e-4)


def test_what_is_not_a_whole_bundle_is_refused(exported, tmp_path):
    with pytest.raises(BundleError, match="not a whole policy bundle"):
        Bundle(tmp_path)
    path = exported("score")
    copied = tmp_path / "copy"
    copied.mkdir()
    for name in ("bundle.json", "policy.onnx", "policy.safetensors"):
        (copied / name).write_bytes((path / name).read_bytes())
    (copied / "policy.onnx").write_bytes((path / "policy.onnx").read_bytes()[:-5])
    with pytest.raises(BundleError, match="export again"):
        Bundle(copied)
    description = json.loads((path / "bundle.json").read_text())
    (copied / "bundle.json").write_text(json.dumps({**description, "version": 9}))
    with pytest.raises(BundleError, match="version 2"):
        Bundle(copied)


def test_a_bundle_without_its_weights_or_with_others_is_refused(exported, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(exported("gcbc"), copied)
    weights = copied / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(BundleError, match=r"policy\.safetensors is not the one"):
        Bundle(copied)
    description = json.loads((copied / "bundle.json").read_text())
    del description["weights_sha256"]  # as bundles once were
    (copied / "bundle.json").write_text(json.dumps(description))
    Bundle(copied)
    weights.unlink()
    with pytest.raises(BundleError, match=r"not a whole policy bundle.*policy.safetensors.*copy all"):
        Bundle(copied)


def test_a_goal_may_be_an_image_alone_where_no_element_of_the_state_matters(tmp_path):
    inputs = InputConfig(goal_elements=(), offsets_from="")
    net = ScoreConfig(horizon=6, inputs=inputs, network=SMALL).build(MIXED, ACTION).eval()
    export_bundle(net, tmp_path / "bundle", MIXED, ACTION, {})
    bundle, source, rng = Bundle(tmp_path / "bundle"), TorchSource(net), np.random.default_rng(0)
    seen = {"state": rng.standard_normal((1, 3), np.float32), "image/front": _image(rng)[None]}
    shown, noise = {"image/front": _image(rng)}, rng.standard_normal((6, 2), np.float32)
    chunks = [
        one.sample(seen, one.tell(goal, "", {}), noise, 0, None)
        for one in (bundle, source)
        for goal in (shown, {**shown, "state": np.ones(3, np.float32)})
    ]
    np.testing.assert_allclose(chunks[1:], [chunks[0]] * 3, atol=1e-5)
    with pytest.raises(SpecError, match="image/front"):
        source.tell({"state": np.ones(3, np.float32)}, "", {})


def _image(rng):
    return rng.integers(256, size=(32, 32, 3), dtype=np.uint8)


def test_wrong_inputs_are_named(exported):
    bundle = Bundle(exported("score"))
    noise = np.zeros((6, 2), np.float32)
    with pytest.raises(BundleError, match="lacks 'state'"):
        bundle.sample({}, None, noise, 0, None)
    with pytest.raises(BundleError, match="observation/state is"):
        bundle.sample({"state": np.zeros((2, 3), np.float32)}, None, noise, 0, None)
    seen = {"state": np.zeros((1, 3))}  # numpy's own precision will do
    np.testing.assert_array_equal(
        bundle.sample(seen, None, noise.astype(float), 0, None),
        bundle.sample({"state": seen["state"].astype(np.float32)}, None, noise, 0, None),
    )
    with pytest.raises(BundleError, match="complex"):
        bundle.sample({"state": np.zeros((1, 3), complex)}, None, noise, 0, None)
    for prefix in (np.zeros((7, 2)), np.zeros((2, 3))):
        with pytest.raises(BundleError, match="prefix is"):
            bundle.sample(seen, None, noise, 0, prefix)
    for goal in ({"stat": np.zeros(3)}, {}):
        with pytest.raises(BundleError, match=r"lacks \['state'\]"):
            bundle.sample(seen, goal, noise, 0, None)
    with pytest.raises(BundleError, match=r"lacks \['state'\]"):
        bundle.tell({"stat": np.zeros(3)}, "", {})
    with pytest.raises(SpecError, match=r"lacks \['state'\]"):
        TorchSource(build("score")[0]).tell({"stat": np.zeros(3, np.float32)}, "", {})
    with pytest.raises(BundleError, match="does not learn"):
        bundle.load({"weight": noise})
    bundle.load({})


def test_a_folder_is_not_overwritten(exported):
    net, spec = build("score")
    with pytest.raises(ConfigError, match="exists"):
        export_bundle(net, exported("score"), spec, ACTION, {})
    with pytest.raises(ConfigError, match="cannot write"):
        export_bundle(net, exported("score") / "bundle.json" / "bundle", spec, ACTION, {})


def test_diffusers_schedulers_are_not_exported(tmp_path):
    net = ScoreConfig(horizon=6, network=SMALL, tables=False).build(STATE, ACTION)
    with pytest.raises(ConfigError, match="tables=true"):
        export_bundle(net, tmp_path / "bundle", STATE, ACTION, {})
    assert not list(tmp_path.iterdir())


def test_a_graph_that_does_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("policies.export.compare", lambda *_: 0.5)
    net, spec = build("gcbc")
    with pytest.raises(ConfigError, match="differs"):
        export_bundle(net, tmp_path / "bundle", spec, ACTION, {})
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_understands_the_words_that_it_was_exported_with(tmp_path):
    pytest.importorskip("sentence_transformers")
    from policies.words import WordsConfig
    from tests.policies.encoder import make_encoder

    words = WordsConfig(str(make_encoder(tmp_path / "encoder")), sentence_features=32, features=8, hidden=16)
    torch.manual_seed(0)
    net = ScoreConfig(horizon=6, network=SMALL, inputs=InputConfig(words=words)).build(STATE, ACTION)
    assert net.inputs.words is not None
    net.inputs.words.learn_texts([])
    assert export_bundle(net, tmp_path / "bundle", STATE, ACTION, {}, ["open it", "close it"]) < 1e-4
    bundle, source = Bundle(tmp_path / "bundle"), TorchSource(net)
    rng = np.random.default_rng(0)
    history, noise = {"state": rng.normal(size=(1, 3)).astype(np.float32)}, rng.normal(size=(6, 2)).astype(np.float32)
    shown = {"state": rng.normal(size=3).astype(np.float32)}
    start = {"state": history["state"][0]}
    chunks = []
    for goal, text in (({}, "open it"), ({}, "Close it"), (shown, "")):
        told = [one.tell(goal, text.lower() if one is source else text, start) for one in (source, bundle)]
        pair = [one.sample(history, part, noise, 0, None) for one, part in zip((source, bundle), told, strict=True)]
        np.testing.assert_allclose(*pair, atol=1e-4)
        chunks.append(pair[0])
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-5
    with pytest.raises(BundleError, match="none of the words it was exported with: close it, open it"):
        bundle.tell({}, "wave", start)


@pytest.mark.parametrize(
    "change", [{"horizon": None}, {"action": None}, {"words": [1]}, {"goal": 3}, {"sha256": None}, {"draws": -1}, None]
)
def test_a_description_that_is_none_is_refused(exported, tmp_path, change):
    copied = tmp_path / "copy"
    shutil.copytree(exported("gcbc"), copied)
    description = json.loads((copied / "bundle.json").read_text())
    changed = [] if change is None else {**description, **change}
    (copied / "bundle.json").write_text(json.dumps(changed))
    with pytest.raises(BundleError):
        Bundle(copied)
