"""How closely a twin follows a hidden world: T-block pushing and door opening, friction and mass wrong by 2x.

  python benchmarks/twin_sync.py --quick
  python benchmarks/twin_sync.py --out benchmarks/results/twin_sync.json

Truth: another time step, integrator and friction cone, Stribeck friction, a soft arm with dry friction. Poses come at
60 Hz, 20 ms late, with noise of 2 mm and 1 degree per axis. RMSE: distance of the twin's object to the true one at the
same moment, over all ticks of an episode after the first second. Jump: the largest change of the twin's object from one
tick to the next less the true change, |d twin - d true|, in an episode; the figure is the largest of all episodes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from _twin_followers import BASELINES, PlainFollower
from _twin_rate import rate_figures
from _twin_scenes import JOINT_LATENCY_S, LATENCY_S, RATE_HZ, SCENES, SceneKind, Truth, scene_xml
from figures import Figure, add_arguments, write_result
from rich.progress import track

from robot_rl.types import FloatArray
from sim.twin.model import TwinModel, make_twin
from sim.twin.particles import BankConfig
from sim.twin.sync import SyncConfig, TwinSync

EPISODE_S, QUICK_S, SETTLE_S = 8.0, 6.0, 1.0
EPISODES, QUICK_EPISODES = 10, 4
RMSE_BAR_MM, JUMP_BAR_MM = 5.0, 5.0
CONFIG = SyncConfig()
VARIANTS = {
    "sync": CONFIG,
    "no_bank": replace(CONFIG, bank=BankConfig(particles=1)),
}


@dataclass(frozen=True)
class Followed:
    """One episode."""

    rmse_mm: float
    """Of the position."""
    rotation_deg: float
    """RMS angle."""
    jump_mm: float
    """Largest."""
    tick_ms: float
    """Mean CPU time of a tick, all of its work."""
    failures: int
    """Hard resets."""
    predictive: float
    """Share of ticks at which the twin calls itself predictive."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--episodes", type=int, help="hidden worlds per scene and way")
    parser.add_argument("--only", nargs="*", choices=[*VARIANTS, *BASELINES], help="these ways only")
    parser.add_argument(
        "--part", choices=("all", "follow", "rate"), default="all", help="how closely, how fast, or both"
    )
    args = parser.parse_args()
    count = args.episodes or (QUICK_EPISODES if args.quick else EPISODES)
    length_s = QUICK_S if args.quick else EPISODE_S
    figures, episodes = [], {}
    for scene, kind in SCENES.items() if args.part != "rate" else ():
        for way in args.only or [*VARIANTS, *BASELINES]:
            seeds = range(args.seed, args.seed + count)
            runs = [follow(kind, way, seed, length_s) for seed in track(seeds, f"{scene} {way}")]
            episodes[f"{scene}.{way}"] = [vars(run) for run in runs]
            figures += summary(scene, way, runs)
    if args.part != "follow":
        figures += rate_figures(10.0 if args.quick else 30.0)
    write_result(args, figures, {"episodes": episodes, "config": _plain(CONFIG)})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def follow(kind: SceneKind, way: str, seed: int, length_s: float) -> Followed:
    """One way of following one hidden world."""
    truth, twin = Truth(kind, seed), make_twin(mujoco.MjSpec.from_string(scene_xml(kind.content)), kind.plan)
    follower, read = make_follower(way, twin, seed)
    mail: list[tuple[float, Callable[[float], None]]] = []
    pairs, spent_s, predictive = [], [], []
    for tick in range(round(length_s * RATE_HZ)):
        # the clock of a robot: never exactly on the grid of the integrator
        now_s = 100.0 + tick / RATE_HZ
        joints, pose = truth.measured_joints(), truth.measured_pose()
        mail.append((now_s + JOINT_LATENCY_S, lambda at, s=now_s, v=joints: follower.joints(s, v, at)))
        mail.append((now_s + LATENCY_S, lambda at, s=now_s, v=pose: follower.pose("object", s, v, at)))
        for arrives_s, deliver in [one for one in mail if one[0] <= now_s]:
            deliver(arrives_s)
        mail = [one for one in mail if one[0] > now_s]
        began_s = time.thread_time()
        found = follower.tick(now_s)
        spent_s.append(time.thread_time() - began_s)
        if found is not None and tick >= SETTLE_S * RATE_HZ:
            pairs.append((read(found), truth.object_pose()))
            predictive.append(getattr(found, "predictive", False))
        truth.advance(1.0 / RATE_HZ)
    twin_poses, true_poses = (np.array(poses) for poses in zip(*pairs, strict=True))
    return Followed(
        *errors(twin_poses, true_poses), 1e3 * float(np.mean(spent_s)), getattr(follower, "failures", 0),
        float(np.mean(predictive)),
    )  # fmt: skip


def make_follower(way: str, twin: TwinModel, seed: int) -> tuple[Any, Callable[[Any], FloatArray]]:
    """The follower, and how the object's pose (7,) is read from its tick."""
    if way in BASELINES:
        baseline = BASELINES[way]
        return PlainFollower(twin, baseline.begin, baseline.correct), lambda pose: pose
    return TwinSync(twin, replace(VARIANTS[way], seed=seed)), lambda estimate: estimate.objects["object"].pose


def errors(twin: FloatArray, true: FloatArray) -> tuple[float, float, float]:
    """RMSE (mm), RMS angle (degrees) and largest jump (mm) of poses (T, 7)."""
    away = twin[:, :3] - true[:, :3]
    cosine = np.clip(np.abs((twin[:, 3:] * true[:, 3:]).sum(-1)), 0.0, 1.0)
    jumps = np.linalg.norm(np.diff(away, axis=0), axis=-1)
    return (
        1e3 * float(np.sqrt(np.square(away).sum(-1).mean())),
        float(np.rad2deg(np.sqrt(np.square(2.0 * np.arccos(cosine)).mean()))),
        1e3 * float(jumps.max()),
    )


def summary(scene: str, way: str, runs: list[Followed]) -> list[Figure]:
    """The figures of one way; bars for the twin's own."""
    name = scene if way == "sync" else f"{scene}.{way}"
    bars = {"rmse_mm": RMSE_BAR_MM, "jump_mm": JUMP_BAR_MM} if way == "sync" else {}
    values = {key: np.array([getattr(run, key) for run in runs]) for key in vars(runs[0])}
    rmse = np.sqrt(np.square(values["rmse_mm"]).mean())
    square = _bootstrap(np.square(values["rmse_mm"]))
    interval = (float(np.sqrt(square[0])), float(np.sqrt(square[1])))
    jumps, n = values["jump_mm"], len(runs)
    middle = (float(np.quantile(jumps, 0.025)), float(np.quantile(jumps, 0.975)))
    figures = [
        Figure(f"{name}.rmse_mm", float(rmse), "mm", bars.get("rmse_mm"), n, interval, True),
        Figure(
            f"{name}.jump_mm", float(jumps.max()), "mm, interval: of episodes", bars.get("jump_mm"), n, middle, True
        ),
        Figure(f"{name}.rotation_deg", float(values["rotation_deg"].mean()), "degrees RMS", None, n, None),
    ]
    if way in VARIANTS:
        figures += [
            Figure(f"{name}.tick_ms", float(values["tick_ms"].mean()), "ms of CPU a tick", None, n, None),
            Figure(f"{name}.failures", float(values["failures"].sum()), "hard resets", None, n, None),
            Figure(f"{name}.predictive", float(values["predictive"].mean()), "share of ticks", None, n, None),
        ]
    return figures


def _bootstrap(values: FloatArray, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean over episodes."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (draws, len(values))).mean(-1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _plain(value: Any) -> Any:
    fields: Mapping[str, Any] | None = getattr(value, "__dict__", None)
    return value if fields is None else {key: _plain(inner) for key, inner in fields.items()}


if __name__ == "__main__":
    raise SystemExit(main())
