"""Values by regression and by classification, and the losses of offline RL, against cases computed by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from robot_rl import offline_losses
from robot_rl.errors import ConfigError
from robot_rl.value_heads import ClassHead, ScalarHead


def test_a_scalar_head_squares_the_error_or_follows_huber():
    outputs = torch.tensor([[[1.0], [4.0]]])
    torch.testing.assert_close(ScalarHead().error(outputs, torch.tensor([0.0, 0.0])), torch.tensor([[1.0, 16.0]]))
    huber = ScalarHead(huber=2.0).error(outputs, torch.tensor([0.0, 0.0]))
    torch.testing.assert_close(huber, torch.tensor([[1.0, 2 * 2.0 * (4.0 - 1.0)]]))


def test_the_classes_shares_are_the_gaussians_mass():
    head = ClassHead(low=0.0, high=1.0, classes=16)
    width = 1.0 / 10  # a margin of ceil(3 x 0.75) = 3 classes on both sides
    edges = np.linspace(-3 * width, 1 + 3 * width, 17)
    for target in (0.0, 0.34, 1.0):
        mass = np.diff(norm.cdf(edges, target, 0.75 * width))
        shares = head.shares(torch.tensor([target]))[0]
        np.testing.assert_allclose(shares, mass / mass.sum(), atol=2e-6)


@pytest.mark.parametrize("target", [0.0, 0.013, 0.5, 0.777, 1.0])
def test_the_classes_tell_the_value_that_they_were_taught(target):
    head = ClassHead()
    outputs = head.shares(torch.tensor([target])).clamp(min=1e-30).log()
    assert float(head.value(outputs)) == pytest.approx(target, abs=1e-4)
    error = head.error(outputs, torch.tensor([target]))
    assert float(error) <= float(head.error(outputs + torch.randn(51), torch.tensor([target])))


def test_the_expectile_weight_gives_the_expectile():
    target = torch.tensor([0.0, 0.0, 0.0, 1.0])
    value = 0.75  # of the expectile 0.9: 0.9 (1 - v) = 0.1 * 3 v
    slope = offline_losses.expectile_weight(target - value, 0.9) * (target - value)
    assert float(slope.sum()) == pytest.approx(0.0, abs=1e-7)


def test_awr_weights_grow_with_the_advantage_up_to_a_limit():
    weight = offline_losses.awr_weight(torch.tensor([-0.1, 0.0, 0.1, 5.0]), temperature=0.1, largest=100.0)
    torch.testing.assert_close(weight, torch.tensor([math.exp(-1), 1.0, math.e, 100.0]))


def test_the_conservative_gap_by_hand():
    chance, policy, data = torch.tensor([[[1.0]]]), torch.tensor([[[2.0, 0.0]]]), torch.tensor([[0.5]])
    gap = offline_losses.conservative_gap(chance, policy, data)
    assert float(gap) == pytest.approx(math.log(sum(map(math.exp, (1, 2, 0, 0.5)))) - 0.5)
    floored = offline_losses.conservative_gap(chance, policy, data, torch.tensor([1.5]))
    assert float(floored) == pytest.approx(math.log(sum(map(math.exp, (1, 2, 1.5, 0.5)))) - 0.5)


def test_what_is_below_the_floor_is_not_pushed_down():
    policy = torch.tensor([[[2.0, 0.0]]], requires_grad=True)
    offline_losses.conservative_gap(
        torch.tensor([[[1.0]]]), policy, torch.tensor([[0.5]]), torch.tensor([1.0])
    ).backward()
    assert policy.grad is not None
    assert policy.grad[0, 0, 0] > 0.0 and policy.grad[0, 0, 1] == 0.0


@pytest.mark.parametrize("wrong", [{"low": 1.0, "high": 0.0}, {"classes": 4}, {"spread": 0.0}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigError):
        ClassHead(**wrong)
    with pytest.raises(ConfigError):
        ScalarHead(huber=0.0)
