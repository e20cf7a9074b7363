"""This project's chunk policies as subjects of chunk_latency.py.

`subject` is policy: a chunk as the robot gets it, from numpy to numpy; network: the network evaluations that this
chunk needs and nothing else (a sampler's arithmetic, noise, normalisation and conversions left out); bundle and
network_bundle: the same two, exported, on onnxruntime.
Protocol: the first line on stdin is the JSON of settings; then each number is answered with one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from policies.bundle import Bundle
from policies.export import OPSET, export_bundle
from policies.samplers import Sampler
from policies.score import ScoreModel
from policies.torch_source import TorchSource
from robot_rl.apps.config import compose
from robot_rl.apps.imitation import ImitationExperiment, build_model


def make_subject(settings: dict[str, Any]) -> Callable[[], Any]:
    overrides = [f"task={settings['task']}", *settings["overrides"]]
    experiment = compose("imitate", overrides, ImitationExperiment)
    spec, action = experiment.task.observation_spec, experiment.task.action_spec
    net = build_model(experiment, spec, action)
    rng = np.random.default_rng(settings["seed"])
    observation = {"state": rng.standard_normal((net.history, spec.state_dim), np.float32)}
    goal = {"state": rng.standard_normal(spec.state_dim, np.float32)}
    noise = rng.standard_normal((net.horizon, action.dim), np.float32)
    if settings["subject"] == "policy":
        source = TorchSource(net)
        return lambda: source.sample(observation, goal, noise, 0, None)
    if settings["subject"] == "bundle":
        folder = Path(tempfile.mkdtemp()) / "bundle"
        export_bundle(net, folder, spec, action, {})
        bundle = Bundle(folder)
        return lambda: bundle.sample(observation, goal, noise, 0, None)
    assert isinstance(net, ScoreModel)
    tensors = [{key: torch.from_numpy(value)[None] for key, value in one.items()} for one in (observation, goal)]
    inputs = torch.from_numpy(noise)[None], net.eval().inputs(*tensors).detach()
    network = BareNetwork(net)
    if settings["subject"] == "network_bundle":
        return exported(network, inputs)

    def run() -> None:
        with torch.inference_mode():
            network(*inputs)

    return run


class BareNetwork(nn.Module):
    """The denoiser as often as the sampler evaluates it, each time on what it returned: none can be left out."""

    def __init__(self, net: ScoreModel) -> None:
        super().__init__()
        assert isinstance(net.sampler, Sampler)
        self.denoiser, self.levels = net.denoiser, net.sampler.c_noises

    def forward(self, noisy: Tensor, context: Tensor) -> Tensor:
        for level in self.levels:
            noisy = self.denoiser(noisy, noisy.new_full((), level), context)
        return noisy


def exported(network: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    """`network` on onnxruntime, with one thread."""
    path = Path(tempfile.mkdtemp()) / "network.onnx"
    torch.onnx.export(network, inputs, str(path), opset_version=OPSET, dynamo=True, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    feed = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feed)


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    torch.set_num_threads(settings["threads"])
    subject = make_subject(settings)
    for _ in range(5):
        subject()
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            subject()
        print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
