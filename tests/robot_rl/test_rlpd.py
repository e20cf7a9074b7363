"""RLPD: what each part learns from, exact resumption, and its configuration."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from policies.augmentation import random_crop
from robot_rl import losses
from robot_rl.algorithms.networks import gripper_index
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.errors import ConfigError, DataError
from tests.learning import (
    PIXEL_SPEC,
    REACH,
    STATE_SPEC,
    assert_resumes_exactly,
    constant_batch,
    make_batch,
    make_networks,
)

CONFIG = RLPDConfig(hidden=(32, 32))


def make(spec=STATE_SPEC, seed=0, networks=None, augment=None, **changes):
    config = dataclasses.replace(CONFIG, seed=seed, **changes)
    return RLPD(config, networks or make_networks(spec, seed=seed), augment)


def copies(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name.split(".")[0] for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


@pytest.mark.parametrize("split", [1, 4])
def test_resuming_is_exact(split):
    settings = {"num_critics": 4, "augment": random_crop, "spec": PIXEL_SPEC}
    batches = [make_batch(seed, PIXEL_SPEC) for seed in range(7)]
    assert_resumes_exactly(lambda seed: make(seed=seed, **settings), batches, split)


def test_same_seed_same_learning_and_another_seed_another():
    def run(seed):
        algorithm = make(seed=seed)
        for index in range(3):
            algorithm.update(make_batch(index))
        return algorithm.policy_state()

    one, two, other = run(0), run(0), run(1)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_state_is_flat_tensors_that_do_not_follow_later_updates():
    algorithm = make()
    state = algorithm.state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    algorithm.update(make_batch(0))
    assert all(isinstance(tensor, torch.Tensor) and tensor.is_contiguous() for tensor in state.values())
    assert all(torch.equal(kept[name], state[name]) for name in state)


@pytest.mark.parametrize("damage", ["missing", "shape", "extra"])
def test_a_state_of_other_networks_is_refused_and_changes_nothing(damage):
    algorithm = make()
    state = dict(make(seed=1).state_dict())
    name = next(name for name in state if name.startswith("critics."))
    if damage == "missing":
        del state[name]
    elif damage == "shape":
        state[name] = state[name][:1]
    else:
        state["critics.unknown"] = torch.zeros(1)
    before = algorithm.state_dict()
    with pytest.raises(DataError, match="critics"):
        algorithm.load_state_dict(state)
    assert all(torch.equal(before[name], tensor) for name, tensor in algorithm.state_dict().items())


def test_actor_and_temperature_move_at_every_kth_update_only():
    algorithm = make(actor_every=3)
    for index in range(1, 7):
        actor, temperature = copies(algorithm.networks.actor), algorithm.temperature.clone()
        metrics = algorithm.update(make_batch(index))
        moved = index % 3 == 0
        assert bool(changed(actor, algorithm.networks.actor)) == moved
        assert torch.equal(temperature, algorithm.temperature) != moved
        assert ("actor_loss" in metrics) == moved


def test_metrics_are_detached_scalars():
    for value in make(actor_every=1).update(make_batch(0)).values():
        assert value.shape == () and not value.requires_grad and value.isfinite()


def test_bug_5_targets_are_objects_of_their_own_that_follow_by_the_rate():
    """The target's encoder must not be the learned one (it is in other implementations)."""
    algorithm = make(PIXEL_SPEC, target_rate=0.25)
    online = {id(one) for one in algorithm.networks.modules()} | {id(one) for one in algorithm.critics.modules()}
    assert algorithm.target_encoder is not algorithm.networks.encoder
    assert not online & {id(one) for one in algorithm.target_encoder.modules()}
    storage = {one.untyped_storage().data_ptr() for one in algorithm.networks.encoder.parameters()}
    assert not storage & {one.untyped_storage().data_ptr() for one in algorithm.target_encoder.parameters()}
    before = copies(algorithm.target_encoder)
    algorithm.update(make_batch(0, PIXEL_SPEC))
    online_now = algorithm.networks.encoder.state_dict()
    for name, tensor in algorithm.target_encoder.state_dict().items():
        torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * online_now[name])
    assert changed(before, algorithm.target_encoder)


@pytest.mark.parametrize("metric", ["critic_loss", "gripper_loss"])
def test_bug_5_targets_are_computed_with_the_targets_encoder(metric):
    """Another encoder in the target network changes what the critics regress to."""
    losses = []
    for noise in (0.0, 0.5):
        algorithm = make(PIXEL_SPEC, value_range=None, gripper_margin=0.0)
        with torch.no_grad():
            for parameter in algorithm.target_encoder.parameters():
                parameter += noise * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        losses.append(float(algorithm.update(make_batch(0, PIXEL_SPEC))[metric]))
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_the_actors_loss_leaves_encoder_and_critics_alone():
    algorithm = make(PIXEL_SPEC)
    data = algorithm._load(make_batch(0, PIXEL_SPEC))
    features = algorithm.networks.encoder(data.observation).detach()
    encoder, critics = copies(algorithm.networks.encoder), copies(algorithm.critics)
    actor = copies(algorithm.networks.actor)
    algorithm._update_actor(data, features)
    assert not changed(encoder, algorithm.networks.encoder) and not changed(critics, algorithm.critics)
    assert changed(actor, algorithm.networks.actor)


def test_critic_loss_trains_every_part_of_the_pixel_encoder():
    algorithm = make(PIXEL_SPEC)
    before = copies(algorithm.networks.encoder)
    algorithm.update(make_batch(0, PIXEL_SPEC))
    after = algorithm.networks.encoder.state_dict()
    for name, tensor in before.items():
        assert not torch.equal(tensor, after[name]), name


def test_actor_climbs_the_critics():
    """With fixed critics the actor's own steps raise the value of its actions."""
    algorithm = make(bc_weight=0.0, learning_rate=3e-3)
    data = algorithm._load(make_batch(0))
    features = algorithm.networks.encoder(data.observation)

    def value():
        with torch.no_grad():
            mean, _ = algorithm.networks.actor(features)
            return algorithm.critics(features, mean.tanh()).mean().item()

    before = value()
    for _ in range(50):
        algorithm._update_actor(data, features)
    assert value() > before + 0.05


def test_imitation_pulls_the_arm_to_the_persons_actions():
    algorithm = make(bc_weight=100.0, learning_rate=3e-3)
    batch = dataclasses.replace(make_batch(0), is_demonstration=np.ones(32, np.float32))
    first = algorithm.update(batch) | algorithm.update(batch)
    for _ in range(120):
        algorithm.update(batch)
    last = algorithm.update(batch) | algorithm.update(batch)
    assert last["imitation_loss"] < 0.5 * first["imitation_loss"]


def test_random_subset_takes_the_minimum_of_two_members(monkeypatch):
    algorithm = make(num_critics=5, backup_entropy=False, value_range=None)
    with torch.no_grad():
        targets: Any = algorithm._targets
        output = targets[1].net.layers
        output[-2].zero_()
        output[-1].copy_(torch.arange(5.0).view(5, 1, 1))  # member n says n
    monkeypatch.setattr(losses, "random_subset", lambda *_: torch.tensor([4, 2]))
    data = algorithm._load(constant_batch(reward=1.0))
    with torch.no_grad():
        features = algorithm.networks.encoder(data.next_observation)
        target = algorithm._target(data, features, features)
    torch.testing.assert_close(target, torch.full((32,), 1.0 + 0.6 * 2.0))


def test_works_without_a_gripper():
    algorithm = make(networks=make_networks(action=REACH), actor_every=1)
    metrics = algorithm.update(make_batch(0, action=REACH))
    assert "gripper_loss" not in metrics and "actor_loss" in metrics
    assert not any(name.startswith("gripper") for name in algorithm.policy_state())


def test_gripper_commands_become_choices_by_the_environments_thresholds():
    commands = torch.tensor([-1.0, -0.34, -0.33, 0.0, 0.33, 0.34, 1.0])
    assert gripper_index(commands).tolist() == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "wrong",
    [{"target_subset": 3}, {"target_subset": 0}, {"discount": 1.5}, {"actor_every": 0}, {"initial_temperature": 0.0}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        RLPDConfig(**wrong)
