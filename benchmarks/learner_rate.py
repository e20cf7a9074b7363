"""How many updates per second the learner makes, against LeRobot's SAC learner on the same machine.

  python benchmarks/learner_rate.py --quick --setup-peer runs/peer        # installs LeRobot there (several GB), once
  python benchmarks/learner_rate.py --lerobot-python runs/peer/bin/python --out benchmarks/results/learner_rate.json

An update of either learner is: sample 128 + 128 transitions from two buffers, one step of two critics, of the
discrete gripper critic, of actor and temperature, the target networks, and reading the figures back. The networks
are LeRobot's own, on both sides: dense 256 + LayerNorm + tanh on the state, then [256, 256] with LayerNorm and SiLU.
Both learners live in processes of their own, wait while the other runs, and take turns; the ratio is the median
over the turns, its interval a bootstrap over them. `--threads` is 1 by default: that is how a learner runs beside a
simulator and an actor on a small machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, add_arguments, write_result
from rich.progress import track

HERE = Path(__file__).resolve().parent
LEROBOT = ("lerobot==0.4.4", "grpcio==1.73.1", "protobuf<6.32")  # the extras that its learner needs
BAR = 3.0
STATE_DIM, ACTION_DIM = 14, 4  # Lift: TCP, twist, lead, gripper, object; x y z gripper
BASE: dict[str, Any] = {
    "state_dim": STATE_DIM,
    "action_dim": ACTION_DIM,
    "batch_size": 256,
    "num_critics": 2,
    "discount": 0.97,
    "transitions": 1000,
    "warmup": 10,
    "compile": False,
    "cameras": [],
    "image_hw": [64, 64],
}
# Plain SAC with a gripper critic, as LeRobot's: no imitation, margin, clipped targets or n-step returns.
PLAIN = {"actor_every": 1, "bc_weight": 0.0, "gripper_margin": 0.0, "value_range": None, "n_step": 1}
SAME = {"policy": {"activation": "silu", "state_features": 256}, "algorithm": {**PLAIN, "activation": "silu"}}
OWN: dict[str, Any] = {"policy": {}, "algorithm": {"actor_every": 1}}
TEN = {"policy": {}, "algorithm": {"actor_every": 1, "num_critics": 10}}
PIXELS = {**OWN, "policy": {"state_features": 64}, "cameras": ["front", "wrist"], "state_dim": 11, "transitions": 500}


class Worker:
    """A learner in a process of its own that updates only when told to."""

    def __init__(self, python: str, script: str, settings: dict[str, Any]) -> None:
        threads = {name: str(settings["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        root = {"PYTHONPATH": str(HERE.parent)} if python == sys.executable else {}
        self._process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads, **root},
        )  # fmt: skip
        self._ask(json.dumps(settings))

    def run(self, updates: int) -> tuple[float, float]:
        """Wall-clock and processor seconds per update."""
        answer = self._ask(str(updates))
        return answer["wall_s"] / updates, answer["cpu_s"] / updates

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        while answer := self._process.stdout.readline():
            if answer.startswith("{"):
                return json.loads(answer)
        raise SystemExit(f"{self._process.args} ended with {self._process.wait()}; see its message above")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--lerobot-python", help="interpreter of an environment with LeRobot 0.4.4")
    parser.add_argument(
        "--setup-peer", type=Path, metavar="DIR", help="create that environment first, if it is not there"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each learner")
    args = parser.parse_args()
    turns, updates = (12, 25) if args.quick else (40, 50)
    base = {**BASE, "threads": args.threads, "seed": args.seed}
    peer = args.lerobot_python or (setup_peer(args.setup_peer) if args.setup_peer else None)
    figures: list[Figure] = []
    if peer:
        figures += compare(base, peer, turns, updates)
    else:
        print("no peer: pass --lerobot-python or --setup-peer DIR for the ratio; measuring this learner alone")
    for name, settings, share in (
        ("state.own_networks", OWN, 1.0),
        ("state.ten_critics", TEN, 0.4),
        ("pixels.two_cameras", PIXELS, 0.08),
    ):
        figures.append(alone(name, {**base, **settings}, turns, max(int(updates * share), 2)))
    write_result(args, figures, {"threads": args.threads})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def setup_peer(directory: Path) -> str:
    """An environment with LeRobot below `directory`; returns its interpreter."""
    python = directory.resolve() / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *LEROBOT], check=True)
    return str(python)


def compare(base: dict[str, Any], peer: str, turns: int, updates: int) -> list[Figure]:
    """Both learners in turns, at the same networks."""
    own = Worker(sys.executable, "_learner_rate_own.py", {**base, **SAME})
    other = Worker(peer, "_learner_rate_peer.py", base)
    times = np.array([[own.run(updates), other.run(updates)] for _ in track(range(turns), "in turns")])
    own.close()
    other.close()
    wall, cpu = times[..., 0], times[..., 1]
    return [
        figure("state.ratio_to_lerobot", wall[:, 1] / wall[:, 0], "times LeRobot's updates/s", BAR),
        figure("state.processor_time_ratio_to_lerobot", cpu[:, 1] / cpu[:, 0], "times, per processor second"),
        figure("state.same_networks", 1 / wall[:, 0], "updates/s"),
        figure("state.lerobot", 1 / wall[:, 1], "updates/s"),
    ]


def alone(name: str, settings: dict[str, Any], turns: int, updates: int) -> Figure:
    worker = Worker(sys.executable, "_learner_rate_own.py", settings)
    rates = np.array([1 / worker.run(updates)[0] for _ in track(range(turns), name)])
    worker.close()
    return figure(name, rates, "updates/s")


def figure(name: str, samples: np.ndarray, unit: str, bar: float | None = None) -> Figure:
    return Figure(name, float(np.median(samples)), unit, bar, len(samples), bootstrap(samples, np.median))


def bootstrap(samples: np.ndarray, statistic: Callable[..., Any], draws: int = 2000) -> tuple[float, float]:
    """95 % interval of `statistic` over resampled turns."""
    rng = np.random.default_rng(0)
    values = [statistic(rng.choice(samples, len(samples))) for _ in range(draws)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    raise SystemExit(main())
