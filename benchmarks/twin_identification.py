"""Identification of hidden arms: error on movements held out, delay, and whether 95 % intervals hold the truth.

  python benchmarks/twin_identification.py --quick
  python benchmarks/twin_identification.py --seed 0 --out benchmarks/results/twin_identification.json
  python benchmarks/twin_identification.py --seed 0 --robot ur5e --out benchmarks/results/twin_identification_ur5e.json

Each arm (`sim.cousins.hidden_arm`) has its own delay, gain, friction, inertia, load and play, and beyond what is
fitted: static friction of another law, friction that grows with load, compliance, cogging, cables, a changing delay,
encoder noise and counts, another time step.
It runs in a process of its own and is reached through `Env` alone. One movement
(`sim.sysid.excitation`, chosen on the nominal twin) is fitted; two of another kind (reaches from rest to rest, with
waits; drawn anew where the arm would touch itself) are held out. Their error is the RMS distance of the TCP from where
the twin, sent the same targets from the same joints, says it is. The nominal twin has the middle of `PhysicsPrior`, so
half the prior's delay is already in it.

Coverage is over all parameters that both classes have. All settings, and the allowance for what is unmodelled, were
chosen on seeds from 1000.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from figures import Figure, add_arguments, write_result

from robot_rl.apps.twin_identify import excite, foresee
from robot_rl.protocols import Env
from robot_rl.statistics import wilson_interval
from robot_rl.types import FloatArray
from sim.cousins.hidden import hidden_arm_env
from sim.cousins.hidden_arm import draw_arm
from sim.cousins.physics import Physics, PhysicsPrior
from sim.process_env import ProcessEnv
from sim.robosuite_arm import ROBOTS
from sim.sysid.clearance import Clearance
from sim.sysid.excitation import reaches
from sim.sysid.fit import fit
from sim.sysid.log import MOTION_ENV, Run, record
from sim.sysid.lone_arm import LoneArm
from sim.sysid.motion import MotionLimits, absolute
from sim.sysid.parameters import parameters, physics_values
from sim.sysid.rollouts import rollouts

ARMS, QUICK_ARMS = 10, 2
HELD_OUT = 2
BARS = {"heldout_error_ratio": 0.5, "delay_error_ms": 3.0, "coverage_95": 0.9}


@dataclass(frozen=True)
class Outcome:
    """What was found of one arm."""

    seed: int
    """Of the arm."""
    nominal_mm: float
    """Error of the nominal twin on what was held out."""
    identified_mm: float
    """Of the identified one."""
    delay_error_ms: float
    """Estimate less truth."""
    covered: dict[str, bool]
    """By parameter: whether its interval holds the truth."""
    width: dict[str, float]
    """By parameter: width of its interval over the prior's, in z."""
    seconds: float
    """Of the fit."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--arms", type=int, help=f"how many (default: {ARMS}, quick: {QUICK_ARMS})")
    parser.add_argument("--robot", default="panda", choices=sorted(ROBOTS), help="whose arms (default: panda)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of the fit")
    args = parser.parse_args()
    count = args.arms or (QUICK_ARMS if args.quick else ARMS)
    outcomes = []
    for seed in range(args.seed, args.seed + count):
        outcomes.append(run_arm(seed, args.robot, args.jobs))
        print(f"{len(outcomes)} of {count}: {outcomes[-1]}", file=sys.stderr, flush=True)
    figures = summarize(outcomes)
    write_result(args, figures, {"arms": [vars(one) for one in outcomes]})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def run_arm(seed: int, robot: str, jobs: int) -> Outcome:
    """Excite, fit and judge the hidden arm of `seed`."""
    env = ProcessEnv(partial(hidden_arm_env, seed, robot), MOTION_ENV)
    try:
        log = excite(env, robot, MotionLimits(), seed)
        held_out = [record(env, _reaches(env, robot, [seed, index]), 100 + index) for index in range(HELD_OUT)]
    finally:
        env.close()
    start = time.perf_counter()
    with rollouts(log, jobs) as predict:
        found = fit(log, predict).posterior
    seconds = time.perf_counter() - start
    truth, names = (
        physics_values(draw_arm(seed, log.joints)[0], log.joints),
        [one.label for one in parameters(log.joints)],
    )
    interval, estimate = found.interval(), found.nominal()
    std = np.sqrt(np.diag(np.array(found.covariance_z)))
    return Outcome(
        seed,
        _error_mm(robot, PhysicsPrior().nominal(), held_out, env.rate_hz),
        _error_mm(robot, Physics(**estimate), held_out, env.rate_hz),
        1e3 * (estimate["delay_s"] - truth[names.index("delay_s")]),
        {name: bool(low <= value <= high) for name, value, (low, high) in zip(names, truth, interval, strict=True)},
        dict(zip(names, map(float, std), strict=True)),
        seconds,
    )


def _reaches(env: Env, robot: str, seed: list[int]) -> FloatArray:
    """Offsets (T, 7) of reaches on which the arm does not touch itself: of that no model here tells anything."""
    rng, limits = np.random.default_rng(seed), MotionLimits()
    start, predict = foresee(env, robot, 100 + seed[-1])
    while Clearance(robot).obstacles(predict(absolute(start, way := reaches(rng, limits, env.rate_hz)))):
        pass
    return way


def summarize(outcomes: list[Outcome]) -> list[Figure]:
    ratios = np.array([one.identified_mm / one.nominal_mm for one in outcomes])
    delays = np.abs([one.delay_error_ms for one in outcomes])
    widths = np.array([list(one.width.values()) for one in outcomes])
    seconds = np.array([one.seconds for one in outcomes])
    groups = dict.fromkeys(name.split("[")[0] for name in outcomes[0].covered)
    return [
        _mean("heldout_error_ratio", ratios, "identified / nominal, mean over arms"),
        Figure("heldout_error_ratio.worst", float(ratios.max()), "identified / nominal", None, len(ratios), None),
        _mean("heldout_mm.nominal", np.array([one.nominal_mm for one in outcomes]), "mm"),
        _mean("heldout_mm.identified", np.array([one.identified_mm for one in outcomes]), "mm"),
        _mean("delay_error_ms", delays, "ms, mean of sizes"),
        Figure("delay_error_ms.worst", float(delays.max()), "ms", None, len(delays), None),
        _coverage(outcomes, ""),
        *(_coverage(outcomes, group) for group in groups),
        Figure("interval_width", float(np.median(widths)), "of the prior's, median", None, widths.size, None),
        _mean("fit_s", seconds, "s, mean over arms"),
    ]


def _mean(name: str, values: FloatArray, unit: str) -> Figure:
    means = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = map(float, np.quantile(means, (0.025, 0.975)))
    return Figure(name, float(values.mean()), unit, BARS.get(name), len(values), (low, high), at_most=name in BARS)


def _coverage(outcomes: list[Outcome], group: str) -> Figure:
    """Of the parameters called `group`, or of all."""
    flags = [flag for one in outcomes for name, flag in one.covered.items() if group in ("", name.split("[")[0])]
    name = f"coverage_95.{group}" if group else "coverage_95"
    interval = wilson_interval(sum(flags), len(flags))
    return Figure(name, sum(flags) / len(flags), "share of parameters", BARS.get(name), len(flags), interval)


def _error_mm(robot: str, physics: Physics, runs: list[Run], rate_hz: float) -> float:
    world, errors = LoneArm(robot, physics), []
    for run in runs:
        poses: FloatArray = world.repeat(run, rate_hz)[1]
        errors.append(np.square(poses[:, :3] - run.poses_base[:, :3]).sum(1))
    return 1e3 * float(np.sqrt(np.concatenate(errors).mean()))


if __name__ == "__main__":
    raise SystemExit(main())
