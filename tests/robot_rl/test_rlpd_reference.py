"""Whole updates equal an independent implementation: ordinary modules, autograd and torch.optim.Adam in float64."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from policies.gaussian import STD_MAX, STD_MIN, GaussianConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.hidden import NORM_EPS
from tests.learning import make_batch, make_networks

PLAIN = {"tanh": torch.tanh, "silu": F.silu, "relu": F.relu}
ROWS, ARM, UPDATES = 32, 2, 4


class Plain(nn.Module):
    """One MLP per member, from an ensemble's parameters."""

    def __init__(self, fast, activation):
        super().__init__()
        self.values = nn.ParameterList(layer.detach().double().clone() for layer in fast.net.layers)
        self.activation = PLAIN[activation]

    def forward(self, *inputs):
        value, layers = torch.cat(inputs, 1), list(self.values)
        members = [self.member(value, [layer[index] for layer in layers]) for index in range(len(layers[0]))]
        return torch.stack(members)

    def member(self, value, layers):
        while len(layers) > 2:
            (weight, bias, scale, shift), layers = layers[:4], layers[4:]
            normal = F.layer_norm(F.linear(value, weight.T, bias[0]), scale[0].shape, scale[0], shift[0], NORM_EPS)
            value = self.activation(normal)
        return F.linear(value, layers[0].T, layers[1][0])


class Reference:
    """RLPD in the textbook's order and the textbook's formulas, with noise given from outside."""

    def __init__(self, algorithm, config):
        self.config, activation = config, config.activation
        networks = algorithm.networks
        self.encoder = copy.deepcopy(networks.encoder).double()  # a dense layer without a head; tested by itself
        self.critics, self.actor = Plain(algorithm.critics, activation), Plain(networks.actor, activation)
        self.gripper = Plain(networks.gripper, activation)
        self.values = nn.ModuleList([self.encoder, self.critics, self.gripper])
        self.targets = copy.deepcopy(self.values)
        self.acting = copy.deepcopy(nn.ModuleList([self.encoder, self.actor, self.gripper]))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.initial_temperature), dtype=torch.float64))
        self.adams = [
            torch.optim.Adam(parameters, config.learning_rate)
            for parameters in (self.values.parameters(), self.actor.parameters(), [self.log_temperature])
        ]
        self.updates = 0

    def sample(self, features, noise):
        mean, log_std = self.actor(features)[0].chunk(2, 1)
        base = torch.distributions.Normal(mean, log_std.exp().clamp(STD_MIN, STD_MAX))
        before = mean + base.scale * noise
        log_prob = (base.log_prob(before) - torch.log1p(-before.tanh().square())).sum(1)
        return mean, before.tanh(), log_prob

    def minimise(self, adam, loss):
        adam.zero_grad()
        loss.backward()
        adam.step()

    def update(self, data, noises):
        config = self.config
        state, following = ({"state": one["state"].double()} for one in (data.observation, data.next_observation))
        continues = data.discount.double() * (1.0 - data.terminated.double())
        low, high = config.value_range
        with torch.no_grad():
            _, action, _ = self.sample(self.encoder(following), noises[0])
            seen = self.targets[0](following)
            target = (data.reward + continues * self.targets[1](seen, action).amin(0).squeeze(1)).clamp(low, high)
            best = self.gripper(self.encoder(following))[0].argmax(1)
            value = self.targets[2](seen)[0][torch.arange(ROWS), best]
            penalised = data.reward + config.gripper_penalty * data.toggles.double()
            gripper_target = (penalised + continues * value).clamp(low + config.gripper_penalty, high)
        features = self.encoder(state)
        loss = sum(F.mse_loss(q.squeeze(1), target) for q in self.critics(features, data.arm_action.double()))
        loss = loss + self.gripper_loss(features, data, gripper_target)
        self.minimise(self.adams[0], loss)
        self.updates += 1
        if self.updates % config.actor_every == 0:
            self.update_actor(features.detach(), data, noises[1])
        with torch.no_grad():
            for slow, fast, rate in (
                (self.targets, self.values, config.target_rate),
                (self.acting, (self.encoder, self.actor, self.gripper), config.acting_rate),
            ):
                for old, new in zip(slow.parameters(), (p for one in fast for p in one.parameters()), strict=True):
                    old.mul_(1.0 - rate).add_(new, alpha=rate)

    def gripper_loss(self, features, data, target):
        q = self.gripper(features)[0]
        chosen = q[torch.arange(ROWS), data.gripper]
        others = q + self.config.gripper_margin * (1.0 - F.one_hot(data.gripper, 3))
        excess = others.amax(1) - chosen
        loss = F.mse_loss(chosen, target)
        for toggled in (0.0, 1.0):
            loss = loss + excess[(data.is_demonstration == 1.0) & (data.toggled == toggled)].mean()
        return loss

    def update_actor(self, features, data, noise):
        mean, action, log_prob = self.sample(features, noise)
        q = self.critics(features, action)
        loss = (self.log_temperature.exp().detach() * log_prob).mean() - q.mean()
        person = data.is_demonstration == 1.0
        weight = self.config.bc_weight * 0.5 ** (self.updates / self.config.bc_half_life) * q.detach().abs().mean()
        loss = loss + weight * F.mse_loss(mean[person].tanh(), data.arm_action[person].double())
        self.minimise(self.adams[1], loss)
        entropy = -log_prob.detach().mean()
        self.minimise(self.adams[2], self.log_temperature.exp() * (entropy + 0.5 * ARM))


def make(activation, actor_every):
    policy = GaussianConfig(hidden=(40, 24), activation=activation, state_features=16)
    config = RLPDConfig(
        target_subset=3, num_critics=3, hidden=(40, 24), activation=activation,
        actor_every=actor_every, target_rate=0.05, acting_rate=0.02,
    )  # fmt: skip
    algorithm = RLPD(config, make_networks(config=policy))
    return algorithm, config


@pytest.mark.parametrize("actor_every", [1, 2])
@pytest.mark.parametrize("activation", PLAIN)
def test_updates_equal_plain_autograd_in_every_parameter(activation, actor_every, monkeypatch):
    algorithm, config = make(activation, actor_every)
    reference = Reference(algorithm, config)
    generator = torch.Generator().manual_seed(0)
    for index in range(UPDATES):
        batch = make_batch(index, rows=ROWS)
        batch = dataclasses.replace(batch, reward=batch.reward * (batch.terminated > 0.0))
        noises = torch.randn(2, ROWS, ARM, generator=generator)
        left = iter(noises)
        monkeypatch.setattr(torch, "randn", lambda *_, left=left, **__: next(left))
        algorithm.update(batch)
        monkeypatch.undo()
        reference.update(algorithm._load(batch), noises.double())
    fast = [algorithm._values, algorithm._targets, algorithm.networks.actor, algorithm._log_temperature]
    slow = [reference.values, reference.targets, reference.actor, nn.ParameterList([reference.log_temperature])]
    acting = algorithm._acting
    fast += [acting.encoder, acting.actor, acting.gripper]
    slow += list(reference.acting)
    for one, two in zip(fast, slow, strict=True):
        for got, expected in zip(one.parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(got.double(), expected.view_as(got), rtol=1e-4, atol=2e-5)
