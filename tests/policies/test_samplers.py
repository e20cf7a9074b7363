"""Every sampler's table against the scheduler of `diffusers`, and all of them against a case solved by hand."""

import math

import pytest
import torch

from policies.processes import DDPMProcess, EDMProcess, FlowProcess
from policies.reference_samplers import _SCHEDULERS, ReferenceSampler
from policies.samplers import SAMPLERS, make_sampler
from robot_rl.errors import ConfigError, UnknownNameError

PROCESSES = {"EDMProcess": EDMProcess(), "FlowProcess": FlowProcess(), "DDPMProcess": DDPMProcess()}
CASES = sorted(_SCHEDULERS)


def drawing(shape, seed):
    """What `diffusers` draws from a generator with that seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def network(seed=0):
    """Not linear, different at every level, of moderate size."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(6, 6, generator=generator) * 0.4

    def run(noisy, c_noise):
        return torch.tanh(noisy @ weights + 0.3 * torch.sin(c_noise)) * 0.7

    return run


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 50])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_table_samples_what_diffusers_samples(kind, name, steps):
    process = PROCESSES[kind]
    noise = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(steps))
    wanted = ReferenceSampler(name, process, steps, generator=torch.Generator().manual_seed(7))(network(), noise)
    got = make_sampler(name, process, steps)(network(), noise, drawing(noise.shape, 7))
    torch.testing.assert_close(got, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
@pytest.mark.parametrize("schedule", [16, 100])
def test_clipped_estimates_agree_too(name, schedule):
    noise = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1)) * 3.0
    drawn = torch.Generator().manual_seed(7)
    wanted = ReferenceSampler(name, DDPMProcess(), schedule, clip=0.5, generator=drawn)(network(), noise)
    got = make_sampler(name, DDPMProcess(), schedule, clip=0.5)(network(), noise, drawing(noise.shape, 7))
    torch.testing.assert_close(got, wanted, rtol=2e-4, atol=2e-5)
    assert got.abs().max() <= 0.5 + 1e-5


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_corrected_estimates_agree_too(kind, name):
    """As with a prefix: part of every estimate is put right."""
    process, noise = PROCESSES[kind], torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1))

    def correct(estimate):
        return torch.cat([torch.full_like(estimate[:, :3], 0.2), estimate[:, 3:]], 1)

    generator = torch.Generator().manual_seed(7)
    wanted = ReferenceSampler(name, process, 4, generator=generator)(network(), noise, None, correct)
    got = make_sampler(name, process, 4)(network(), noise, drawing(noise.shape, 7), correct)
    torch.testing.assert_close(got, wanted, rtol=5e-4, atol=5e-5)


@pytest.mark.parametrize("schedule", ["karras", "linear", "exponential"])
def test_schedules_begin_at_the_largest_noise_and_end_clean(schedule):
    process = EDMProcess(schedule=schedule)
    for steps in (1, 2, 3, 10):
        levels = process.levels(steps)
        assert len(levels) == steps + 1 and levels[-1] == 0.0
        assert levels[0] == pytest.approx(process.sigma_max)
        assert (levels[:-1] > levels[1:]).all()
        if steps > 1:
            assert levels[-2] == pytest.approx(process.sigma_last)


def test_exponential_levels_are_the_published_ones():
    levels = EDMProcess(sigma_min=0.01, sigma_last=0.01, sigma_max=1.0).levels(3)
    torch.testing.assert_close(levels, torch.tensor([1.0, 0.1, 0.01, 0.0], dtype=torch.float64))


def exact(process, mean, std):
    """The network whose denoiser is right for data that are Gaussian with `mean` and `std`."""

    def run(scaled, c_noise):
        level = (4.0 * c_noise).exp()
        noisy = scaled * (level**2 + process.data_std**2).sqrt()
        estimate = (noisy * std**2 + mean * level**2) / (std**2 + level**2)
        one = process.coefficients(level)
        return (estimate - one.c_skip * noisy) / one.c_out

    return run


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"ddpm"}))
def test_many_steps_reproduce_a_known_distribution(name):
    """Data N(0.3, 0.2): the score is known, so mean and spread of the samples are."""
    process = EDMProcess(sigma_min=0.002, sigma_last=0.002, sigma_max=80.0, schedule="karras")
    noise = torch.randn(4096, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples = make_sampler(name, process, 400)(exact(process, 0.3, 0.2), noise, drawing(noise.shape, 1))
    assert samples.mean().item() == pytest.approx(0.3, abs=0.01)
    assert samples.std().item() == pytest.approx(0.2, rel=0.06)


def test_second_order_is_closer_than_first_at_few_steps():
    process = EDMProcess(sigma_min=0.005, sigma_last=0.005, sigma_max=1.0)
    noise = torch.randn(512, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = exact(process, 0.1, 0.3)
    truth = make_sampler("ddim", process, 2000)(net, noise)
    errors = {name: float((make_sampler(name, process, 10)(net, noise) - truth).abs().mean()) for name in SAMPLERS}
    assert errors["dpm_solver_2"] < 0.3 * errors["ddim"]
    assert errors["heun"] < 0.5 * errors["ddim"]


def test_random_samplers_repeat_with_the_same_generator_and_only_then():
    sampler, noise = make_sampler("euler_ancestral", EDMProcess(), 5), torch.randn(2, 4, 6)
    one, same, other = (sampler(network(), noise, drawing(noise.shape, seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert sampler.draws == 4 and make_sampler("ddim", EDMProcess(), 5).draws == 0


def test_ddpm_levels_are_diffusion_policys():
    process = DDPMProcess()
    assert process.levels(100).tolist() == [float(i) for i in range(99, -2, -1)]
    assert process.levels(16)[:3].tolist() == [90.0, 84.0, 78.0]
    assert math.isclose(float(process.cumulative[0]), 0.99936, abs_tol=2e-4)


def test_wrong_names_and_counts_say_what_is_right():
    with pytest.raises(UnknownNameError, match="ddim"):
        make_sampler("dimm", EDMProcess(), 3)
    with pytest.raises(ConfigError, match="at least one step"):
        make_sampler("ddim", EDMProcess(), 0)
    with pytest.raises(ConfigError, match="1 to as many"):
        make_sampler("ddim", DDPMProcess(), 101)
    with pytest.raises(ConfigError, match="EDM's noise only"):
        make_sampler("heun", FlowProcess(), 4)
    with pytest.raises(UnknownNameError, match="euler"):
        ReferenceSampler("heun", FlowProcess(), 4)
