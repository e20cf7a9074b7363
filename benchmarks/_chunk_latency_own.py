"""This project's chunk policies as subjects of chunk_latency.py.

`subject` is policy: a chunk as the robot gets it, from numpy to numpy; network: the network evaluations that this
chunk needs and nothing else (a sampler's arithmetic, noise, normalisation and conversions left out); bundle: the
exported chunk on onnxruntime.
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
import torch

from policies.bundle import Bundle
from policies.export import export_bundle
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
    return bare_network(net.eval(), observation, goal, noise)


def bare_network(net: ScoreModel, observation: Any, goal: Any, noise: Any) -> Callable[[], Any]:
    """The denoiser as often as the sampler evaluates it, on inputs made beforehand."""
    tensors = [{key: torch.from_numpy(value)[None] for key, value in one.items()} for one in (observation, goal)]
    context = net.inputs(*tensors)
    noisy, level = torch.from_numpy(noise)[None], torch.tensor(-0.3)
    assert isinstance(net.sampler, Sampler)
    evaluations, denoiser = len(net.sampler.stages), net.denoiser

    def run() -> None:
        with torch.inference_mode():
            for _ in range(evaluations):
                denoiser(noisy, level, context)

    return run


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
