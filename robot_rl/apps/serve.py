"""Serve a policy to robots whose computers have no room for it: `evaluate --remote`, `up graph=deploy remote=...`.

  robot-rl serve runs/imitate/lift_score_seed0 --device cuda --cuda-graph
  robot-rl serve runs/imitate/lift_score_seed0 policy.steps=10 --host 0.0.0.0 --token-file ~/.config/robot-rl/token

Stays on 127.0.0.1 unless told otherwise; other machines come through an SSH tunnel, or with the token. The token does
not encrypt anything: beyond a network that you trust use the tunnel, or a proxy that does TLS (wss://).
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import numpy as np
from rich.console import Console

from policies.serving import PolicyServer
from policies.sources import ManySource, as_many
from policies.torch_source import TorchSource
from robot_rl.apps.config import add_overrides
from robot_rl.apps.imitation import ImitationExperiment, build_model
from robot_rl.apps.runs import checkpoint_version, find_checkpoint, load_bundle, read_policy, read_run
from robot_rl.errors import ConfigError
from robot_rl.network import check_address, read_token

PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a run of `robot-rl imitate` or `offline`, or one checkpoint in it")
    add_overrides(parser)
    parser.add_argument("--bundle", type=Path, help="serve this exported bundle instead of the checkpoint")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--cuda-graph", action="store_true", help="on a GPU: sample single chunks by a CUDA graph")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=PORT, help=f"0 takes a free one (default: {PORT})")
    parser.add_argument("--token-file", type=Path, help="a file with what clients must know")


def run(args: argparse.Namespace) -> int:
    console = Console()
    token = read_token(args.token_file)
    check_address(args.host, args.port, token, "--token-file")  # before a network is loaded
    run_dir, checkpoint = find_checkpoint(args.path)
    experiment = read_run(run_dir, args.overrides)
    if not isinstance(experiment, ImitationExperiment):
        raise ConfigError(f"{run_dir} holds a policy that acts step by step; chunk policies are served")
    source, version = _load(experiment, checkpoint, args)
    task = experiment.task
    _warm_up(source, experiment)
    specs = (task.observation_spec, task.action_spec)
    server = PolicyServer(
        source, *specs, rate_hz=task.rate_hz, version=version, host=args.host, port=args.port, token=token
    )
    console.print(f"{checkpoint.name if args.bundle is None else args.bundle} of {run_dir.name} at {server.url}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        server.close()
    return 0


def _load(experiment: ImitationExperiment, checkpoint: Path, args: argparse.Namespace) -> tuple[ManySource, int]:
    """What is served, and its version."""
    if args.bundle and args.cuda_graph:
        raise ConfigError("--cuda-graph is of a policy's own network; a bundle runs on onnxruntime")
    if args.bundle:
        return as_many(load_bundle(experiment, args.bundle, overrides=args.overrides).source), 0
    model = build_model(experiment, experiment.task.observation_spec, experiment.task.action_spec)
    source = TorchSource(model, args.device, args.cuda_graph)
    source.load(read_policy(checkpoint))
    return source, checkpoint_version(checkpoint)


def _warm_up(source: ManySource, experiment: ImitationExperiment) -> None:
    """The first sampling takes long, and a robot would wait for it."""
    arrays = experiment.task.observation_spec.arrays
    seen = {key: np.zeros((source.history, *one.shape), one.dtype) for key, one in arrays.items()}
    noise = np.zeros((1, source.horizon, experiment.task.action_spec.dim), np.float32)
    source.sample_many(seen, None, noise, 0, None)
