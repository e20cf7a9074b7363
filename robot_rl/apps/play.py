"""Gather play: a scripted player moves things about in simulation, without a task, into an episode store.

  robot-rl play cube-single --episodes 1000                    OGBench's scripted oracles (about 1M steps)
  robot-rl play lift --episodes 200 --out runs/play/lift       robosuite
  robot-rl play scene --episodes 100 --cameras front --jobs 4

Ctrl-C keeps what is whole; the same command goes on from there. Episode i is the same whatever --jobs is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.recorder import EpisodeRecorder
from robot_rl.apps.config import not_negative, positive
from robot_rl.apps.players import CHOICES, Playground, make_playground
from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.intervention import Intervention, NoHuman
from robot_rl.loop import run_episode
from robot_rl.types import STATE_KEY, EpisodeEnd, EpisodeStart, Transition
from robot_rl.wire import EpisodeDecoder, EpisodeEncoder
from sim.seeding import seeded

STRIDE = 1 << 20
"""Episodes that one seed has, at most."""
ATTEMPTS = 64
DONE, FAILED = b"done", b"fail"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=CHOICES)
    parser.add_argument("--episodes", type=positive, default=1000, help="how many there shall be (default: 1000)")
    parser.add_argument("--out", type=Path, help="the episode store (default: runs/play/<task>)")
    parser.add_argument("--seed", type=not_negative, default=0)
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--cameras", nargs="*", default=(), help="cameras to record, e.g. front")


def run(args: argparse.Namespace) -> int:
    console = Console()
    path = args.out or Path("runs/play") / args.task
    if args.episodes > STRIDE:
        raise ConfigError(f"--episodes must be at most {STRIDE}; use several seeds")
    ground = make_playground(args.task, tuple(args.cameras))
    configuration = {"play": args.task, "seed": args.seed, "cameras": list(args.cameras)}
    recorder = EpisodeRecorder(path, ground.env.observation_spec, ground.env.action_spec, configuration=configuration)
    ground.env.close()
    try:
        seeds = {info.seed for info in recorder.store.infos if info.usable and info.seed is not None}
        there = {seed % STRIDE for seed in seeds if seed // STRIDE // ATTEMPTS == args.seed}
        missing = [index for index in range(args.episodes) if index not in there]
        if missing:
            _gather(args, recorder, missing, console)
    finally:
        recorder.close()
    console.print(f"{path}: {len(recorder.store)} episodes, {recorder.store.steps} steps")
    return 0


def play_seed(seed: int, index: int, attempt: int) -> int:
    """Of the episode: from it the index can be told again."""
    return (seed * ATTEMPTS + attempt) * STRIDE + index


def _gather(args: argparse.Namespace, recorder: EpisodeRecorder, missing: list[int], console: Console) -> None:
    """Let `--jobs` processes play the missing episodes, and record what they send."""
    context = multiprocessing.get_context("spawn")
    jobs = min(args.jobs, len(missing))
    workers = []
    pipes: list[Connection] = []
    for job in range(jobs):
        ours, theirs = context.Pipe(duplex=False)
        work = (theirs, args.task, tuple(args.cameras), args.seed, missing[job::jobs])
        worker = context.Process(target=_work, args=work, daemon=True)
        worker.start()
        theirs.close()
        workers.append(worker)
        pipes.append(ours)
    columns = (TextColumn("play"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task("play", total=args.episodes, completed=args.episodes - len(missing))
            for _ in _record(pipes, recorder):
                bars.advance(bar)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _record(pipes: list[Connection], recorder: EpisodeRecorder) -> Iterator[None]:
    """Yields after each episode, once it is on the disk."""
    decoder = EpisodeDecoder()
    open_pipes = set(pipes)
    while open_pipes:
        for pipe in wait(list(open_pipes)):
            assert isinstance(pipe, Connection)
            try:
                data = pipe.recv_bytes()
            except EOFError as error:
                raise RobotRlError("a playing process died; what was whole is kept, run again to go on") from error
            if data == DONE:
                open_pipes.discard(pipe)
            elif data.startswith(FAILED):
                raise RobotRlError(f"playing failed: {data.removeprefix(FAILED).decode()}")
            elif envelope := decoder.decode(data):
                recorder.write(envelope, data)
                if isinstance(envelope.event, EpisodeEnd):
                    recorder.flush()
                    yield


def _work(pipe: Connection, task: str, cameras: tuple[str, ...], seed: int, indices: list[int]) -> None:
    """One process: plays `indices` and sends each whole episode, as the wire's bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        ground = make_playground(task, cameras)
        encoder = EpisodeEncoder(f"play-{os.getpid()}")
        for index in indices:
            for event in _healthy_episode(ground, seed, index):
                pipe.send_bytes(encoder.encode(event)[1])
        pipe.send_bytes(DONE)
    except BrokenPipeError:
        sys.exit(0)  # the parent is gone
    except RobotRlError as error:
        pipe.send_bytes(FAILED + str(error).encode())


Events = list[EpisodeStart | Transition | EpisodeEnd]


def _healthy_episode(ground: Playground, seed: int, index: int) -> Events:
    for attempt in range(ATTEMPTS):
        episode_seed = play_seed(seed, index, attempt)
        log = _Events()
        control = Intervention(ground.player, NoHuman(ground.env.action_spec.dim), ground.env.action_spec)
        with seeded(None, episode_seed):
            ground.seed(episode_seed)
            run_episode(ground.env, control, [log], phase="play", seed=episode_seed)
        states = [event.next_observation[STATE_KEY] for event in log.events if isinstance(event, Transition)]
        if ground.healthy(np.asarray(states)):
            return log.events
    raise RobotRlError(f"{ATTEMPTS} attempts at episode {index} lost an object; please report this")


class _Events:
    """Subscriber that keeps everything."""

    def __init__(self) -> None:
        self.events: Events = []

    def on_start(self, start: EpisodeStart) -> None:
        self.events.append(start)

    def on_step(self, transition: Transition) -> None:
        self.events.append(transition)

    def on_end(self, end: EpisodeEnd) -> None:
        self.events.append(end)
