"""How long a chunk of 16 actions takes, against LeRobot's DiffusionPolicy, DDIM-10 and the bare network.

  python benchmarks/chunk_latency.py --quick --setup-peer runs/peer       # installs LeRobot there (several GB), once
  python benchmarks/chunk_latency.py --lerobot-python runs/peer/bin/python --out benchmarks/results/chunk_latency.json

All live in processes of their own, wait while another runs, and take turns; a ratio is the median over the turns,
its interval a bootstrap over them. The policy is `policy=score` for cube-single, at its defaults. DDIM-10 is the same
network in ten steps, with the same fast path. Against it and against the bare network everything is exported to
onnxruntime, as for a robot PC without a GPU; figures in `.torch` are those of PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, add_arguments, write_result
from learner_rate import Worker, bootstrap, setup_peer
from rich.progress import track

BASE: dict[str, Any] = {"task": "cube-single", "state_dim": 28, "action_dim": 5, "overrides": []}
DDIM_10 = ["policy.sampler=ddim", "policy.steps=10"]
BARS = {"lerobot": 200.0, "ddim10": 3.0, "network": 1.0 / 1.3}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--lerobot-python", help="interpreter of an environment with LeRobot 0.4.4")
    parser.add_argument("--setup-peer", type=Path, metavar="DIR", help="create that environment first")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    args = parser.parse_args()
    peer = args.lerobot_python or (setup_peer(args.setup_peer) if args.setup_peer else None)
    figures = measure(args.seed, peer, args.threads, turns=10 if args.quick else 30)
    write_result(args, figures, {"threads": args.threads})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def measure(seed: int, peer: str | None, threads: int, turns: int) -> list[Figure]:
    """All figures; those against LeRobot only with the interpreter of its environment."""
    base = {**BASE, "seed": seed, "threads": threads}
    own = {
        "policy": ("policy", [], 20),
        "network": ("network", [], 20),
        "ddim10": ("policy", DDIM_10, 10),
        "bundle": ("bundle", [], 60),
        "ddim10_bundle": ("bundle", DDIM_10, 30),
        "network_bundle": ("network_bundle", [], 60),
    }
    subjects = {
        name: (
            Worker(sys.executable, "_chunk_latency_own.py", {**base, "subject": subject, "overrides": overrides}),
            count,
        )
        for name, (subject, overrides, count) in own.items()
    }
    if peer:
        subjects["lerobot"] = (Worker(peer, "_chunk_latency_peer.py", base), 1)
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in track(range(turns), "in turns"):
        for name, (worker, count) in subjects.items():
            times[name].append(worker.run(count)[0])
    for worker, _ in subjects.values():
        worker.close()
    seconds = {name: np.array(values) for name, values in times.items()}
    policy, bundle = seconds["policy"], seconds["bundle"]
    unit, share = "times as fast, same network", "of the chunk's time"
    figures = [
        _figure("chunk_latency_ratio_to_ddim10", seconds["ddim10_bundle"] / bundle, unit, BARS["ddim10"]),
        _figure("chunk_latency_ratio_to_ddim10.torch", seconds["ddim10"] / policy, unit, None),
        _figure("chunk_latency_network_share", seconds["network_bundle"] / bundle, share, BARS["network"]),
        _figure("chunk_latency_network_share.torch", seconds["network"] / policy, share, None),
        _figure("chunk_latency_bundle_ratio", policy / bundle, "times as fast, onnxruntime", None),
        _figure("chunk_latency_ms", 1e3 * policy, "ms", None),
        _figure("chunk_latency_ms.bundle", 1e3 * bundle, "ms", None),
    ]
    if peer:
        ratio = seconds["lerobot"] / policy
        figures.insert(
            0, _figure("chunk_latency_ratio_to_lerobot", ratio, "times as fast, its defaults", BARS["lerobot"])
        )
    return figures


def _figure(name: str, samples: np.ndarray, unit: str, bar: float | None) -> Figure:
    return Figure(name, float(np.median(samples)), unit, bar, len(samples), bootstrap(samples, np.median))


if __name__ == "__main__":
    raise SystemExit(main())
