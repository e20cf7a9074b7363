"""Composition: exact where the scores are known, the parents at the ends, one thing in every process's coordinates."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.composed import ComposedConfig, ParentConfig
from policies.denoisers import Denoiser, MLPConfig, TransformerConfig
from policies.inputs import InputConfig
from policies.processes import DDPMProcess, EDMProcess, FlowProcess
from policies.score import ScoreConfig
from policies.torch_source import TorchSource
from policies.words import WordsConfig
from robot_rl.errors import ConfigError, SpecError, UnknownNameError
from robot_rl.typed import to_dataclass, to_plain
from robot_rl.types import ActionSpec, ArraySpec, Goal, ObservationSpec
from tests.policies.test_score import left_or_right, observe, tensors, train

NAMES = ("a", "b", "c")
STATE = ObservationSpec({"state": ArraySpec((3,), names=NAMES)})
MIXED = ObservationSpec({**STATE.arrays, "image/front": ArraySpec((32, 32, 3), "uint8", 0, 255)})
ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
SMALL = MLPConfig(width=32, blocks=1)
EDM, FLOW, DDPM = EDMProcess(), FlowProcess(), DDPMProcess()
PLAY = ExecutionConfig(execute=2)


def score(process=EDM, sampler="ddim", steps=3, **options):
    defaults = {"horizon": 4, "network": SMALL, "goal_dropout": 0.1, "execution": PLAY}
    return ScoreConfig(process=process, sampler=sampler, steps=steps, **{**defaults, **options})


def compose(*policies, weights=None, sees=None, lead=None):
    lead = lead or policies[0]
    sees = sees or [{"state": NAMES}] * len(policies)
    parents = tuple(ParentConfig(f"run{i}", one, sees[i]) for i, one in enumerate(policies))
    weights = weights or (1.0 / len(policies),) * len(policies)
    return ComposedConfig(parents, weights, lead.process, lead.sampler, lead.steps, lead.execution)


def build(config, spec=STATE, statistics=None):
    """The composition, each parent with weights of its own and statistics (mean, std) of actions."""
    torch.manual_seed(0)
    model = config.build(spec, ACTION).eval()
    for number, parent in enumerate(model.parents):
        dim = parent.spec.state_dim
        mean, std = (statistics or [(0.3 * i - 0.2, 0.4 + 0.3 * i) for i in range(9)])[number]
        action = (np.full(2, mean), np.array([1.0, 1.0]) * std)
        parent.net.fit_normalizers({"state": (np.full(dim, 0.1), np.full(dim, 1.0 + number)), "action": action})
    return model


def seen(spec, batch=5, history=1):
    """Observations, a goal and noise."""
    noise = torch.randn(batch, 4, 2, generator=torch.Generator().manual_seed(1))
    parts = [{k: torch.from_numpy(v) for k, v in observe(spec, batch, h, h or 9).items()} for h in (history, None)]
    return (*parts, noise)


@dataclass(frozen=True)
class Known(Denoiser):
    """A network whose estimates of the clean chunk are known: `clean(noisy, signal, noise)`, in scaled units."""

    process: object
    clean: object

    def __post_init__(self):
        super().__init__()

    __hash__ = nn.Module.__hash__

    def forward(self, noisy, c_noise, context):
        level = (4.0 * c_noise).exp() if isinstance(self.process, EDMProcess) else c_noise
        one = self.process.coefficients(level)
        whole = noisy / one.c_in
        return (self.clean(whole, one.signal, one.noise) - one.c_skip * whole) / one.c_out


def gaussian(mean, std):
    """The estimate for data N(mean, std) in each element: the posterior mean."""
    return lambda noisy, signal, noise: (
        (mean * noise**2 + std**2 * signal * noisy) / (signal**2 * std**2 + noise**2)
    )  # fmt: skip


def mixture(*centres, std=0.05):
    """The estimate for data at the `centres` (each (2,)), alike probable, each with a spread of `std`."""

    def clean(noisy, signal, noise):
        points = torch.tensor(centres)
        variance = signal**2 * std**2 + noise**2
        apart = (noisy.unsqueeze(-2) - signal * points).square().sum(-1)
        share = (-apart / (2.0 * variance)).softmax(-1)
        each = points + signal * std**2 / variance * (noisy.unsqueeze(-2) - signal * points)
        return (share.unsqueeze(-1) * each).sum(-2)

    return clean


def know(model, *cleans):
    for parent, clean in zip(model.parents, cleans, strict=True):
        parent.net.denoiser = Known(parent.net.config.process, clean)
    return model


PAIRS = {
    "edm": (score(), score(network=TransformerConfig(width=16, layers=1, heads=2, dropout=0.0))),
    "dpm_solver_2": (score(sampler="dpm_solver_2", steps=4, max_prefix=2), score(sampler="dpm_solver_2", steps=4)),
    "heun": (score(sampler="heun", guidance=2.0), score(sampler="heun", inputs=InputConfig(goal=False))),
    "flow": (score(FLOW, "euler", 5), score(FLOW, "euler", 5, inputs=InputConfig(history=3))),
    "ddpm": (score(DDPM, "ddpm", 20, clip=1.0), score(DDPM, "ddpm", 20, clip=1.0, inputs=InputConfig(history=2))),
}


@pytest.mark.parametrize("prefix", [None, torch.full((5, 1, 2), 0.3)], ids=["whole", "prefix"])
@pytest.mark.parametrize("goal", [True, False], ids=["goal", "free"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_all_of_the_weight_makes_a_parent(pair, goal, prefix):
    observation, told, noise = seen(STATE, history=max(one.inputs.history for one in pair))
    for number in (0, 1):
        model = build(compose(*pair, weights=(1.0 - number, float(number))))
        net = model.parents[number].net
        own = {key: value[:, -net.history :] for key, value in observation.items()}
        draw = [torch.Generator().manual_seed(3) for _ in range(2)]
        wanted = net.sample(own, told if goal else None, noise, draw[0], prefix)
        chunk = model.sample(observation, told if goal else None, noise, draw[1], prefix)
        torch.testing.assert_close(chunk, wanted, rtol=1e-5, atol=1e-5)
        both = build(compose(*pair)).sample(observation, told if goal else None, noise, draw[0], prefix)
        assert (both - wanted).abs().max() > 0.01
        if prefix is not None:
            torch.testing.assert_close(both[:, :1], prefix)


def test_one_step_of_two_gaussians_by_hand():
    """One evaluation at sigma 8 from n sqrt(8^2 + 0.5^2); D_i = (64 m_i + s_i^2 y) / (64 + s_i^2)."""
    model = build(compose(score(steps=1), score(steps=1), weights=(0.3, 0.7)), statistics=[(0.0, 0.5)] * 2)
    know(model, gaussian(0.4, 0.2), gaussian(-1.0, 0.6))
    observation, goal, noise = seen(STATE)
    y = noise * (64.0 + 0.25) ** 0.5
    wanted = 0.3 * (64.0 * 0.4 + 0.04 * y) / 64.04 + 0.7 * (64.0 * -1.0 + 0.36 * y) / 64.36
    torch.testing.assert_close(model.sample(observation, goal, noise), wanted)


@pytest.mark.parametrize("process", [EDM, FLOW, DDPM], ids=lambda one: type(one).__name__)
def test_estimates_noises_scores_and_velocities_combine_alike(process):
    """GPC's combined noise at each level, walked by DDIM as GPC does, is the combination of estimates made here."""
    first, second = gaussian(0.4, 0.2), gaussian(-1.0, 0.6)
    steps = 5
    model = build(compose(score(process, steps=steps), score(process, steps=steps), weights=(0.3, 0.7)))
    for parent in model.parents:
        parent.net.actions.fit(np.zeros(2), np.full(2, process.data_std))
    know(model, first, second)
    observation, goal, noise = seen(STATE)
    levels = process.levels(steps)
    path = process.coefficients(levels)
    y = noise.double() * ((path.signal[0] * process.data_std) ** 2 + path.noise[0] ** 2).sqrt()
    for i in range(steps):
        here, sigma, there, to = path.signal[i], path.noise[i], path.signal[i + 1], path.noise[i + 1]
        epsilons = [(y - here * clean(y, here, sigma)) / sigma for clean in (first, second)]
        epsilon = 0.3 * epsilons[0] + 0.7 * epsilons[1]
        if here == 0.0:  # flow matching's beginning: the noise says nothing there, the velocity does
            velocity = sum(w * (y - clean(y, here, sigma)) / sigma for w, clean in ((0.3, first), (0.7, second)))
            y = y + (to - sigma) * velocity
        else:
            y = there * (y - sigma * epsilon) / here + to * epsilon
    torch.testing.assert_close(model.sample(observation, goal, noise), y.float(), rtol=1e-4, atol=1e-4)


def test_the_score_of_the_combination_is_that_of_the_product():
    """w log N(m1, s1^2 + sigma^2) + (1 - w) log N(m2, s2^2 + sigma^2), differentiated by autograd."""
    weights, sigma, centres, spreads = (0.25, 0.75), 0.7, (0.4, -1.0), (0.2, 0.6)
    y = torch.linspace(-2.0, 2.0, 9, requires_grad=True)
    density = sum(
        w * torch.distributions.Normal(m, (s**2 + sigma**2) ** 0.5).log_prob(y)
        for w, m, s in zip(weights, centres, spreads, strict=True)
    )
    (wanted,) = torch.autograd.grad(density.sum(), y)
    cleans = [gaussian(m, s)(y, 1.0, sigma) for m, s in zip(centres, spreads, strict=True)]
    combined = weights[0] * cleans[0] + weights[1] * cleans[1]
    torch.testing.assert_close((combined - y) / sigma**2, wanted)


@pytest.mark.parametrize(("sampler", "least", "most"), [("ddim", 0.6, 0.75), ("euler_ancestral", 0.8, 0.95)])
def test_what_both_parents_allow_is_sampled_most(sampler, least, most):
    """One knows to go right, but not whether forward or back; the other forward, but not whether left or right.

    Each alone goes right and forward in half of the chunks. Together they do in most, not in all: where noise has led
    to the other side of one of them, the pulls cancel half-way, which fresh noise on the way mends in part.
    """
    model = build(compose(*[score(sampler=sampler, steps=20)] * 2), statistics=[(0.0, 0.5)] * 2)
    know(model, mixture((1.0, 1.0), (1.0, -1.0)), mixture((1.0, 1.0), (-1.0, 1.0)))
    noise = torch.randn(500, 4, 2, generator=torch.Generator().manual_seed(0))
    observation, goal = {"state": torch.zeros(500, 1, 3)}, {"state": torch.zeros(500, 3)}

    def share(one):
        chunk = one.sample(observation, goal, noise, torch.Generator().manual_seed(1))
        return ((chunk - 1.0).abs().amax(-1) < 0.3).float().mean().item()

    assert least < share(model) < most
    for parent in model.parents:
        assert 0.45 < share(parent.net) < 0.55


@dataclass(frozen=True)
class MatchedFlow(FlowProcess):
    """Flow matching on EDM's levels."""

    def levels(self, steps):
        sigma = EDMProcess(data_std=self.data_std).levels(steps)
        return sigma / (1.0 + sigma)


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver_2", "euler_ancestral"])
def test_a_policy_composed_with_itself_in_anothers_coordinates_stays_itself(sampler):
    """With levels of the same ratios flow matching's walk is EDM's, and a parent may be told in either."""
    edm, flow = score(sampler=sampler, steps=6), score(MatchedFlow(0.5), sampler, 6)
    data = mixture((0.5, 0.2), (-0.6, 0.1), (0.1, -0.7))
    observation, goal, noise = seen(STATE)
    chunks = []
    for lead in (edm, flow):
        for pair in ((edm, flow), (flow, edm), (edm, edm), (flow, flow)):
            model = know(build(compose(*pair, weights=(0.4, 0.6), lead=lead), statistics=[(0.2, 0.7)] * 2), data, data)
            draw = torch.Generator().manual_seed(4)
            chunks.append(model.sample(observation, goal, noise, draw))
            if lead.process == pair[0].process == pair[1].process:
                alone = model.parents[0].net.sample(observation, goal, noise, torch.Generator().manual_seed(4))
                torch.testing.assert_close(chunks[-1], alone, rtol=1e-5, atol=1e-5)
    for chunk in chunks[1:]:
        torch.testing.assert_close(chunk, chunks[0], rtol=1e-4, atol=1e-4)


def test_discrete_levels_are_met_by_the_nearest():
    """DDPM's hundred levels: asked by EDM's walk they are told at most half a level beside; the sample hardly moves."""
    data = gaussian(0.3, 0.2)
    observation, goal, noise = seen(STATE)
    statistics = [(0.0, 0.5)] * 2
    edm, ddpm = score(steps=6), score(DDPM, "ddim", 10)
    alone = know(build(compose(edm, edm), statistics=statistics), data, data).sample(observation, goal, noise)
    mixed = know(build(compose(edm, ddpm), statistics=statistics), data, data).sample(observation, goal, noise)
    assert 0.0 < (mixed - alone).abs().max() < 0.01
    # the other way round every level of the walk is EDM's as well, up to its sigma_max
    edm = score(EDMProcess(sigma_max=1e6, sigma_min=1e-6), steps=6)
    alone = know(build(compose(ddpm, ddpm), statistics=statistics), data, data).sample(observation, goal, noise)
    mixed = know(build(compose(ddpm, edm), statistics=statistics), data, data).sample(observation, goal, noise)
    torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("process", [EDM, FLOW, DDPM], ids=lambda one: type(one).__name__)
def test_a_level_is_found_by_its_signal_and_noise(process):
    levels = process.levels(20)[:-1]
    one = process.coefficients(levels)
    for scale in (1.0, 3.0):
        torch.testing.assert_close(process.level(scale * one.signal, scale * one.noise), levels)
    begin = process.level(torch.zeros(()), torch.ones(()))
    assert float(begin) == {EDMProcess: 8.0, FlowProcess: 1.0, DDPMProcess: 99.0}[type(process)]


def test_parents_meet_in_units_of_actions():
    """One distribution, known to two parents that scale it otherwise: composed it is the same, and by hand."""
    model = build(
        compose(score(steps=1), score(FLOW, "euler", 1), weights=(0.5, 0.5)), statistics=[(1.0, 2.0), (5.0, 8.0)]
    )
    data_mean, data_std = 3.0, 1.5
    cleans = []
    for parent in model.parents:
        mean, unit = float(parent.net.actions.mean[0]), float(parent.net.actions.std[0]) / parent.net.actions.target_std
        cleans.append(gaussian((data_mean - mean) / unit, data_std / unit))
    know(model, *cleans)
    observation, goal, noise = seen(STATE)
    # common units: mean (1 + 5) / 2, spread sqrt(2 * 8), scaled to 0.5: noise of 8 is 8 * 4 / 0.5 in units of actions
    y = 3.0 + noise * (64.0 + 0.25) ** 0.5 * (4.0 / 0.5)
    wanted = (data_mean * 64.0**2 + data_std**2 * y) / (64.0**2 + data_std**2)
    # the first parent's level would be sigma 16: it was trained up to 8, and is told those
    torch.testing.assert_close(model.sample(observation, goal, noise), wanted, rtol=0.0, atol=0.05)
    wide = replace(EDM, sigma_max=100.0)
    model = compose(score(wide, steps=1), score(FLOW, "euler", 1), weights=(0.5, 0.5), lead=score(EDM, steps=1))
    model = know(build(model, statistics=[(1.0, 2.0), (5.0, 8.0)]), *cleans)
    torch.testing.assert_close(model.sample(observation, goal, noise), wanted, rtol=1e-4, atol=1e-4)


def test_each_parent_takes_of_the_observation_what_it_knows():
    """Elements in another order, images, other histories: as if each had been shown its own part alone."""
    policies = (score(inputs=InputConfig(history=3)), score(inputs=InputConfig(history=1)))
    sees = [{"state": ("c", "a")}, {"state": ("b",), "image/front": ()}]
    observation, goal, noise = seen(MIXED, history=3)
    for number, (history, elements) in enumerate(((3, [2, 0]), (1, [1]))):
        model = build(compose(*policies, weights=(1.0 - number, float(number)), sees=sees), MIXED)
        assert model.history == 3
        net = model.parents[number].net
        part = {"state": observation["state"][:, -history:, elements]}
        aim = {"state": goal["state"][:, elements]}
        if number:
            part["image/front"], aim["image/front"] = observation["image/front"][:, -1:], goal["image/front"]
        torch.testing.assert_close(
            model.sample(observation, goal, noise), net.sample(part, aim, noise), rtol=1e-5, atol=1e-5
        )
    with pytest.raises(SpecError, match=r"run1.*image/front"):
        build(compose(*policies, sees=sees), STATE)
    with pytest.raises(SpecError, match=r"run0.*'d'"):
        build(compose(*policies, sees=[{"state": ("d",)}, {"state": NAMES}]))


def test_three_parents_are_the_mean_of_three_estimates():
    one = score(steps=1)
    model = build(compose(one, one, one, weights=(0.2, 0.3, 0.5)), statistics=[(0.0, 0.5)] * 3)
    know(model, *(lambda noisy, signal, noise, at=at: torch.full_like(noisy, at) for at in (1.0, 2.0, 4.0)))
    observation, goal, noise = seen(STATE)
    torch.testing.assert_close(model.sample(observation, goal, noise), torch.full((5, 4, 2), 0.2 + 0.6 + 2.0))


def test_a_learned_diffusion_and_a_learned_flow_policy_act_together():
    """Both keep two ways round an obstacle; so does what they sample together, in either's coordinates."""
    names = {"state": ("side", "block_0.x", "block_0.y")}
    policies = (score(steps=5, network=MLPConfig(64, 2)), score(FLOW, "euler", 10, network=MLPConfig(64, 2)))
    learned = [train(one, left_or_right).state_dict() for one in policies]
    one = tensors(left_or_right(0, batch=1000))
    spec = ObservationSpec({"state": ArraySpec((3,), names=names["state"])})
    for lead in policies:
        model = compose(*policies, sees=[names] * 2, lead=lead).build(spec, ACTION).eval()
        for parent, weights in zip(model.parents, learned, strict=True):
            parent.net.load_state_dict(weights)
        chunk = model.sample(
            one.observation, one.goal, torch.randn(1000, 4, 2, generator=torch.Generator().manual_seed(1))
        )
        left = chunk[:, :, 0] < 0
        assert (left.all(1) | (~left).all(1)).float().mean() > 0.95
        assert (chunk[:, :, 0].abs() > 0.4).float().mean() > 0.9
        assert left[:, 0].float().mean().item() == pytest.approx(0.7, abs=0.1)


def test_the_configuration_is_read_back_and_the_policy_runs_in_episodes():
    config = compose(score(max_prefix=1), score(FLOW, "euler", 2, inputs=InputConfig(history=2)), weights=(0.4, 0.6))
    assert to_dataclass(object, to_plain(config)) == config
    model = build(config)
    other = config.build(STATE, ACTION)
    source = TorchSource(other)
    source.load(model.state_dict())
    policy = ChunkPolicy(source, PLAY, STATE, ACTION)
    policy.reset(Goal({"state": np.ones(3, np.float32)}))
    actions = [policy.act({"state": np.full(3, 0.1 * i, np.float32)}) for i in range(12)]
    policy.close()
    assert np.isfinite(actions).all() and np.std(actions) > 0.0 and policy.counters.chunks == 6


def test_an_exported_composition_does_what_the_composition_does(tmp_path):
    pytest.importorskip("onnxscript")
    from policies.export import export_bundle

    config = compose(score(max_prefix=1, guidance=2.0), score(DDPM, "ddim", 4, clip=1.0), score(FLOW, "euler", 2))
    assert export_bundle(build(config), tmp_path / "bundle", STATE, ACTION, {}) < 1e-4


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0.5, 0.6), "sum 1.1"),
        ((1.5, -0.5), "not be negative"),
        ((1.0,), "as many weights"),
        ((0.5, float("nan")), "not be negative"),
    ],
)
def test_weights_are_convex(weights, said):
    with pytest.raises(ConfigError, match=said):
        compose(score(), score(), weights=weights)


def test_parents_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match=r"same horizon; theirs are 4 \(run0\), 8 \(run1\)"):
        compose(score(), score(horizon=8))
    with pytest.raises(ConfigError, match="words"):
        compose(score(), score(inputs=InputConfig(words=WordsConfig())))
    with pytest.raises(ConfigError, match="at least two parents"):
        compose(score())
    with pytest.raises(UnknownNameError, match="dpm_solver_2"):
        replace(compose(score(), score()), sampler="dimm")
