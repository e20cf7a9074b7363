"""Densities of Gaussian policies with a gripper, by hand."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
from scipy import stats

from policies.density import classified, exploring, log_density
from policies.gaussian import GaussianActor, GaussianConfig
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

GRASP = ActionSpec(("x", "y", "gripper"), 0.02, 0.1)
NAMED = ObservationSpec({"state": ArraySpec((2,), names=("place", "gripper.target"))})


def make_networks():
    networks = GaussianConfig(hidden=(8,)).build_networks(NAMED, GRASP, 0).requires_grad_(False)
    *_, weight, bias = cast(GaussianActor, networks.actor).net.layers
    weight.zero_()
    bias.copy_(torch.tensor([0.3, -0.2, math.log(0.5), math.log(0.8)]).view(1, 1, 4))
    return networks


def test_it_is_the_density_that_samples_have() -> None:
    networks, before = make_networks(), np.array([0.6, 0.1])
    action = torch.tensor([[*np.tanh(before), 0.0]], dtype=torch.float32)
    found = log_density(networks, exploring(networks, 1.0), {"state": torch.zeros(1, 2)}, action)
    arm = stats.norm.logpdf(before, [0.3, -0.2], [0.5, 0.8]) - np.log(1.0 - np.tanh(before) ** 2)
    # closed already: to keep it and to close it are one thing
    assert float(found) == pytest.approx(arm.sum() + math.log(2 / 3), abs=1e-4)


@pytest.mark.parametrize("is_open", [False, True])
def test_commands_of_the_same_effect_share_their_probability(is_open: bool) -> None:
    networks = make_networks()
    state = torch.tensor([[0.7, 1.0 if is_open else -1.0]])

    def log_of(choice, command: float) -> float:
        return float(log_density(networks, choice, {"state": state}, torch.tensor([[0.0, 0.0, command]])))

    density = {command: log_of(classified(networks), command) for command in (-1.0, 0.0, 1.0)}
    same = 1.0 if is_open else -1.0
    assert density[same] == pytest.approx(density[0.0]) and density[-same] != pytest.approx(density[0.0])
    sure, other = (log_of(exploring(networks, 0.0), command) for command in (0.0, -same))
    arm = max(sure, other)  # the greedy choice is certain, the other one impossible
    assert min(sure, other) == -math.inf
    assert math.exp(density[0.0] - arm) + math.exp(density[-same] - arm) == pytest.approx(1.0, abs=1e-5)
