"""Losses against values worked out by hand, distributions and finite differences."""

import math

import numpy as np
import pytest
import torch

from robot_rl import losses, offline_losses

F64 = torch.float64


def tensor(*values):
    return torch.tensor(values, dtype=F64)


def numeric_gradient(function, point, step=1e-6):
    gradient = torch.zeros_like(point)
    for index in np.ndindex(*point.shape):
        for sign in (1, -1):
            moved = point.clone()
            moved[index] += sign * step
            gradient[index] += sign * function(moved) / (2 * step)
    return gradient


def check_gradient(function, point):
    point = point.clone().requires_grad_(True)
    (exact,) = torch.autograd.grad(function(point), point)
    torch.testing.assert_close(exact, numeric_gradient(function, point.detach()), rtol=1e-5, atol=1e-7)


def test_squash_is_the_change_of_variables_of_a_gaussian():
    mean, std, noise = tensor([0.3, -1.0]), tensor([0.5, 2.0]), tensor([0.7, -0.2])
    action, log_prob = losses.squash(mean, std, noise)
    before = mean + std * noise
    normal = torch.distributions.Normal(mean, std)
    expected = (normal.log_prob(before) - torch.log(1 - before.tanh() ** 2)).sum()
    torch.testing.assert_close(action, before.tanh())
    torch.testing.assert_close(log_prob[0], expected)


def test_squash_density_integrates_to_one():
    before = torch.linspace(-12, 12, 20001, dtype=F64).unsqueeze(1)
    action, log_prob = losses.squash(torch.full_like(before, 0.4), torch.full_like(before, 0.8), (before - 0.4) / 0.8)
    assert torch.trapezoid(log_prob.exp(), action.squeeze(1)) == pytest.approx(1.0, abs=1e-6)


def test_squash_stays_finite_where_tanh_saturates():
    action, log_prob = losses.squash(torch.tensor([[40.0]]), torch.tensor([[1e-5]]), torch.zeros(1, 1))
    assert action.item() == 1.0 and math.isfinite(log_prob.item())


def test_log_prob_of_given_actions_agrees_with_sampling_them():
    generator = torch.Generator().manual_seed(0)
    mean, std, noise = (torch.randn(64, 3, generator=generator, dtype=F64) * 0.5 for _ in range(3))
    std = std.exp() * 0.3
    action, log_prob = losses.squash(mean, std, noise)
    inside = action.abs().amax(1) < 0.98
    assert inside.sum() > 32
    torch.testing.assert_close(losses.squashed_log_prob(mean, std, action)[inside], log_prob[inside])
    assert losses.squashed_log_prob(mean, std, torch.ones_like(mean)).isfinite().all()


def test_td_target_bootstraps_unless_terminated():
    target = losses.td_target(tensor(1.0, 1.0), tensor(0.0, 1.0), tensor(10.0, 10.0), 0.9)
    torch.testing.assert_close(target, tensor(10.0, 1.0))


def test_ensemble_loss_is_a_mean_over_the_batch_and_a_sum_over_members():
    q = tensor([1.0, 2.0], [3.0, 5.0])
    assert losses.ensemble_loss(q, tensor(1.0, 4.0)).item() == pytest.approx((0 + 4) / 2 + (4 + 1) / 2)


def test_double_q_selects_online_and_evaluates_with_the_target():
    value = losses.double_q_value(tensor([1.0, 5.0, 2.0], [9.0, 0.0, 0.0]), tensor([7.0, -3.0, 8.0], [4.0, 6.0, 6.0]))
    torch.testing.assert_close(value, tensor(-3.0, 4.0))


def test_chosen_takes_the_taken_choice():
    q = tensor([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    torch.testing.assert_close(losses.chosen(q, torch.tensor([2, 0])), tensor(3.0, 4.0))


def test_actor_loss_averages_the_critics():
    q = tensor([1.0, 3.0], [5.0, 7.0])
    assert losses.actor_loss(q, tensor(2.0, 4.0), tensor(0.5)).item() == pytest.approx(0.5 * 3.0 - 4.0)


@pytest.mark.parametrize(("log_prob", "direction"), [(2.0, -1), (-2.0, 1)])
def test_temperature_rises_when_entropy_is_short(log_prob, direction):
    """With a target entropy of -1: log_prob 2 is an entropy of -2, too little; the gradient is then negative."""
    log_temperature = tensor(math.log(0.1)).requires_grad_(True)
    losses.temperature_loss(log_temperature, tensor(log_prob, log_prob), -1.0).sum().backward()
    assert log_temperature.grad is not None
    assert math.copysign(1, log_temperature.grad.item()) == direction
    assert log_temperature.grad.item() == pytest.approx(-0.1 * (log_prob - 1.0))


def test_imitation_counts_only_masked_rows_and_an_empty_mask_is_zero():
    mean, action = tensor([0.0, 0.0], [1.0, 1.0]), tensor([1.0, 0.0], [9.0, 9.0])
    assert losses.imitation_loss(mean, action, tensor(1.0, 0.0)).item() == pytest.approx(0.5)
    assert losses.imitation_loss(mean, action, tensor(0.0, 0.0)).item() == 0.0


@pytest.mark.parametrize(
    ("mean", "action", "target"),
    [
        ((0.4, 0.1), (0.2, 0.0), (0.4, 0.0)),  # twice as fast, and a little beside
        ((0.9, 0.0), (0.2, 0.0), (0.5, 0.0)),  # faster than 2.5 times
        ((0.1, 0.0), (0.2, 0.0), (0.2, 0.0)),  # slower
        ((-0.4, 0.0), (0.2, 0.0), (0.2, 0.0)),  # the other way
        ((1.0, 1.0), (0.8, 0.4), (1.0, 0.5)),  # as far as the arm's full speed
        ((0.5, 0.0), (0.0, 0.0), (0.0, 0.0)),  # where the person rests, so should the policy
    ],
)
def test_imitation_may_be_faster_than_the_person(
    mean: tuple[float, float], action: tuple[float, float], target: tuple[float, float]
) -> None:
    expected = (tensor(mean) - tensor(target)).square().mean().item()
    loss = losses.imitation_loss(tensor(mean), tensor(action), torch.ones(1), speed=2.5)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_margin_is_zero_exactly_when_the_persons_choice_leads_by_it():
    q = tensor([1.0, 0.5, 0.0], [1.0, 0.95, 0.0], [0.0, 5.0, 0.0])
    chosen, same = q[:, 0], torch.tensor([[True, False, False]] * 3)
    each = [losses.margin_loss(q, chosen, same, 0.1, mask).item() for mask in torch.eye(3, dtype=F64)]
    assert each[0] == pytest.approx(0.0) and 0.0 < each[1] < each[2]
    assert losses.margin_loss(q, chosen, same, 0.1, tensor(0.0, 0.0, 0.0)).item() == 0.0


def test_a_weight_multiplies_each_rows_squared_error_and_does_not_count_rows():
    q = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    loss = losses.ensemble_loss(q, tensor(1.0, 4.0), weight=tensor(0.5, 0.25))
    assert loss.item() == pytest.approx((0 * 0.5 + 4 * 0.25) / 2 + (4 * 0.5 + 1 * 0.25) / 2)


def test_discrimination_loss_is_the_cross_entropy_of_both_kinds_alike():
    """Log odds 0 are even chances; log 3 is three to one."""
    real, simulated = tensor(0.0, math.log(3.0)), tensor(math.log(3.0))
    wanted = -(math.log(0.5) + math.log(0.75)) / 2 - math.log(0.25)
    assert losses.discrimination_loss(real, simulated).item() == pytest.approx(wanted)


def test_dynamics_weight_is_the_product_of_the_steps_that_were_within_its_bounds():
    """0.5 * 0.25; 0.5 alone, its second step never was; 8 * 0.5 above 1; too small."""
    ratio = torch.tensor([[0.5, 0.25], [0.5, 0.25], [8.0, 0.5], [1e-4, 1e-4]], dtype=F64).log()
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    torch.testing.assert_close(losses.dynamics_weight(ratio, mask, 1e-5), tensor(0.125, 0.5, 1.0, 1e-5))


def test_dynamics_gap_penalty_is_a_soft_maximum_by_gaps_less_the_mean_of_real_values():
    """One member: log(0.25 e^1 + 0.75 e^2) - 1.5; gaps 1 and 3."""
    simulated, real = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 2.0], [4.0, 4.0]])
    wanted = math.log(0.25 * math.e + 0.75 * math.e**2) - 1.5 + 0.0 - 4.0
    assert losses.dynamics_gap_penalty(simulated, real, tensor(1.0, 3.0)).item() == pytest.approx(wanted)


def test_gripper_loss_is_the_cross_entropy():
    logits = tensor([0.0, 0.0, math.log(2.0)])
    assert losses.gripper_loss(logits, torch.tensor([2])).item() == pytest.approx(math.log(2.0))


def test_q_scale_carries_no_gradient():
    q = tensor([-2.0, 4.0]).requires_grad_(True)
    scale = losses.q_scale(q)
    assert scale.item() == 3.0 and not scale.requires_grad


def test_random_subset_has_distinct_members_and_reaches_all():
    generator = torch.Generator().manual_seed(0)
    draws = [losses.random_subset(10, 2, generator).tolist() for _ in range(200)]
    assert all(len(set(draw)) == 2 for draw in draws)
    counts = np.bincount(np.concatenate(draws), minlength=10)
    assert counts.min() > 20


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(1)
    mean, std, noise, action = (torch.randn(4, 3, generator=generator, dtype=F64) for _ in range(4))
    std, action = std.exp(), action.tanh()
    ones = torch.ones(4, dtype=F64)
    check_gradient(lambda point: losses.squash(point, std, noise)[1].sum(), mean)
    check_gradient(lambda point: losses.squash(mean, point, noise)[1].sum(), std)
    check_gradient(lambda point: losses.squashed_log_prob(point, std, action).sum(), mean)
    check_gradient(lambda point: losses.squashed_log_prob(mean, point, action).sum(), std)
    check_gradient(lambda point: losses.ensemble_loss(point, ones[:3]), mean)
    check_gradient(lambda point: losses.imitation_loss(point, action, ones), mean)
    check_gradient(lambda point: losses.actor_loss(point, ones, ones[0]), mean)


def test_cloning_where_every_weight_underflows_teaches_nothing():
    """Advantages far below AWR's temperature: no division of nothing by nothing."""
    mean = torch.ones(2, 3, requires_grad=True)
    weight = offline_losses.awr_weight(torch.tensor([-20.0, -30.0]), 0.1, 100.0)
    loss = losses.cloning_loss(mean, torch.zeros(2, 3), weight)
    (gradient,) = torch.autograd.grad(loss, mean)
    assert float(weight.sum()) == 0.0 and float(loss.detach()) == 0.0 and not gradient.any()
