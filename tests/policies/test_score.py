"""Score policies: the loss has its minimum where it should, guidance and prefixes do what they say, modes are kept."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.act import ACTConfig
from policies.chunk_net import Request
from policies.chunking import ExecutionConfig
from policies.denoisers import MLPConfig, Shape, TransformerConfig
from policies.gcbc import GCBCConfig
from policies.inputs import InputConfig
from policies.processes import DDPMProcess, EDMProcess, FlowProcess
from policies.samplers import make_sampler
from policies.score import ScoreConfig
from policies.sources import SampleInputs
from policies.torch_source import TorchSource
from robot_rl.algorithms.imitation import Imitation, ImitationConfig, TensorWindows
from robot_rl.batch import Windows
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

NAMES = ("side", "block_0.x", "block_0.y")
STATE = ObservationSpec({"state": ArraySpec((3,), names=NAMES)})
MIXED = ObservationSpec({**STATE.arrays, "image/front": ArraySpec((32, 32, 3), "uint8", 0, 255)})
IMAGES = ObservationSpec({"image/front": ArraySpec((32, 32, 3), "uint8", 0, 255)})
ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
SMALL = MLPConfig(width=64, blocks=2)
TINY = TransformerConfig(width=32, layers=2, heads=4, dropout=0.0)
PROCESSES = [EDMProcess(), FlowProcess(), DDPMProcess()]


def observe(spec, batch, history=None, seed=0):
    rng = np.random.default_rng(seed)
    lead = (batch,) if history is None else (batch, history)
    return {
        key: rng.integers(0, 255, (*lead, *one.shape), np.uint8)
        if one.dtype == "uint8"
        else rng.normal(size=(*lead, *one.shape)).astype(np.float32)
        for key, one in spec.arrays.items()
    }


def windows(spec=STATE, batch=8, history=1, horizon=4, action=None, goal=None, seed=0, start=None, text=None):
    rng = np.random.default_rng(seed)
    zeros = np.zeros(batch, np.float32)
    return Windows(
        observation=observe(spec, batch, history, seed),
        action=rng.normal(size=(batch, horizon, 2)).astype(np.float32) if action is None else action,
        mask=np.ones((batch, horizon), np.float32),
        goal=observe(spec, batch, None, seed + 1) if goal is None else goal,
        future=observe(spec, batch, horizon, seed + 2),
        start=start or {},
        text=np.full(batch, -1) if text is None else text,
        value_goal={},
        goal_steps=np.ones(batch, np.int64),
        reward=zeros,
        discount=zeros,
        next_observation=observe(spec, batch, None, seed),
        terminated=zeros,
        returns_to_go=zeros,
    )


def tensors(one):
    parts = ("observation", "goal", "future", "start")
    convert = {key: {k: torch.from_numpy(v) for k, v in getattr(one, key).items()} for key in parts}
    plain = ("action", "mask", "text", "outcome")
    return TensorWindows(**convert, **{key: torch.from_numpy(getattr(one, key)) for key in plain})


def build(config, spec=STATE, seed=0):
    torch.manual_seed(seed)
    return config.build(spec, ACTION)


def train(config, batch, updates=400, spec=STATE, rate=3e-3):
    """The averaged model after `updates` of `batch(number)`, normalized by the first."""
    model = build(config, spec)
    first = batch(0)
    state, action = first.observation["state"][:, 0], first.action.reshape(-1, 2)
    model.fit_normalizers({"state": (state.mean(0), state.std(0)), "action": (action.mean(0), action.std(0))})
    learn = ImitationConfig(updates=updates, learning_rate=rate, warmup_updates=20, ema_decay=0.98)
    algorithm = Imitation(learn, model)
    for number in range(updates):
        algorithm.update(batch(number))
    return algorithm.acting


EVERY = [
    ScoreConfig(horizon=4, network=SMALL),
    ScoreConfig(horizon=4, network=TINY, inputs=InputConfig(history=2)),
    ScoreConfig(horizon=4, network=TransformerConfig(width=32, layers=1, heads=4, causal=True)),
    ScoreConfig(horizon=4, network=SMALL, max_prefix=2),
    ScoreConfig(horizon=4, network=SMALL, process=FlowProcess(), sampler="euler"),
    ScoreConfig(horizon=4, network=SMALL, process=DDPMProcess(), sampler="ddim", steps=16, clip=1.0),
    GCBCConfig(),
    GCBCConfig(horizon=4, normalize=True, execution=ExecutionConfig(execute=4)),
    ACTConfig(horizon=4, width=32, heads=4, encoder_layers=1, execution=ExecutionConfig(execute=4)),
    ACTConfig(horizon=4, width=32, heads=4, encoder_layers=1, jepa_weight=1.0, execution=ExecutionConfig(execute=4)),
]


@pytest.mark.parametrize("spec", [STATE, MIXED, IMAGES], ids=["state", "mixed", "images"])
@pytest.mark.parametrize("config", EVERY, ids=lambda config: type(config).__name__)
def test_every_model_learns_from_and_acts_on_every_kind_of_observation(config, spec):
    batch = windows(spec, history=config.inputs.history, horizon=config.horizon)
    algorithm = Imitation(ImitationConfig(learning_rate=1e-3, warmup_updates=0), build(config, spec))
    losses = [float(algorithm.update(batch)["loss"]) for _ in range(3)]
    assert np.isfinite(losses).all()
    one = tensors(batch)
    noise = torch.randn(8, config.horizon, 2)
    chunk = algorithm.acting.sample(one.observation, one.goal, noise)
    assert chunk.shape == noise.shape and chunk.isfinite().all()
    assert algorithm.acting.sample(one.observation, None, noise).isfinite().all()


@pytest.mark.parametrize("config", EVERY, ids=lambda config: type(config).__name__)
def test_learning_goes_on_exactly_where_it_was_saved(config):
    batch = [windows(history=config.inputs.history, horizon=config.horizon, seed=i) for i in range(4)]
    whole, first, second = (Imitation(ImitationConfig(updates=4), build(config)) for _ in range(3))
    for one in batch:
        whole.update(one)
    for one in batch[:2]:
        first.update(one)
    second.load_state_dict(first.state_dict())
    for one in batch[2:]:
        second.update(one)
    assert second.updates == 4
    for name, value in whole.policy_state().items():
        torch.testing.assert_close(second.policy_state()[name], value, rtol=0.0, atol=0.0)
    with pytest.raises(DataError):
        second.load_state_dict({"generator": torch.zeros(1), "updates": torch.tensor(1)})


@pytest.mark.parametrize("process", PROCESSES)
def test_the_targets_are_those_of_the_papers(process):
    """x and n back from y and the target: EDM's eq. 8, flow's velocity n - x, DDPM's noise."""
    generator = torch.Generator().manual_seed(0)
    level = process.draw(1000, generator).double()
    clean, noise = torch.randn(2, 1000, generator=generator, dtype=torch.float64)
    one = process.coefficients(level)
    noisy = one.signal * clean + one.noise * noise
    target = (clean - one.c_skip * noisy) / one.c_out
    wanted = {EDMProcess: target, FlowProcess: noise - clean, DDPMProcess: noise}[type(process)]
    torch.testing.assert_close(target, wanted, rtol=1e-4, atol=1e-4)
    if isinstance(process, EDMProcess):  # unit variance of input and target for data of the assumed spread
        data = clean * process.data_std
        noisy = data + one.noise * noise
        assert (one.c_in * noisy).var().item() == pytest.approx(1.0, abs=0.1)
        assert ((data - one.c_skip * noisy) / one.c_out).var().item() == pytest.approx(1.0, abs=0.1)


def test_training_levels_are_the_truncated_log_logistic_distribution():
    process = EDMProcess(sigma_min=0.005, sigma_max=1.0, scale=0.5)
    levels = process.draw(200_000, torch.Generator().manual_seed(0)).double()
    assert levels.min() >= process.sigma_min and levels.max() <= process.sigma_max

    def below(sigma):
        return 1.0 / (1.0 + (sigma / 0.5) ** (-1.0 / 0.5))

    low, high = below(process.sigma_min), below(process.sigma_max)
    for sigma in (0.1, 0.3, 0.5, 0.8):
        wanted = (below(sigma) - low) / (high - low)
        assert (levels < sigma).double().mean().item() == pytest.approx(wanted, abs=0.01)


def left_or_right(number, share=0.7, batch=256):
    """One state; the whole chunk goes left with probability `share`, else right."""
    rng = np.random.default_rng(number)
    side = np.where(rng.random(batch) < share, -0.8, 0.8).astype(np.float32)
    action = np.repeat(side[:, None, None], 4, 1) * np.array([1.0, 0.5], np.float32)
    zeros = {"state": np.zeros((batch, 1, 3), np.float32)}
    one = windows(batch=batch, action=action, goal={"state": np.zeros((batch, 3), np.float32)})
    return Windows(**{**{name: getattr(one, name) for name in one.__dataclass_fields__}, "observation": zeros})


@pytest.mark.parametrize(
    "config",
    [
        ScoreConfig(horizon=4, network=SMALL),
        ScoreConfig(horizon=4, network=SMALL, process=FlowProcess(), sampler="euler", steps=10),
    ],
    ids=["edm", "flow"],
)
def test_both_ways_round_an_obstacle_are_kept_in_the_ratio_of_the_data(config):
    model = train(config, left_or_right)
    one = tensors(left_or_right(0, batch=1000))
    chunk = model.sample(one.observation, one.goal, torch.randn(1000, 4, 2, generator=torch.Generator().manual_seed(1)))
    left = chunk[:, :, 0] < 0
    whole = left.all(1) | (~left).all(1)
    assert whole.float().mean() > 0.95, "a chunk changes sides"
    assert (chunk[:, :, 0].abs() > 0.4).float().mean() > 0.9, "a chunk runs into the obstacle"
    assert left[:, 0].float().mean().item() == pytest.approx(0.7, abs=0.1)


def test_a_gaussian_policy_averages_the_two_ways_and_fails():
    model = train(GCBCConfig(horizon=4, hidden=(64,), execution=ExecutionConfig(execute=4)), left_or_right)
    one = tensors(left_or_right(0, batch=4))
    chunk = model.sample(one.observation, one.goal, torch.zeros(4, 4, 2))
    torch.testing.assert_close(chunk[..., 0], torch.full((4, 4), 0.8 * (0.3 - 0.7)), atol=0.1, rtol=0.0)


def to_the_goal(number, batch=256):
    """The action is the sign of the goal's block_0.x, whatever the state."""
    rng = np.random.default_rng(number)
    goal = rng.choice([-1.0, 1.0], (batch, 3)).astype(np.float32)
    action = np.repeat(np.sign(goal[:, None, 1:2]), 2, 2).repeat(4, 1).astype(np.float32) * 0.6
    return windows(batch=batch, action=action, goal={"state": goal}, seed=number)


@pytest.fixture(scope="module")
def goal_model():
    return train(ScoreConfig(horizon=4, network=SMALL, goal_dropout=0.2, max_prefix=2), to_the_goal, 600)


def sample(model, goal_x, guidance=1.0, count=500, **options):
    """Means and spreads of the first action's x for a goal with that x (None: without a goal)."""
    model.use_sampler(make_sampler("ddim", model.config.process, 5), guidance)
    observation = {"state": torch.randn(count, 1, 3, generator=torch.Generator().manual_seed(2))}
    goal = None if goal_x is None else {"state": torch.tensor([1.0, goal_x, -1.0]).expand(count, 3)}
    noise = torch.randn(count, 4, 2, generator=torch.Generator().manual_seed(3))
    return model.sample(observation, goal, noise, **options)


def test_the_goal_decides_and_without_one_both_are_sampled(goal_model):
    assert (sample(goal_model, 1.0)[..., 0] > 0).float().mean() > 0.97
    assert (sample(goal_model, -1.0)[..., 0] < 0).float().mean() > 0.97
    free = (sample(goal_model, None)[:, 0, 0] > 0).float().mean().item()
    assert 0.3 < free < 0.7
    torch.testing.assert_close(sample(goal_model, 1.0, guidance=0.0), sample(goal_model, None))


def test_guidance_is_the_linear_combination_of_both_estimates(goal_model):
    observation = {"state": torch.zeros(6, 1, 3)}
    goal = {"state": torch.ones(6, 3)}
    noisy, c_noise = torch.randn(6, 4, 2), torch.tensor(-0.3)
    nothing = torch.zeros(6, 4, 2), torch.zeros(6, 4)
    told = goal_model.estimate(noisy, c_noise, goal_model.inputs(observation, goal), *nothing)
    free = goal_model.estimate(noisy, c_noise, goal_model.inputs(observation, goal, torch.zeros(6)), *nothing)
    goal_model.use_sampler(goal_model.sampler, 2.0)
    request = Request(observation, goal, torch.ones(6), noisy, noisy[None, :0], *nothing)
    guided = goal_model.estimate(noisy, c_noise, goal_model.contexts(request), *nothing)
    torch.testing.assert_close(guided, free + 2.0 * (told - free))


@pytest.mark.parametrize("network", [SMALL, TransformerConfig(width=24, layers=2, heads=2)], ids=["mlp", "transformer"])
@pytest.mark.parametrize("contexts", [1, 6])
def test_networks_of_known_levels_are_the_network(network, contexts):
    torch.manual_seed(0)
    denoiser = network.build(Shape(tokens=2, features=5, horizon=4, inputs=2, actions=2)).eval()
    noisy, context, levels = torch.randn(6, 4, 2), torch.randn(contexts, 2, 5), torch.tensor([0.5, -0.2, 0.1])
    whole = context.expand(6, -1, -1)
    for level, one in zip(levels, denoiser.at_levels(levels, context), strict=True):
        torch.testing.assert_close(one(noisy), denoiser(noisy, level, whole), rtol=1e-5, atol=1e-6)


def test_a_residual_block_is_the_modules_that_it_names():
    torch.manual_seed(0)
    (block,) = MLPConfig(width=8, blocks=1, dropout=0.5).build(Shape(1, 3, 2, 2, 2)).trunk
    values = torch.randn(7, 8)
    for training in (True, False):
        block.train(training)
        torch.manual_seed(1)
        found = block(values)
        torch.manual_seed(1)
        torch.testing.assert_close(found, values + block.net(values), rtol=1e-6, atol=1e-6)


def test_the_layout_for_acting_keeps_values_and_parameters_that_come_later():
    model = build(ScoreConfig(inputs=InputConfig(goal=False), horizon=4, network=SMALL))
    other = build(ScoreConfig(inputs=InputConfig(goal=False), horizon=4, network=SMALL), seed=1)
    seen, noise = {"state": torch.zeros(1, 1, 3)}, torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0))
    wanted = other.sample(seen, None, noise)
    source = TorchSource(model)
    source.load(other.state_dict())
    weight = model.denoiser.noisy.weight
    assert weight.stride() == (1, len(weight)) and torch.equal(weight, other.denoiser.noisy.weight)
    found = source.sample_many({"state": np.zeros((1, 3), np.float32)}, None, noise.numpy(), 0, None)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_one_seed_draws_the_same_on_the_way_however_chunks_are_asked_for():
    """The noise of `policies.bundle`, whose chunks are the same."""
    source = TorchSource(build(ScoreConfig(inputs=InputConfig(goal=False), horizon=4, network=SMALL, sampler="ddpm")))
    rng = np.random.default_rng(0)
    seen, noise = {"state": np.zeros((1, 3), np.float32)}, rng.standard_normal((2, 4, 2), np.float32)
    wanted = [source.sample(seen, None, one, 5 + i, None) for i, one in enumerate(noise)]
    inputs = [SampleInputs(seen, None, one, 5 + i) for i, one in enumerate(noise)]
    np.testing.assert_allclose(source.sample_many(seen, None, noise, 5, None), wanted, atol=1e-5)
    np.testing.assert_allclose(source.sample_each(inputs), wanted, atol=1e-5)
    assert np.abs(source.sample(seen, None, noise[0], 6, None) - wanted[0]).max() > 1e-3


def test_a_prefix_stays_as_given_and_the_rest_goes_with_it(goal_model):
    """Against its goal, a chunk begun to the right is a chunk to the right: the two are never mixed in the data."""
    prefix = torch.full((500, 2, 2), 0.6)
    chunk = sample(goal_model, None, prefix=prefix)
    torch.testing.assert_close(chunk[:, :2], prefix)
    assert (chunk[:, 2:, 0] > 0).float().mean() > 0.95


@pytest.mark.parametrize("sampler", ["dpm_solver_2", "euler_ancestral"])
def test_temperature_scales_all_noise_that_sampling_takes(sampler):
    cold, plain = (ScoreConfig(horizon=4, network=SMALL, sampler=sampler, temperature=one) for one in (0.5, 1.0))
    model, colder = build(plain), build(cold)
    seen, noise = {"state": torch.zeros(6, 1, 3)}, torch.randn(6, 4, 2)
    fresh = torch.randn(model.draws, 6, 4, 2)
    given = model.sample(seen, None, 0.5 * noise, fresh=0.5 * fresh)
    torch.testing.assert_close(colder.sample(seen, None, noise, fresh=fresh), given)
    spread = [one.sample(seen, None, noise, fresh=fresh).std(0).mean() for one in (model, colder)]
    assert spread[1] < 0.9 * spread[0]
    colder = build(replace(cold, temperature=0.0))
    chunks = colder.sample(seen, None, noise, fresh=fresh)
    torch.testing.assert_close(chunks, chunks[:1].expand_as(chunks))


def test_diffusers_own_schedulers_can_be_chosen():
    one = tensors(windows())
    noise = torch.randn(8, 4, 2, generator=torch.Generator().manual_seed(0))
    models = [build(ScoreConfig(horizon=4, network=SMALL, tables=tables)) for tables in (True, False)]
    chunks = [model.sample(one.observation, one.goal, noise, prefix=torch.zeros(8, 1, 2)) for model in models]
    torch.testing.assert_close(*chunks, rtol=1e-4, atol=1e-4)


def test_a_prefix_steers_a_network_that_was_not_trained_with_any():
    model = train(ScoreConfig(horizon=4, network=SMALL), left_or_right)
    one = tensors(left_or_right(0, batch=400))
    prefix = torch.tensor([0.8, 0.4]).expand(400, 3, 2)
    model.use_sampler(make_sampler("ddim", model.config.process, 10))
    chunk = model.sample(one.observation, one.goal, torch.randn(400, 4, 2), prefix=prefix)
    torch.testing.assert_close(chunk[:, :3], prefix)
    assert (chunk[:, 3, 0] > 0).float().mean() > 0.8  # of 0.3 without the prefix


def test_goals_speak_of_the_chosen_elements_alone():
    config = ScoreConfig(horizon=4, network=SMALL, inputs=InputConfig(goal_elements=("block_*",)))
    model = build(config)
    one = {"state": torch.tensor([[1.0, 2.0, 3.0]])}
    other = {"state": torch.tensor([[9.0, 2.0, 3.0]])}
    different = {"state": torch.tensor([[1.0, 2.0, 4.0]])}
    observation = {"state": torch.zeros(1, 1, 3)}
    tokens = [model.inputs(observation, goal) for goal in (one, other, different)]
    assert torch.equal(tokens[0], tokens[1]) and not torch.equal(tokens[0], tokens[2])
    with pytest.raises(ConfigError, match="block_1"):
        build(ScoreConfig(inputs=InputConfig(goal_elements=("block_1*",))))
    with pytest.raises(ConfigError, match="say nothing"):
        build(ScoreConfig(inputs=InputConfig(goal_elements=())))


def test_a_goal_is_dropped_whole():
    model = build(ScoreConfig(horizon=4, network=SMALL))
    observation, goal = {"state": torch.zeros(2, 1, 3)}, {"state": torch.tensor([[1.0, 0.0, -0.1]] * 2)}
    tokens = model.inputs(observation, goal, torch.tensor([1.0, 0.0]))
    seen, told, apart = tokens[0]
    assert seen.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert told.tolist() == pytest.approx([1.0, 0.0, -0.1, 1.0])
    assert apart.tolist() == pytest.approx([np.arcsinh(10.0), 0.0, -np.arcsinh(1.0), 0.0])
    assert not tokens[1].any()


def test_the_difference_to_the_goal_can_be_left_out():
    inputs = InputConfig(goal_difference=False)
    model = build(ScoreConfig(horizon=4, network=SMALL, inputs=inputs))
    one = tensors(windows())
    assert model.inputs(one.observation, one.goal).shape == (8, 2, 4)
    assert build(ScoreConfig(horizon=4, network=SMALL)).inputs(one.observation, one.goal).shape == (8, 3, 4)


def test_padded_actions_do_not_count():
    model = build(ScoreConfig(horizon=4, network=SMALL))
    one = tensors(windows())
    one.mask[:, 2:] = 0.0
    changed = one.action.clone()
    changed[:, 2:] += 100.0
    model.denoiser.forward = lambda *_: torch.zeros(8, 4, 2)
    losses = []
    for action in (one.action, changed):
        batch = replace(one, action=action)
        losses.append(float(model.loss(batch, torch.Generator().manual_seed(0))[0]))
    assert losses[0] == pytest.approx(losses[1])


def test_normalizers_travel_with_the_weights():
    config = ScoreConfig(horizon=4, network=SMALL)
    model, other = build(config), build(config, seed=1)
    mean, std = np.array([1.0, -2.0, 3.0]), np.array([0.5, 2.0, 0.0])
    model.fit_normalizers({"state": (mean, std), "action": (mean[:2], std[:2])})
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.inputs.normalizer(torch.tensor([1.5, 0.0, 4.0])), torch.tensor([1.0, 1.0, 1.0]))
    action = torch.tensor([[1.5, -6.0]])
    torch.testing.assert_close(other.actions(action), torch.tensor([[0.5, -1.0]]))
    torch.testing.assert_close(other.actions.inverse(other.actions(action)), action)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ScoreConfig(sampler="dimm"),
        lambda: ScoreConfig(steps=0),
        lambda: ScoreConfig(goal_dropout=1.5),
        lambda: ScoreConfig(goal_dropout=0.0, guidance=2.0),
        lambda: ScoreConfig(goal_dropout=1.0),
        lambda: ScoreConfig(goal_dropout=1.0, guidance=1.5),
        lambda: ScoreConfig(max_prefix=16),
        lambda: ScoreConfig(goal_dropout=0.0, guidance=0.0),
        lambda: ScoreConfig(guidance=math.nan),
        lambda: ScoreConfig(clip=-1.0),
        lambda: ScoreConfig(temperature=-0.5),
        lambda: ScoreConfig(temperature=math.inf),
        lambda: ScoreConfig(temperature=0.5, tables=False),
        lambda: TransformerConfig(width=100, heads=12),
        lambda: TransformerConfig(heads=0),
        lambda: TransformerConfig(dropout=1.5),
        lambda: MLPConfig(width=0),
        lambda: MLPConfig(blocks=-1),
        lambda: MLPConfig(dropout=2.0),
        lambda: FlowProcess(data_std=0.0),
        lambda: ACTConfig(heads=0),
        lambda: ACTConfig(decoder_layers=0),
        lambda: ACTConfig(dropout=2.0),
        lambda: InputConfig(image_channels=()),
        lambda: EDMProcess(sigma_min=20.0),
        lambda: EDMProcess(schedule="cosine"),
        lambda: GCBCConfig(hidden=()),
        lambda: ACTConfig(heads=7),
        lambda: ImitationConfig(ema_decay=1.0),
        lambda: InputConfig(history=0),
    ],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()


@pytest.mark.parametrize("shape", [(5, 2), (2, 3)])
def test_a_prefix_that_does_not_fit_is_refused(shape):
    source = TorchSource(build(ScoreConfig(horizon=4, network=SMALL)))
    seen, noise = {"state": np.zeros((1, 3), np.float32)}, np.zeros((4, 2), np.float32)
    with pytest.raises(SpecError, match=r"expected at most \(4, 2\)"):
        source.sample(seen, None, noise, 0, np.zeros(shape, np.float32))


def test_a_network_as_a_source_takes_only_what_fits():
    config = ScoreConfig(horizon=4, network=SMALL)
    source = TorchSource(build(config))
    tensors = build(config, seed=1).state_dict()
    source.load(tensors)
    chunk = source.sample({"state": np.ones((1, 3), np.float32)}, {"state": np.ones(3, np.float32)},
                          np.ones((4, 2), np.float32), 0, np.zeros((1, 2), np.float32))  # fmt: skip
    assert chunk.shape == (4, 2) and (chunk[0] == 0.0).all()
    name = next(iter(tensors))
    for wrong in ({}, {**tensors, name: torch.zeros(7)}, {**tensors, name: torch.full_like(tensors[name], torch.nan)}):
        with pytest.raises(SpecError):
            source.load(wrong)
    again = source.sample({"state": np.ones((1, 3), np.float32)}, {"state": np.ones(3, np.float32)},
                          np.ones((4, 2), np.float32), 0, np.zeros((1, 2), np.float32))  # fmt: skip
    np.testing.assert_array_equal(chunk, again)


def test_offsets_from_the_hand_are_enlarged_where_they_are_small():
    names = ("tcp.x", "tcp.y", "tcp.z", "angle", "cup.x", "cup.y", "cup.z", "door.x")
    spec = ObservationSpec({"state": ArraySpec((8,), names=names)})
    config = GCBCConfig(horizon=4, normalize=True, inputs=InputConfig(goal=False, offsets_from="tcp"))
    model = build(config, spec)
    spread = np.array([1, 1, 1, 1, 2, 4, 0.5, 1.0])
    model.fit_normalizers({"state": (np.ones(8), spread), "action": (np.zeros(2), np.ones(2))})
    state = torch.tensor([[[9.0] * 8, [0.1, 0.2, 0.3, 7, 0.3, -0.2, 0.3, 5]]])
    tokens = model.inputs({"state": state[:, 1:]}, {})
    assert tokens.shape == (1, 2, 9)
    wanted = np.arcsinh(10 * np.array([0.2 / 2, -0.4 / 4, 0.0]))
    np.testing.assert_allclose(tokens[0, 1], [*wanted, *np.zeros(6)], atol=1e-6)
    with pytest.raises(ConfigError, match="cup, tcp"):
        build(GCBCConfig(inputs=InputConfig(offsets_from="hand")), spec)
    alone = ObservationSpec({"state": ArraySpec((4,), names=names[:4])})
    with pytest.raises(ConfigError, match="nothing but tcp"):
        build(GCBCConfig(inputs=InputConfig(offsets_from="tcp")), alone)


def test_offsets_of_what_the_goal_moves_stand_out():
    names = ("tcp.x", "tcp.y", "tcp.z", *(f"{thing}.{axis}" for thing in ("cup", "ball") for axis in "xyz"))
    spec = ObservationSpec({"state": ArraySpec((9,), names=names)})
    inputs = InputConfig(goal_elements=("cup.*", "ball.[xy]"), offsets_from="tcp", goal_offsets=True)
    model = build(GCBCConfig(horizon=4, normalize=True, inputs=inputs), spec)
    spread = np.array([1, 1, 1, 2, 4, 1, 1, 1, 1.0])
    model.fit_normalizers({"state": (np.zeros(9), spread), "action": (np.zeros(2), np.ones(2))})
    state = torch.tensor([[0.0, 0, 0, 0.4, -0.4, 1, 1, 2, 3]])
    # the cup moves by 0.2 std in x and in z; the ball's z is not told
    goal = state + torch.tensor([[5.0, 5, 5, 0.4, 0, 0.2, 0, 0, 7]])
    tokens = model.inputs({"state": state[None]}, {"state": goal})
    assert tokens.shape == (1, model.inputs.tokens, 10) and model.inputs.tokens == 5
    share = (0.2**2 + 0.2**2) / (0.2**2 + 0.2**2 + 0.2**2)
    cup = share * np.arcsinh(10 * np.array([0.2, -0.1, 1.0]))
    np.testing.assert_allclose(tokens[0, 4], [*cup, *np.zeros(7)], atol=1e-6)
    assert not model.inputs({"state": state[None]}, {"state": goal}, torch.zeros(1))[0, 2:].any()
    for wrong in (
        {"goal": False},
        {"offsets_from": ""},
        {"goal_offsets": False, "goal_one_by_one": ("cup",), "goal": False},
    ):
        with pytest.raises(ConfigError, match="goal_offsets"):
            replace(inputs, **wrong)


NAMES = (*(f"{thing}.{axis}" for thing in ("tcp", "cup", "ball") for axis in "xyz"), "lid")
THINGS = ObservationSpec({"state": ArraySpec((10,), names=NAMES)})


def things(order=("[cb]*", "lid"), **inputs):
    config = InputConfig(offsets_from="tcp", goal_one_by_one=order, **inputs)
    model = build(GCBCConfig(horizon=4, normalize=True, inputs=config), THINGS)
    model.fit_normalizers({"state": (np.zeros(10), np.full(10, 0.3)), "action": (np.zeros(2), np.ones(2))})
    return model


@pytest.mark.parametrize(
    ("cup", "ball", "lid", "shown"),
    [
        ((0.1, 0, 0), (0.0, 0, 0), 0.2, ["cup"]),  # the ball is there; the lid comes after them
        ((0.1, 0, 0), (0.9, 0, 0), 0.2, ["cup"]),  # both are away; the cup is nearer to the hand
        ((0.1, 0, 0.5), (0.9, 0, 0), 0.2, ["ball"]),  # but its place is high
        ((0.01, 0, 0), (0.02, 0, 0), 0.2, ["lid"]),  # both are as good as there
        ((0.01, 0, 0), (0.02, 0, 0), 0.01, ["cup", "ball", "lid"]),  # all are: the rest of the way
    ],
)
def test_one_thing_is_moved_after_the_other(cup, ball, lid, shown):
    model = things()
    state = torch.tensor([[0.0, 0, 0, 0.1, 0, 0, -0.4, 0, 0, 0.7]])
    goal = state + torch.tensor([[0.0, 0, 0, *cup, *ball, lid]])
    token = model.inputs({"state": state[None]}, {"state": goal})[0, model.inputs.seen]
    wanted = goal.clone()
    for thing, elements in (("cup", slice(3, 6)), ("ball", slice(6, 9)), ("lid", slice(9, 10))):
        if thing not in shown:
            wanted[0, elements] = state[0, elements]
    np.testing.assert_allclose(token[:10] * 0.3, wanted[0], atol=1e-6)


def test_a_thing_close_enough_is_there():
    state = torch.tensor([[0.0, 0, 0, 0.1, 0, 0, -0.4, 0, 0, 0.7]])
    goal = state + torch.tensor([[0.0, 0, 0, 0.1, 0, 0, 0, 0, 0, 0.2]])  # the cup 1/3 of a standard deviation off

    def told(model):
        return 0.3 * model.inputs({"state": state[None]}, {"state": goal})[0, model.inputs.seen, :10] - state[0]

    cup, lid = told(things()), told(things(goal_reached=0.4))
    np.testing.assert_allclose([cup[3], cup[9], lid[3], lid[9]], [0.1, 0, 0, 0.2], atol=1e-6)
    with pytest.raises(ConfigError, match="goal_reached positive"):
        InputConfig(goal_reached=0.0)


def test_in_training_any_thing_that_moved_is_the_goal():
    model = things(goal_elements=("[cb]*", "lid"))
    one = tensors(windows(THINGS, batch=3000))
    moved = torch.tensor([0.0, 5, 0, 0.2, 0, 0, 0.01, 0, 0, 0.9])  # the arm and the cup, not the ball, the lid
    present = one.observation["state"][:, -1]
    one = replace(one, goal={"state": present + moved})
    left = model.inputs.train_goals(one, torch.Generator().manual_seed(0)).goal["state"] - present
    cup, lid = (torch.isclose(left[:, element], moved[element], atol=1e-4) for element in (3, 9))
    assert torch.equal(cup, ~lid) and 0.45 < cup.float().mean() < 0.55
    np.testing.assert_allclose(left[:, 6:9], 0.0, atol=1e-6, err_msg="what is not told is where it is")
    with pytest.raises(ConfigError, match="'cap' fits none of the goal's things cup, ball, lid"):
        things(("cap",), goal_elements=("[cb]*", "lid"))


def test_goals_are_blurred_in_training_alone():
    model = build(ScoreConfig(horizon=4, network=SMALL, inputs=InputConfig(goal_noise=0.1)))
    model.fit_normalizers({"state": (np.zeros(3), np.array([1, 10, 0.1])), "action": (np.zeros(2), np.ones(2))})
    one = tensors(windows(batch=4000))
    apart = model.inputs.train_goals(one, torch.Generator().manual_seed(0)).goal["state"] - one.goal["state"]
    np.testing.assert_allclose(apart.std(0), [0.1, 1.0, 0.01], rtol=0.05)
    assert model.eval().inputs.train_goals(one, torch.Generator()) is one
