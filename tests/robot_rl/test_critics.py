"""Critic ensembles: members are independent, subsets are the members asked for."""

import pytest
import torch

from robot_rl.critics import CriticEnsemble, DiscreteCritic, choose


def make(members=4):
    torch.manual_seed(0)
    return CriticEnsemble(members, 5, 2, (16, 16)), torch.randn(8, 5), torch.randn(8, 2)


def test_members_start_different_and_learn_apart():
    critics, features, action = make()
    values = critics(features, action)
    assert values.shape == (4, 8)
    spread = (values.unsqueeze(0) - values.unsqueeze(1)).abs().amax(-1)
    assert (spread + torch.eye(4) > 1e-3).all()
    gradients = torch.autograd.grad(values[1].sum(), list(critics.parameters()))
    for gradient in gradients:
        used = gradient.flatten(1).abs().amax(1) > 0
        assert used.tolist() == [False, True, False, False]


def test_a_subset_is_the_named_members_in_order():
    critics, features, action = make()
    everyone = critics(features, action)
    some = critics(features, action, torch.tensor([3, 1]))
    torch.testing.assert_close(some, everyone[[3, 1]])


def test_discrete_critic_has_one_value_per_choice():
    torch.manual_seed(0)
    critic = DiscreteCritic(5, 3, (16,))
    assert critic(torch.randn(7, 5)).shape == (7, 3)


def test_a_pessimistic_choice_leaves_what_critics_do_not_agree_on():
    class Told(CriticEnsemble):
        """Two critics, who value the action's only element so."""

        def forward(self, features, action, chosen=None, frozen=False):
            return torch.stack([action[:, 0], action[:, 0] * torch.where(action[:, 0] > 0.5, -0.5, 1.0)])

    critics = Told(2, 1, 1, (4,))
    candidates = torch.tensor([[[0.1], [1.0], [0.2]]])  # means 0.1, 0.25, 0.2; deviations 0, 0.75, 0
    assert choose(critics, torch.zeros(1, 1), candidates).item() == 1.0
    assert choose(critics, torch.zeros(1, 1), candidates, pessimism=0.05).item() == 1.0  # 0.2125
    assert choose(critics, torch.zeros(1, 1), candidates, pessimism=0.1).item() == pytest.approx(0.2)  # 0.175
