"""A CUDA graph samples what the network samples; and nothing that sampling does on the way forbids recording it."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from policies.act import ACTConfig
from policies.denoisers import MLPConfig, TransformerConfig
from policies.inputs import InputConfig
from policies.processes import DDPMProcess, FlowProcess
from policies.score import ScoreConfig
from policies.torch_source import TorchSource
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
NAMES = ("tcp.x", "tcp.y", "tcp.z", "cube.x", "cube.y", "cube.z")
SPEC = ObservationSpec({"state": ArraySpec((6,), names=NAMES), "image/front": ArraySpec((32, 32, 3), "uint8", 0, 255)})
SMALL, TOKENS = MLPConfig(width=32, blocks=1), TransformerConfig(width=32, layers=1, heads=4)
OFFSETS = InputConfig(history=2, offsets_from="tcp")
CASES = {
    "plain": ScoreConfig(horizon=6, network=SMALL),
    "guided": ScoreConfig(horizon=6, network=SMALL, guidance=2.0, max_prefix=2),
    "tokens": ScoreConfig(horizon=6, network=TOKENS, inputs=OFFSETS, sampler="heun"),
    "drawing": ScoreConfig(horizon=6, network=SMALL, sampler="euler_ancestral", steps=5),
    "ddpm": ScoreConfig(horizon=6, network=SMALL, process=DDPMProcess(), sampler="ddpm", steps=9, clip=1.0),
    "flow": ScoreConfig(horizon=6, network=SMALL, process=FlowProcess(), sampler="euler"),
}
HOST = ("lift_fresh", "_local_scalar_dense", "nonzero")


def inputs(net, seed):
    rng = np.random.default_rng(seed)

    def observe(*lead):
        image = rng.integers(0, 256, (*lead, 32, 32, 3), np.uint8)
        return {"state": rng.standard_normal((*lead, 6), np.float32), "image/front": image}

    noise = rng.standard_normal((1, net.horizon, ACTION.dim), np.float32)
    prefix = 0.3 * noise[0, : seed % 3] if seed % 3 else None
    return observe(net.history), observe() if seed % 2 else None, noise, seed, prefix


class Watch(TorchDispatchMode):
    """Refuses what a stream that is being recorded refuses: values from the host, and values to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in HOST, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CASES)
def test_sampling_asks_nothing_of_the_host(name):
    net = CASES[name].build(SPEC, ACTION).eval()
    seen, goal, noise, _, _ = inputs(net, 1)
    given = [{key: torch.from_numpy(one)[None] for key, one in part.items()} for part in (seen, goal)]
    request = net.request(*given, torch.from_numpy(noise))
    with torch.inference_mode(), Watch():
        assert net.answer(request).shape == noise.shape
    with Watch(), pytest.raises(AssertionError, match="lift_fresh"):
        torch.zeros(1).new_tensor(0.5)


def test_what_cannot_be_recorded_is_said():
    net = CASES["plain"].build(SPEC, ACTION)
    with pytest.raises(ConfigError, match="needs a GPU: --device cuda; got cpu"):
        TorchSource(net, "cpu", cuda_graph=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CASES)
def test_the_graph_samples_what_the_network_samples(name):
    torch.manual_seed(0)
    nets = [CASES[name].build(SPEC, ACTION) for _ in range(2)]
    weights = CASES[name].build(SPEC, ACTION).state_dict()
    graphed, eager = (TorchSource(one, "cuda", graph) for one, graph in zip(nets, (True, False), strict=True))
    eager.load(nets[0].state_dict())
    for seed in range(12):
        if seed == 6:  # the graph sees new weights
            graphed.load(weights)
            eager.load(weights)
        given = inputs(nets[0], seed)
        np.testing.assert_allclose(graphed.sample_many(*given), eager.sample_many(*given), atol=1e-5)
    seen, goal, noise, seed, prefix = inputs(nets[0], 3)
    many = np.concatenate([noise, noise + 0.1])
    chunks = [one.sample_many(seen, goal, many, seed, prefix) for one in (graphed, eager)]
    np.testing.assert_allclose(*chunks, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_only_score_policies_with_tables_are_recorded():
    act = ACTConfig(horizon=8, width=32, heads=4, encoder_layers=1)
    for config in (act, ScoreConfig(horizon=6, network=SMALL, tables=False)):
        with pytest.raises(ConfigError, match=r"policy\.tables=true"):
            TorchSource(config.build(SPEC, ACTION), "cuda", cuda_graph=True)
