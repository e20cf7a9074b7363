"""Small specs, networks and identifiable batches for the tests of learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from policies.gaussian import GaussianConfig
from robot_rl.algorithms.networks import PolicyNetworks
from robot_rl.batch import Batch
from robot_rl.types import ActionSpec, ArraySpec, Observation, ObservationSpec

torch.set_num_threads(1)

STATE_DIM = 5
IMAGE_HW = (20, 24)
STATE_SPEC = ObservationSpec({"state": ArraySpec((STATE_DIM,))})
PIXEL_SPEC = ObservationSpec(
    {"state": ArraySpec((STATE_DIM,))}
    | {f"image/{name}": ArraySpec((*IMAGE_HW, 3), "uint8") for name in ("front", "wrist")}
)
GRASP = ActionSpec(("x", "y", "gripper"), 0.02, 0.1)
REACH = ActionSpec(("x", "y"), 0.02, 0.1)
SMALL = GaussianConfig(hidden=(32, 32), image_channels=(4, 4), image_features=8)


def make_networks(
    spec: ObservationSpec = STATE_SPEC, action: ActionSpec = GRASP, seed: int = 0, config: GaussianConfig = SMALL
) -> PolicyNetworks:
    return config.build_networks(spec, action, seed)


def make_observation(spec: ObservationSpec, rng: np.random.Generator, rows: int) -> Observation:
    return {
        key: rng.integers(0, 256, (rows, *one.shape), np.uint8)
        if one.dtype == "uint8"
        else rng.standard_normal((rows, *one.shape)).astype(np.float32)
        for key, one in spec.arrays.items()
    }


def make_batch(seed: int, spec: ObservationSpec = STATE_SPEC, action: ActionSpec = GRASP, rows: int = 32) -> Batch:
    rng = np.random.default_rng(seed)

    def coin(probability: float) -> np.ndarray:
        return (rng.random(rows) < probability).astype(np.float32)

    toggled = coin(0.3)
    return Batch(
        make_observation(spec, rng, rows),
        rng.uniform(-1, 1, (rows, action.dim)).astype(np.float32),
        coin(0.2),
        make_observation(spec, rng, rows),
        np.full(rows, 0.97, np.float32),
        coin(0.2),
        coin(0.5),
        toggled,
        toggled,
    )


def constant_batch(
    rows: int = 32,
    action: ActionSpec = GRASP,
    *,
    reward: float = 0.0,
    discount: float = 0.6,
    terminated: float = 0.0,
    toggled: float = 0.0,
    gripper: float = 0.0,
    intervention: float = 0.0,
) -> Batch:
    """One transition of a one-state problem, repeated."""

    def full(value: float) -> np.ndarray:
        return np.full(rows, value, np.float32)

    actions = np.zeros((rows, action.dim), np.float32)
    if action.has_gripper:
        actions[:, -1] = gripper
    state = {"state": np.ones((rows, STATE_DIM), np.float32)}
    return Batch(
        state,
        actions,
        full(reward),
        state,
        full(discount),
        full(terminated),
        full(intervention),
        full(toggled),
        full(toggled),
    )


def assert_resumes_exactly(make: Callable[[int], Any], batches: Sequence[Batch], split: int) -> None:
    """N updates of `make(seed)` equal k, a round trip through saved tensors, and N - k; random draws included."""
    straight, first, second = (make(seed) for seed in (0, 0, 9))
    for batch in batches:
        straight.update(batch)
    for batch in batches[:split]:
        first.update(batch)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for batch in batches[split:]:
        second.update(batch)
    expected, got = straight.state_dict(), second.state_dict()
    assert set(expected) == set(got)
    for name, tensor in expected.items():
        assert torch.equal(tensor, got[name]), name
