"""Writes a policy as a bundle: weights, description, and the whole sampler unrolled into one ONNX graph."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from policies import bundle
from policies.chunk_net import ChunkSampler, Request
from policies.reference_samplers import ReferenceSampler
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec, plain

OPSET = 20
PROBES = 8
TOLERANCE = 1e-4
FIXED = ("told", "noise", "fresh", "prefix", "prefix_mask")


class _Traced(nn.Module):
    """`ChunkSampler.answer` with tensors alone as arguments."""

    def __init__(self, net: ChunkSampler, keys: tuple[str, ...]) -> None:
        super().__init__()
        self.net = net
        self.keys = keys

    def forward(self, *values: Tensor) -> Tensor:
        seen, goal_keys = len(self.keys), tuple(self.net.goal_arrays)
        told = seen + len(goal_keys)
        observation = dict(zip(self.keys, values[:seen], strict=True))
        goal = dict(zip(goal_keys, values[seen:told], strict=True))
        return self.net.answer(Request(observation, goal, *values[told:]))


def export_bundle(
    net: ChunkSampler,
    path: Path,
    observation_spec: ObservationSpec,
    action_spec: ActionSpec,
    description: Mapping[str, Any],
    words: Sequence[str] = (),
) -> float:
    """Write the bundle to the new folder `path`; returns its largest difference from `net` on random inputs.

    `words` are the goals that the bundle will understand, of a network that knows words: the sentence encoder stays
    behind. `description` is put beside what the bundle needs itself. Raises `ConfigError` when `path` exists, the
    packages for exporting are missing, the sampler is not a table, or the graph does not do what the network does.
    """
    if path.exists():
        raise ConfigError(f"{path} exists; choose another folder, or delete it")
    if isinstance(getattr(net, "sampler", None), ReferenceSampler):
        raise ConfigError("diffusers' schedulers cannot be exported; their tables can: policy.tables=true")
    net = net.cpu().eval()
    task_space = net.words
    vectors = None if task_space is None else {plain(text): task_space.encode(text).tolist() for text in words}
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from error
    try:
        _write_graph(net, partial / bundle.GRAPH, observation_spec, action_spec)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, partial / bundle.WEIGHTS)
        whole = {
            "format": bundle.FORMAT,
            "version": bundle.VERSION,
            "horizon": net.horizon,
            "history": net.history,
            "draws": net.draws,
            "observation": {key: [list(one.shape), one.dtype] for key, one in observation_spec.arrays.items()},
            "elements": {key: list(one.names) for key, one in observation_spec.arrays.items()},
            "goal": {key: [list(one.shape), one.dtype] for key, one in net.goal_arrays.items()},
            "words": vectors,
            "action": {
                "names": list(action_spec.names),
                "translation_m": action_spec.translation_m,
                "rotation_rad": action_spec.rotation_rad,
                "gripper": action_spec.gripper,
            },
            "sha256": hashlib.sha256((partial / bundle.GRAPH).read_bytes()).hexdigest(),
            "weights_sha256": hashlib.sha256((partial / bundle.WEIGHTS).read_bytes()).hexdigest(),
            **description,
        }
        (partial / bundle.DESCRIPTION).write_text(json.dumps(whole, indent=2) + "\n")
        (partial / bundle.RUNTIME).write_text(inspect.getsource(bundle))
        difference = compare(net, bundle.Bundle(partial), observation_spec)
        if not difference <= TOLERANCE:
            raise ConfigError(f"the exported graph differs from the policy by {difference:.2g}; nothing was written")
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return difference


def compare(net: ChunkSampler, exported: bundle.Bundle, observation_spec: ObservationSpec) -> float:
    """Largest difference between both on `PROBES` random inputs, with and without goal and prefix."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for number in range(PROBES):
        observation = _random(observation_spec.arrays, rng, (net.history,))
        goal = _random(net.goal_arrays, rng)
        noise = rng.standard_normal((net.horizon, exported.action_dim), np.float32)
        prefix = noise[: number % net.horizon] * 0.3 if number % 2 and number % net.horizon else None
        told = goal if number % 4 < 2 else None
        chunk = exported.sample(observation, told, noise, number, prefix)
        fresh = np.random.default_rng(number).standard_normal((net.draws, 1, *noise.shape), np.float32)
        placed, mask = np.zeros_like(noise), np.zeros(net.horizon, np.float32)
        if prefix is not None:
            placed[: len(prefix)], mask[: len(prefix)] = prefix, 1.0
        with torch.inference_mode():
            wanted = net.answer(
                Request(
                    {key: torch.from_numpy(value[None]) for key, value in observation.items()},
                    {key: torch.from_numpy(value[None]) for key, value in goal.items()},
                    torch.full((1,), float(told is not None)),
                    *(torch.from_numpy(one) for one in (noise[None], fresh, placed[None], mask[None])),
                )
            )[0].numpy()
        worst = max(worst, float(np.abs(chunk - wanted).max()))
    return worst


def _random(arrays: Mapping[str, ArraySpec], rng: np.random.Generator, lead: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        key: rng.integers(0, 256, (*lead, *one.shape), np.uint8)
        if one.dtype == "uint8"
        else np.asarray(rng.standard_normal((*lead, *one.shape), np.float32))
        for key, one in arrays.items()
    }


def _write_graph(net: ChunkSampler, path: Path, spec: ObservationSpec, action_spec: ActionSpec) -> None:
    keys, rng = tuple(spec.arrays), np.random.default_rng(0)
    observation, goal = _random(spec.arrays, rng, (net.history,)), _random(net.goal_arrays, rng)
    shape = (1, net.horizon, action_spec.dim)
    example = [torch.from_numpy(one[None]) for part in (observation, goal) for one in part.values()]
    # five tensors of their own: one that stands twice is taken for one input
    example += [torch.ones(1), *map(torch.zeros, (shape, (net.draws, *shape), shape, shape[:2]))]
    names = [*(f"observation/{key}" for key in keys), *(f"goal/{key}" for key in goal), *FIXED]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Traced(net, keys).eval(), tuple(example), str(path), input_names=names, output_names=["chunk"],
                opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    except ImportError as error:
        raise ConfigError(f"exporting needs another package ({error}): pip install -e '.[export]'") from error
