"""H2O: weights where a simulator's gain is wrong, whose errors they weigh, exact resumption, the intervention loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data.memory import ExperienceMemory
from robot_rl import losses
from robot_rl.algorithms.h2o import H2O, H2OConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.batch import Batch, Path, Returns
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError
from robot_rl.intervention import HoldPolicy, Intervention
from robot_rl.loop import run_episode
from robot_rl.person import PersonConfig, ScriptedHuman, ScriptedPerson
from robot_rl.types import ActionSpec, ArraySpec, EpisodeEnd, EpisodeStart, ObservationSpec, Transition
from tests.kinematic_world import GoalExpert, KinematicWorld
from tests.learning import GRASP, PIXEL_SPEC, STATE_SPEC, make_batch, make_networks, make_observation
from tests.robot_rl import test_actor

ROWS, STEPS, SIMULATED = 32, 3, 16
LINE, PUSH = ObservationSpec({"state": ArraySpec((1,))}), ActionSpec(("x",), 0.02, 0.1)


def make(spec=STATE_SPEC, action=GRASP, seed=0, **changes) -> Any:
    small: dict[str, Any] = {"hidden": (32, 32), "discriminator_hidden": (32, 32), "n_step": STEPS, **changes}
    return H2O(H2OConfig(seed=seed, **small), make_networks(spec, action, seed))


def mixed(seed=0, spec=STATE_SPEC, action=GRASP, simulated=SIMULATED) -> Batch:
    """As the replay hands it out."""
    rng = np.random.default_rng(seed)
    ahead = make_observation(spec, rng, ROWS * STEPS)
    path = Path(
        {key: value.reshape(ROWS, STEPS, *value.shape[1:]) for key, value in ahead.items()},
        rng.uniform(-1, 1, (ROWS, STEPS, action.dim)).astype(np.float32),
        (np.arange(STEPS) < rng.integers(1, STEPS + 1, (ROWS, 1))).astype(np.float32),
    )
    return replace(make_batch(seed, spec, action, ROWS), path=path, simulated=simulated)


def point_mass(rng, rows: int, steps: int) -> Batch:
    """x' = x + 0.1 a in the real half; in the simulated half the gain is 0.03 where x > 0."""
    x = rng.uniform(-1.0, 1.0, rows).astype(np.float32)
    first, seen, actions = x, [], rng.uniform(-1.0, 1.0, (rows, steps, 1)).astype(np.float32)
    is_wrong = np.arange(rows) >= rows // 2
    for step in range(steps):
        x = x + np.where(is_wrong & (x > 0.0), 0.03, 0.1).astype(np.float32) * actions[:, step, 0]
        seen.append(x)
    path = Path({"state": np.stack(seen, 1)[..., None]}, actions, np.ones((rows, steps), np.float32))
    zeros, ones = np.zeros(rows, np.float32), np.ones(rows, np.float32)
    ends = {"state": first[:, None]}, actions[:, 0], zeros, {"state": x[:, None]}
    return Batch(*ends, ones, zeros, zeros, zeros, zeros, path=path, simulated=rows // 2)


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_are_low_where_the_simulators_gain_is_wrong_and_near_one_elsewhere(steps):
    """Beyond reach of the wrong region within these steps; a small push tells nothing, so it is not asked about."""
    torch.manual_seed(0)
    algorithm = make(LINE, PUSH, n_step=steps, learning_rate=2e-3, discriminator_hidden=(64, 64))
    rng = np.random.default_rng(0)
    for _ in range(500):
        data = algorithm._load(point_mass(rng, 256, steps))
        algorithm._discriminate(data, data.observation["state"], 128)
    batch = point_mass(rng, 4000, steps)
    data = algorithm._load(batch)
    weight = algorithm._simulated_weight(data, data.observation["state"], 2000).numpy()
    x, push = batch.observation["state"][2000:, 0], np.abs(batch.action[2000:, 0])
    assert weight[(x > 0.3) & (push > 0.5)].mean() < 0.15
    assert weight[x < -0.3].mean() > 0.8
    metrics = algorithm.update(point_mass(rng, 256, steps))
    assert float(metrics["accuracy_sas"]) > 0.6 > float(metrics["accuracy_sa"])


def test_one_batch_of_real_and_simulated_gives_the_loss_by_hand():
    """The discriminators first learn, then the squared errors of simulated rows are weighed by what they say."""
    algorithm: Any = make(target_rate=0.5, learning_rate=3e-3)
    batch = mixed()
    data = algorithm._load(batch)
    features = data.observation["state"]
    weight, metrics = [algorithm._weigh(data, features) for _ in range(20)][-1]
    expected = np.ones(ROWS)
    with torch.no_grad():
        for row in range(SIMULATED, ROWS):
            here, ratio = features[row : row + 1], 0.0
            for step in range(int(data.path.mask[row].sum())):
                following = data.path.observation["state"][row : row + 1, step]
                action, change = data.path.action[row : row + 1, step], following - here
                ratio += float(algorithm.judges.log_ratio(here, action, algorithm.discriminators.in_spreads(change)))
                here = following
            expected[row] = np.clip(np.exp(ratio), 1e-5, 1.0)
    assert expected.min() < 0.9 and len(set(expected)) > 5
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-4)
    assert float(metrics["weight"]) == pytest.approx(expected[SIMULATED:].mean(), rel=1e-4)
    q, target = torch.rand(2, ROWS), torch.rand(ROWS)
    by_hand = ((q - target).square() * torch.tensor(expected, dtype=torch.float32)).mean(1).sum()
    torch.testing.assert_close(algorithm._critic_loss(data, q, target, weight), by_hand, rtol=1e-4, atol=1e-5)


def test_at_first_all_weighs_one_and_the_loss_is_that_of_plain_mixing():
    algorithm = make()
    data = algorithm._load(mixed())
    algorithm.discriminators.measure(torch.randn(ROWS, 5))
    weight = algorithm._simulated_weight(data, data.observation["state"], SIMULATED)
    assert torch.equal(weight, torch.ones(ROWS - SIMULATED))


def test_without_simulated_rows_it_is_rlpd():
    mine: Any = make(penalty=0.01)
    plain = RLPD(RLPDConfig(hidden=(32, 32), n_step=STEPS), make_networks())
    for seed in range(4):
        batch = mixed(seed, simulated=0)
        mine.update(batch)
        plain.update(batch)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, mine.state_dict()[name]), name


def test_weights_reach_arm_and_gripper_alike():
    """With the lowest weight everywhere, simulated rows leave no trace in what the critics minimise."""
    algorithm = make(gripper_margin=0.0)
    algorithm._discriminate = lambda *_: {}
    algorithm._simulated_weight = lambda data, features, real: torch.zeros(data.simulated)
    batch = mixed()
    other = {key: value.copy() for key, value in batch.next_observation.items()}
    other["state"][SIMULATED:] += 3.0
    reward = batch.reward.copy()
    reward[SIMULATED:] = 1.0 - reward[SIMULATED:]
    changed = replace(batch, next_observation=other, reward=reward)
    found = []
    for one in (batch, changed):
        algorithm._generator.manual_seed(0)
        data = algorithm._load(one)
        loss = {}
        algorithm._value_adam.minimise = lambda value, kept=loss: kept.update(loss=value.detach())
        algorithm._update_values(data)
        found.append(loss["loss"])
    torch.testing.assert_close(*found)


def test_the_penalty_presses_values_with_a_gap_down_and_real_ones_up():
    algorithm = make(penalty=0.5)
    data = algorithm._load(mixed())
    q = torch.zeros(2, ROWS, requires_grad=True)
    weight = torch.ones(ROWS)
    weight[SIMULATED:] = torch.linspace(1.0, 1e-3, ROWS - SIMULATED)
    loss = algorithm._critic_loss(data, q, torch.zeros(ROWS), weight)
    (slope,) = torch.autograd.grad(loss, q)
    assert (slope[:, :SIMULATED] < 0.0).all() and slope[:, SIMULATED:].sum().item() == pytest.approx(0.5 * 2)
    assert (slope[0, SIMULATED:].diff() > 0.0).all()
    gap = (-weight[SIMULATED:].log()).clamp(1e-6, 10.0)
    plain = losses.ensemble_loss(q, torch.zeros(ROWS), weight=weight)
    by_hand = plain + 0.5 * losses.dynamics_gap_penalty(q[:, SIMULATED:], q[:, :SIMULATED], gap)
    assert loss.item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize("spec", [STATE_SPEC, PIXEL_SPEC])
def test_everything_learns_and_metrics_are_detached_scalars(spec):
    algorithm = make(spec, penalty=0.01)
    before = {name: tensor.clone() for name, tensor in algorithm.discriminators.named_parameters()}
    metrics = [algorithm.update(mixed(seed, spec)) for seed in range(3)][-1]
    assert {"weight", "accuracy_sa", "accuracy_sas", "discriminator_loss"} <= set(metrics)
    for value in metrics.values():
        assert value.shape == () and not value.requires_grad and value.isfinite()
    for name, tensor in algorithm.discriminators.named_parameters():
        assert not torch.equal(tensor, before[name]), name


def test_resuming_is_exact():
    straight, first, second = (make(seed=seed) for seed in (0, 0, 9))
    for seed in range(5):
        straight.update(mixed(seed))
    for seed in range(3):
        first.update(mixed(seed))
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for seed in range(3, 5):
        second.update(mixed(seed))
    assert any(name.startswith("discriminator_adam") for name in straight.state_dict())
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


class Simulated:
    """Episodes of the person in a world whose arm tracks worse."""

    def __init__(self, memory: ExperienceMemory) -> None:
        self.memory = memory
        env = RobotEnv(KinematicWorld(tracking=0.4), test_actor.CONFIG)
        person = ScriptedPerson(GoalExpert(), env.action_spec, PersonConfig(hand_speed=0.8), seed=1)
        control = Intervention(HoldPolicy(env.action_spec.dim), ScriptedHuman(person, env.snapshot), env.action_spec)
        for seed in range(4):
            run_episode(env, control, [self], phase="demo", seed=seed)

    def on_start(self, start: EpisodeStart) -> None:
        self.memory.add_simulated(start)

    def on_step(self, transition: Transition) -> None:
        self.memory.add_simulated(transition)

    def on_end(self, end: EpisodeEnd) -> None:
        self.memory.add_simulated(end)


def test_it_runs_through_the_actors_phases_beside_a_simulation(monkeypatch):
    """Demonstrations, interventions, learning, evaluation, as all others do; weighed from the first update on."""
    algorithms, seen = [], []

    def learn(networks):
        algorithms.append(H2O(H2OConfig(hidden=(32, 32), discriminator_hidden=(32, 32)), networks))
        return algorithms[-1]

    class Memory(ExperienceMemory):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, sim_fraction=0.5)
            Simulated(self)

        def sample(self, batch_size):
            batch = super().sample(batch_size)
            seen.append(batch.simulated)
            return batch

    monkeypatch.setattr(test_actor, "ExperienceMemory", Memory)
    monkeypatch.setitem(test_actor.LEARNERS, "h2o", (learn, test_actor.SMALL))
    test_actor.test_phases_run_in_order_and_the_ratio_holds("h2o")
    assert algorithms[0].returns == Returns(10, 0.97, path=10)
    assert set(seen) == {16} and float(algorithms[0].discriminators.seen) > 0.5


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("lowest_weight", 0.0), ("largest_log_ratio", 0.0), ("discriminator_noise", -1.0), ("penalty", -0.1)],
)
def test_what_makes_no_sense_is_refused_by_name(name, wrong):
    with pytest.raises(ConfigError, match=name):
        H2OConfig(**{name: wrong})
