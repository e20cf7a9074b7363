"""KORR: linear predictions by hand and on a linear system, corrections within reach of a base that nothing changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.base import load_base, pin_base
from policies.gcbc import GCBCConfig
from policies.inputs import InputConfig
from policies.korr import KORRActor, KORRPolicy, KORRPolicyConfig
from policies.score import ScoreConfig
from robot_rl import losses
from robot_rl.algorithms.korr import KORR, KORRConfig
from robot_rl.algorithms.networks import TensorPath
from robot_rl.apps.wiring import build_learner, build_policy, load_experiment
from robot_rl.batch import Path, Returns
from robot_rl.env import EnvConfig
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.wire import decode_parameters, encode_parameters
from sim.tasks import TaskConfig
from tests.learning import assert_resumes_exactly, make_batch, make_observation
from tests.robot_rl import test_actor
from tests.untrained import LIFT, write_base, write_policy

TASK = TaskConfig("lift", env=EnvConfig(objects=("goal",), max_steps=25))
SPEC, ACTION = TASK.observation_spec, TASK.action_spec
BASE = GCBCConfig(inputs=InputConfig(goal=False), horizon=3, hidden=(16,))
POLICY = KORRPolicyConfig(hidden=(32, 32), latent=8, reach=0.1)
ROWS, STEPS = 32, 5


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> KORRPolicyConfig:
    return replace(POLICY, base=write_base(tmp_path_factory.mktemp("base"), TASK, BASE))


def make(policy, seed=0, **changes) -> Any:
    config: dict[str, Any] = {"hidden": (32, 32), "seed": seed, **changes}
    return KORR(KORRConfig(**config), policy.build_networks(SPEC, ACTION, seed))


def batch(seed=0):
    """As the replay hands it out."""
    rng = np.random.default_rng(seed)
    ahead = make_observation(SPEC, rng, ROWS * STEPS)
    path = Path(
        {key: value.reshape(ROWS, STEPS, *value.shape[1:]) for key, value in ahead.items()},
        rng.uniform(-1, 1, (ROWS, STEPS, ACTION.dim)).astype(np.float32),
        (np.arange(STEPS) < rng.integers(1, STEPS + 1, (ROWS, 1))).astype(np.float32),
    )
    return replace(make_batch(seed, SPEC, ACTION, ROWS), path=path)


def observation(seed=0):
    return {key: one[0] for key, one in make_observation(SPEC, np.random.default_rng(seed), 1).items()}


def test_the_prediction_loss_by_hand():
    """Two rows of two steps, two elements; the last step of the second row never was."""
    predicted = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 1.0], [99.0, 99.0]]])
    actual = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert float(losses.prediction_loss(predicted, actual, mask)) == pytest.approx((2.0 + 1.0 + 4.5) / 3)


def test_predictions_by_hand():
    actor = KORRActor(replace(POLICY, latent=1), 1, 1)
    with torch.no_grad():
        actor.a.copy_(torch.tensor([[0.5, 1.0], [0.0, 2.0]]))
        actor.b.copy_(torch.tensor([[1.0], [-1.0]]))
        ahead = actor.predict(torch.tensor([[4.0, 1.0]]), torch.tensor([[[1.0], [3.0]]]))
    # (0.5 * 4 + 1 + 1, 2 - 1) = (4, 1); (0.5 * 4 + 1 + 3, 2 - 3) = (6, -1)
    assert ahead.tolist() == [[[4.0, 1.0], [6.0, -1.0]]]


def test_the_latent_begins_with_what_is_seen():
    actor = KORRActor(POLICY, 4, 2)
    seen = torch.randn(6, 4)
    assert actor.lift(seen).shape == (6, 12) and torch.equal(actor.lift(seen)[:, :4], seen)


def rollouts(rows, steps, generator):
    """Of x' = A x + B u, which turns and shrinks."""
    turn = torch.tensor([[0.9, -0.3, 0.0], [0.3, 0.9, 0.0], [0.1, 0.0, 0.7]])
    push = torch.tensor([[0.5, 0.0], [0.0, -0.4], [0.2, 0.3]])
    x, actions, ahead = torch.randn(rows, 3, generator=generator), [], []
    first = x
    for _ in range(steps):
        actions.append(torch.rand(rows, 2, generator=generator) * 2.0 - 1.0)
        x = x @ turn.T + actions[-1] @ push.T
        ahead.append(x)
    return first, torch.stack(actions, 1), torch.stack(ahead, 1)


def test_a_linear_system_is_recovered_and_predicted_beyond_the_steps_it_was_fitted_over():
    torch.manual_seed(0)
    actor, generator = KORRActor(replace(POLICY, latent=2, hidden=(16,)), 3, 2), torch.Generator().manual_seed(1)
    adam = torch.optim.Adam([actor.a, actor.b, *actor.lifting.parameters()], 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 1000)
    for _ in range(1000):
        seen, actions, ahead = rollouts(128, STEPS, generator)
        actual = actor.lift(ahead.flatten(0, 1)).unflatten(0, (128, STEPS))
        loss = losses.prediction_loss(actor.predict(actor.lift(seen), actions), actual, torch.ones(128, STEPS))
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    seen, actions, ahead = rollouts(500, 4 * STEPS, generator)
    with torch.no_grad():
        predicted = actor.predict(actor.lift(seen), actions)[..., :3]
    explained = 1.0 - (predicted - ahead).square().mean((0, 2)) / ahead.square().mean((0, 2))
    assert float(explained[0]) > 0.999 and float(explained.min()) > 0.99


def test_the_algorithm_fits_what_the_replay_hands_out(policy):
    """Its loss is that of rows and steps one by one."""
    algorithm = make(policy)
    with torch.no_grad():
        algorithm.networks.actor.b.normal_()
    data = algorithm._load(batch())
    features = algorithm.networks.encoder(data.observation)
    found = float(algorithm._prediction_loss(data, features).detach())
    actor, path, total = algorithm.networks.actor, data.path, []
    assert isinstance(path, TensorPath)
    with torch.no_grad():
        for row in range(ROWS):
            z = actor.lift(features[row : row + 1, : -ACTION.dim])
            for step in range(int(path.mask[row].sum())):
                z = z @ actor.a.T + path.action[row, step] @ actor.b.T
                total.append(float((z - actor.lift(path.observation["state"][row : row + 1, step])).square().mean()))
    assert found == pytest.approx(np.mean(total), rel=1e-4)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("score", [True, False])
def test_without_reach_the_policy_is_its_base(policy, tmp_path, deterministic, score):
    if score:
        config = ScoreConfig(inputs=InputConfig(goal=False), horizon=4, goal_dropout=0.0)
        policy = replace(policy, base=write_base(tmp_path, TASK, config))
    acting = KORRPolicy(replace(policy, reach=0.0), SPEC, ACTION, seed=3, deterministic=deterministic)
    base = load_base(policy.base, SPEC, ACTION)
    networks: Any = acting._networks
    different = set()
    for seed in range(5):
        seen = observation(seed)
        batched = {key: torch.from_numpy(value)[None, None] for key, value in seen.items()}
        with torch.no_grad():
            wanted = base.model.sample(batched, None, networks.encoder.noise)[0, 0].clamp(-1, 1)
        acted = acting.act(seen)
        np.testing.assert_allclose(acted, wanted.numpy(), atol=1e-6)
        different.add(acted.tobytes())
    assert len(different) == 5


def test_corrections_stay_within_reach(policy):
    acting = KORRPolicy(policy, SPEC, ACTION, seed=3)
    plain = KORRPolicy(replace(policy, reach=0.0), SPEC, ACTION, seed=3)
    apart = np.stack([acting.act(observation(seed)) - plain.act(observation(seed)) for seed in range(50)])
    assert 0.02 < np.abs(apart).max() <= policy.reach + 1e-6


def test_the_residual_policy_sees_what_the_base_would_bring_about_and_nothing_else():
    torch.manual_seed(0)
    actor = KORRActor(POLICY, 4, 2)
    seen, one, other = torch.randn(6, 4), torch.rand(6, 2), torch.rand(6, 2)
    with torch.no_grad():
        assert torch.equal(actor(torch.cat([seen, one], 1))[0], actor(torch.cat([seen, other], 1))[0])  # B is zero
        actor.b.normal_()
        mean, _ = actor(torch.cat([seen, one], 1))
        assert not torch.equal(mean, actor(torch.cat([seen, other], 1))[0])
        imagined = actor.lift(seen) @ actor.a.T + one @ actor.b.T
        torch.testing.assert_close(mean, actor.residual(imagined)[0])


def test_everything_learns_but_the_base(policy):
    algorithm = make(policy, acting_rate=1.0)
    base = algorithm.networks.encoder.base
    assert algorithm._targets[0].base is base and algorithm._acting.encoder.base is base
    frozen = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in algorithm.networks.state_dict().items()}
    metrics = [algorithm.update(batch(seed)) for seed in range(4)][-1]
    assert metrics["prediction_loss"].shape == () and all(one.isfinite() for one in metrics.values())
    after = algorithm.networks.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} == {"encoder.noise"}
    assert not any("base" in name for name in algorithm.state_dict())
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, frozen[name])


def test_the_prediction_teaches_dynamics_and_not_the_encoder(policy):
    algorithm = make(replace(policy, state_features=6))
    data = algorithm._load(batch())
    features = algorithm.networks.encoder(data.observation).detach()
    named = dict(algorithm.networks.named_parameters())
    loss = algorithm._prediction_loss(data, features)
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    learns = {name for name, one in zip(named, gradients, strict=True) if one is not None}
    assert learns and all(name.split(".")[:2][1] in ("a", "b", "lifting") for name in learns)


def test_acts_as_the_published_networks_say(policy):
    algorithm = make(policy, seed=3, acting_rate=1.0)
    for seed in range(3):
        algorithm.update(batch(seed))
    acting = KORRPolicy(policy, SPEC, ACTION, seed=9, deterministic=True)
    acting.load(*decode_parameters(encode_parameters(7, algorithm.policy_state())))
    for seed in range(5):
        seen = observation(seed)
        with torch.no_grad():
            features = algorithm.networks.encoder({key: torch.from_numpy(value)[None] for key, value in seen.items()})
            wanted = algorithm._act(features)[2][0]
        np.testing.assert_allclose(acting.act(seen), wanted.numpy(), atol=1e-6)
    assert acting.version == 7


def test_resuming_is_exact(policy):
    assert_resumes_exactly(lambda seed: make(policy, seed=seed), [batch(seed) for seed in range(5)], split=3)


def test_it_runs_through_the_actors_phases(policy, monkeypatch):
    """Demonstrations, interventions, learning, evaluation, as all others do."""
    config = test_actor.CONFIG
    assert (config.observation_spec, config.action_spec) == (SPEC, ACTION)
    learner = (lambda networks: KORR(KORRConfig(hidden=(32, 32)), networks), policy)
    monkeypatch.setitem(test_actor.LEARNERS, "korr", learner)
    test_actor.test_phases_run_in_order_and_the_ratio_holds("korr")


def test_a_run_names_its_base_for_good_and_its_policy_loads_what_is_learned(tmp_path):
    run_dir = write_policy(tmp_path / "imitate")
    words = ["algorithm=korr", "policy=korr", f"policy.base={run_dir}", *LIFT]
    experiment = load_experiment(words)
    assert experiment.policy.base == run_dir / "checkpoints" / "step_000000007"  # type: ignore[attr-defined]
    acting = build_policy(experiment)
    acting.load(3, build_learner(experiment).algorithm.policy_state())
    assert acting.version == 3


def test_what_does_not_fit_is_refused(policy, tmp_path):
    with pytest.raises(ConfigError, match=r"policy\.base=RUN"):
        POLICY.build_networks(SPEC, ACTION)
    with pytest.raises(DataError, match="no checkpoints"):
        pin_base(tmp_path / "nothing")
    other = EnvConfig(objects=("cube",))
    with pytest.raises(SpecError, match="observation_spec"):
        load_base(policy.base, other.observation_spec, ACTION)
    for name, inputs in (("goal", InputConfig()), ("history", InputConfig(goal=False, history=2))):
        run_dir = write_base(tmp_path / name, TASK, replace(BASE, inputs=inputs))
        with pytest.raises(ConfigError, match="no goal"):
            load_base(run_dir, SPEC, ACTION)
    for name, wrong in (("reach", 3.0), ("latent", 0), ("gripper_epsilon", 2.0)):
        with pytest.raises(ConfigError, match=name):
            replace(POLICY, **{name: wrong})
    for steps in (0, 11):
        with pytest.raises(ConfigError, match="prediction_steps"):
            KORRConfig(prediction_steps=steps)
    with pytest.raises(ConfigError, match="path"):
        Returns(2, path=3)
