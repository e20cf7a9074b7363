"""Whether few-step samplers keep the ratio of two ways, with the exact denoiser and with small trained networks.

  python benchmarks/mode_ratio.py --quick
  python benchmarks/mode_ratio.py --seed 0 --out benchmarks/results/mode_ratio.json

The data: every element of a chunk is -0.8 (left of an obstacle) with probability 0.7, else +0.8 (right of it). For
two such points the best denoiser can be written down: the mean of the two, weighed by how likely each is behind the
noisy chunk. What a sampler does wrong with it is the sampler's own error. Small trained networks add theirs:

  exact.SETTING.SIZE.left    share of the chunks of SIZE elements that go left; 0.7 in the data
  trained.SIZE.left, .clear  the same of a score policy at its defaults, and the share clear of the obstacle: every
                             element beyond 0.4, all on one side
  trained.SIZE.last_L.S      share clear of the obstacle with the last evaluation at noise L, by sampler S
  gaussian.SIZE.clear        share clear of a Gaussian policy (GCBC), whose mean acts

A `ratio_error` is minus the difference to the data's share, as a bar is a smallest value; of networks the worst seed's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from figures import Figure, add_arguments, write_result
from rich.progress import track
from torch import Tensor

from policies.chunk_net import ChunkNet
from policies.denoisers import MLPConfig
from policies.gcbc import GCBCConfig
from policies.normalizer import Normalizer
from policies.processes import EDMProcess, FlowProcess, Process
from policies.samplers import Network, Sampler, make_sampler
from policies.score import ScoreConfig
from robot_rl.algorithms.imitation import Imitation, ImitationConfig
from robot_rl.batch import Windows
from robot_rl.statistics import wilson_interval
from robot_rl.types import ACTION_NAMES, ActionSpec, ArraySpec, ObservationSpec

LEFT, WAY = 0.7, 0.8
SIZES = {8: (4, 2), 80: (16, 5)}  # elements -> horizon, elements of an action
WIDTHS = {8: 64, 80: 256}  # of the networks: more than elements, as all of a chunk's noise passes through
BAR = -0.10
BESO = EDMProcess(sigma_min=0.005, sigma_max=1.0, sigma_last=0.005, scale=0.5)
KARRAS_10 = EDMProcess(sigma_max=10.0, sigma_last=0.3, schedule="karras")
EXACT = {
    "default": ScoreConfig(),
    "beso": ScoreConfig(process=BESO, sampler="ddim"),
    "max_1": ScoreConfig(process=EDMProcess(sigma_max=1.0, sigma_last=0.05), sampler="ddim"),
    "max_2": ScoreConfig(process=EDMProcess(sigma_max=2.0, sigma_last=0.05), sampler="ddim"),
    "max_5": ScoreConfig(process=EDMProcess(sigma_max=5.0, sigma_last=0.05), sampler="ddim"),
    "karras_10": ScoreConfig(process=KARRAS_10, sampler="ddim", steps=5),
    "flow": ScoreConfig(process=FlowProcess(), sampler="euler"),
}
LAST = tuple(product((0.05, 0.1, 0.2, 0.3), ("ddim", "dpm_solver_2")))
BATCH, UPDATES = 256, 2400
STATE = ObservationSpec({"state": ArraySpec((1,), names=("still",))})  # always 0: nothing but chance decides


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, help="networks of each kind (default: 5, quick: 3)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(args.seed, args.seed + (args.seeds or (3 if args.quick else 5)))
    samples = 4000 if args.quick else 20_000
    figures: list[Figure] = []
    runs: list[dict[str, Any]] = []
    for size in SIZES:
        figures += [one for name in EXACT for one in exact_figures(name, size, samples, args.seed)]
        mine = [run_seed(size, seed, samples) for seed in track(seeds, f"networks for {size} elements")]
        figures += trained_figures(size, mine)
        runs += mine
    write_result(args, figures, {"seeds": list(seeds), "chunks": samples, "updates": UPDATES, "runs": runs})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def exact_figures(name: str, size: int, samples: int, seed: int) -> list[Figure]:
    """The share that goes left with the exact denoiser; at the defaults also its error."""
    config = EXACT[name]
    horizon, actions = SIZES[size]
    sampler = make_sampler(config.sampler, config.process, config.steps)
    scale = Normalizer(actions, config.process.data_std)
    scale.fit(*moments(actions))
    ways = scale.double()(torch.tensor([-WAY, WAY]).double().reshape(2, 1, 1).expand(2, horizon, actions))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, horizon, actions, generator=generator, dtype=torch.float64)
    share, _ = look(scale.inverse(sampler(exact_denoiser(sampler, config.process, ways), noise)))
    interval = wilson_interval(round(share * samples), samples)
    label, error = f"exact.{name}.{size}", -abs(share - LEFT)
    figures = [Figure(f"{label}.left", share, "share", None, samples, interval)]
    if name == "default":
        figures.append(Figure(f"{label}.ratio_error", error, "minus difference", BAR, samples, None))
    return figures


def exact_denoiser(sampler: Sampler, process: Process, ways: Tensor) -> Network:
    """The network that a sampler would ask for if it estimated the clean chunk as well as can be; ways (2, H, A)."""
    stages = {stage.c_noise: stage for stage in sampler.stages}
    prior = torch.tensor([LEFT, 1.0 - LEFT], dtype=ways.dtype).log()

    def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
        stage = stages[float(c_noise)]
        level = process.coefficients(torch.tensor(stage.level, dtype=ways.dtype))
        noisy = scaled / stage.c_in
        distance = (noisy.unsqueeze(1) - level.signal * ways).square().sum((2, 3))
        likely = torch.softmax(prior - distance / (2.0 * level.noise**2), 1)
        estimate = torch.einsum("bw,wha->bha", likely, ways)
        return (estimate - stage.c_skip * noisy) / stage.c_out

    return network


def run_seed(size: int, seed: int, samples: int) -> dict[str, Any]:
    """Train both policies and look at their chunks."""
    horizon, actions = SIZES[size]
    spec = ActionSpec(ACTION_NAMES[:actions], 0.1, 0.1)
    noise = torch.randn(samples, horizon, actions, generator=torch.Generator().manual_seed(seed))
    nothing = torch.zeros(samples, 1)
    torch.manual_seed(seed)
    gaussian = GCBCConfig(horizon=horizon, hidden=(WIDTHS[size],)).build(STATE, spec)
    score = ScoreConfig(horizon=horizon, network=MLPConfig(WIDTHS[size], blocks=2)).build(STATE, spec)
    for model in (gaussian, score):
        train(model, actions, seed)

    def sample(model: ChunkNet) -> tuple[float, float]:
        return look(model.sample({"state": nothing.unsqueeze(1)}, {"state": nothing}, noise))

    left, clear = sample(score)
    run = {"size": size, "seed": seed, "left": left, "clear": clear, "gaussian": sample(gaussian)[1]}
    for last, name in LAST:
        score.use_sampler(make_sampler(name, replace(EDMProcess(), sigma_last=last), score.config.steps))
        run[f"last_{last:g}.{name}"] = sample(score)[1]
    return run


def train(model: ChunkNet, actions: int, seed: int) -> None:
    """In place; its weights become their running average, which is what acts."""
    model.fit_normalizers({"state": (np.zeros(1), np.ones(1)), "action": moments(actions)})
    config = ImitationConfig(learning_rate=3e-3, warmup_updates=20, updates=UPDATES, ema_decay=0.995, seed=seed)
    algorithm = Imitation(config, model)
    rng = np.random.default_rng(seed)
    for _ in range(UPDATES):
        algorithm.update(draw(rng, model.horizon, actions))
    model.load_state_dict(algorithm.policy_state())


def draw(rng: np.random.Generator, horizon: int, actions: int) -> Windows:
    """A batch of the data."""
    side = np.where(rng.random((BATCH, 1, 1)) < LEFT, -WAY, WAY).astype(np.float32)
    zero, nothing = np.zeros(BATCH, np.float32), {"state": np.zeros((BATCH, 1), np.float32)}
    return Windows(
        observation={"state": np.zeros((BATCH, 1, 1), np.float32)},
        action=side.repeat(horizon, 1).repeat(actions, 2),
        mask=np.ones((BATCH, horizon), np.float32),
        goal=nothing,
        future={},
        start={},
        text=np.full(BATCH, -1),
        value_goal={},
        goal_steps=np.ones(BATCH, np.int64),
        reward=zero,
        discount=zero,
        next_observation=nothing,
        terminated=zero,
        returns_to_go=zero,
    )


def moments(actions: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each element of an action of the data."""
    spread = 2.0 * WAY * float(np.sqrt(LEFT * (1.0 - LEFT)))
    return np.full(actions, WAY * (1.0 - 2.0 * LEFT)), np.full(actions, spread)


def look(chunk: Tensor) -> tuple[float, float]:
    """Shares of chunks (B, H, A) that are nearer the left way, and that are clear of the obstacle."""
    elements = chunk.flatten(1)
    clear = (elements > WAY / 2.0).all(1) | (elements < -WAY / 2.0).all(1)
    return float((elements.mean(1) < 0.0).double().mean()), float(clear.double().mean())


def trained_figures(size: int, runs: Sequence[dict[str, Any]]) -> list[Figure]:
    """Means of the seeds with their range; the ratio's error is the worst seed's."""
    worst = -max(abs(run["left"] - LEFT) for run in runs)
    names = {"left": f"trained.{size}.left", "clear": f"trained.{size}.clear", "gaussian": f"gaussian.{size}.clear"}
    names |= {key: f"trained.{size}.{key}" for key in runs[0] if key.startswith("last_")}
    figures = [Figure(f"trained.{size}.ratio_error", worst, "minus difference, worst seed", BAR, len(runs), None)]
    for key, name in names.items():
        shares = [run[key] for run in runs]
        mean, span = float(np.mean(shares)), (min(shares), max(shares))
        figures.append(Figure(name, mean, "share, mean and range of seeds", None, len(runs), span))
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
