"""Simulated episodes into an episode store, in parallel and resumable: what `play` and `demonstrate` share.

Episode i is the same whatever the number of processes. What is whole is kept, and the next run goes on from there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.episode import EpisodeInfo
from data.recorder import EpisodeRecorder
from data.store import EpisodeStore
from robot_rl.apps.config import not_negative, positive
from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.intervention import Intervention
from robot_rl.loop import run_episode
from robot_rl.protocols import Env
from robot_rl.types import STATE_KEY, EpisodeEnd, EpisodeStart, FloatArray, Transition
from robot_rl.wire import EpisodeDecoder, EpisodeEncoder
from sim.seeding import seeded

STRIDE = 1 << 20
"""Episodes that one seed has, at most."""
ATTEMPTS = 64
DONE, FAILED = b"done", b"fail"


@dataclass(frozen=True)
class Scene:
    """A simulated world, and who acts in it."""

    env: Env
    phase: str
    """Of the episodes."""
    enter: Callable[[int, int], tuple[Intervention, str]]
    """Who acts in episode `index` with `seed`, and the operator's name if there is one; repeatable."""
    healthy: Callable[[FloatArray], bool] = lambda states: True
    """Whether an episode of these states (T, S) may be kept."""


@dataclass(frozen=True)
class Order:
    """Which episodes there shall be."""

    episodes: int
    """Numbers 0 to `episodes` - 1."""
    seed: int = 0
    """Each has `STRIDE` episodes of its own."""
    jobs: int = 1
    """Processes."""

    def __post_init__(self) -> None:
        if self.episodes > STRIDE:
            raise ConfigError(f"--episodes must be at most {STRIDE}; use several seeds")


def add_order(parser: ArgumentParser, episodes: int) -> None:
    """The arguments of an `Order`, and `--cameras`."""
    parser.add_argument("--episodes", type=positive, default=episodes, help=f"how many in all (default: {episodes})")
    parser.add_argument("--seed", type=not_negative, default=0)
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--cameras", nargs="*", default=(), help="cameras to record, e.g. front")


def gather(
    make: Callable[[], Scene], order: Order, path: Path, configuration: Mapping[str, Any], console: Console
) -> EpisodeStore:
    """Add the episodes of `order` that the store at `path` lacks; `make` (picklable) builds each process's scene."""
    scene = make()
    recorder = EpisodeRecorder(path, scene.env.observation_spec, scene.env.action_spec, configuration=configuration)
    scene.env.close()
    try:
        _set_torn_aside(recorder.store, order.seed, scene.phase)
        there = gathered(recorder.store, order.seed)
        missing = [index for index in range(order.episodes) if index not in there]
        if missing:
            _share_out(make, order, missing, scene.phase, recorder, console)
    finally:
        recorder.close()
    return recorder.store


def gathered(store: EpisodeStore, seed: int, synthetic: bool = False) -> dict[int, EpisodeInfo]:
    """The usable episodes of `seed` by their numbers, of the recorded or of the `synthetic` ones."""
    infos = [info for info in store.infos if info.usable and info.synthetic == synthetic]
    seeds = {info.seed: info for info in infos if info.seed is not None}
    return {one % STRIDE: info for one, info in seeds.items() if one // STRIDE // ATTEMPTS == seed}


def _set_torn_aside(store: EpisodeStore, seed: int, phase: str) -> None:
    """Discard what a killed run left in its midst: the same episode is made again, whole."""
    for one in gathered(store, seed).values():
        if one.recovered and one.phase == phase:
            store.replace_info(store.infos.index(one), replace(one, discarded=True))


def start_seed(seed: int, index: int, attempt: int) -> int:
    """Of the episode: from it the index can be told again."""
    return (seed * ATTEMPTS + attempt) * STRIDE + index


def _share_out(
    make: Callable[[], Scene],
    order: Order,
    missing: list[int],
    title: str,
    recorder: EpisodeRecorder,
    console: Console,
) -> None:
    """Let `order.jobs` processes run the missing episodes, and record what they send."""
    context = multiprocessing.get_context("spawn")
    jobs = min(order.jobs, len(missing))
    workers = []
    pipes: list[Connection] = []
    for job in range(jobs):
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(theirs, make, order.seed, missing[job::jobs]), daemon=True)
        worker.start()
        theirs.close()
        workers.append(worker)
        pipes.append(ours)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task(title, total=order.episodes, completed=order.episodes - len(missing))
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
                raise RobotRlError("a process died; what was whole is kept, run again to go on") from error
            if data == DONE:
                open_pipes.discard(pipe)
            elif data.startswith(FAILED):
                raise RobotRlError(f"an episode failed: {data.removeprefix(FAILED).decode()}")
            elif envelope := decoder.decode(data):
                recorder.write(envelope, data)
                if isinstance(envelope.event, EpisodeEnd):
                    recorder.flush()
                    yield


def _work(pipe: Connection, make: Callable[[], Scene], seed: int, indices: list[int]) -> None:
    """One process: runs `indices` and sends each whole episode, as the wire's bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        scene = make()
        encoder = EpisodeEncoder(f"{scene.phase}-{os.getpid()}")
        for index in indices:
            for event in _healthy_episode(scene, seed, index):
                pipe.send_bytes(encoder.encode(event)[1])
        pipe.send_bytes(DONE)
    except BrokenPipeError:
        sys.exit(0)  # the parent is gone
    except RobotRlError as error:
        pipe.send_bytes(FAILED + str(error).encode())


Events = list[EpisodeStart | Transition | EpisodeEnd]


def _healthy_episode(scene: Scene, seed: int, index: int) -> Events:
    for attempt in range(ATTEMPTS):
        episode_seed = start_seed(seed, index, attempt)
        log = _Events()
        with seeded(None, episode_seed):
            control, operator = scene.enter(index, episode_seed)
            run_episode(scene.env, control, [log], phase=scene.phase, seed=episode_seed, operator=operator)
        states = [event.next_observation[STATE_KEY] for event in log.events if isinstance(event, Transition)]
        if scene.healthy(np.asarray(states)):
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
