"""The learner's thread: fixed ratio, restarts, checkpoints. The line is a stand-in; the rest is real."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from data.memory import ExperienceMemory
from hardware.nodes.learner import LearningLoop
from robot_rl.batch import Batch, Returns
from robot_rl.learner import Learner, LearnerConfig
from robot_rl.types import ActionSpec, ArraySpec, EpisodeEnd, EpisodeStart, ObservationSpec, Transition
from robot_rl.wire import Event

OBSERVATION = ObservationSpec({"state": ArraySpec((3,))})
ACTION = ActionSpec(("x", "y"), 0.02, 0.1)
CONFIG = LearnerConfig(
    batch_size=8, utd=2.0, warmup_steps=10, pretrain_updates=0, capacity=1000, publish_every=5, keep_checkpoints=3
)


class CountingAlgorithm:
    """Its only parameter is the number of updates."""

    returns = Returns()
    imitation_updates = 0

    def __init__(self) -> None:
        self.count = torch.zeros(())

    def update(self, batch: Batch) -> dict[str, Tensor]:
        assert len(batch) == CONFIG.batch_size
        self.count = self.count + 1
        return {"loss": 1.0 / self.count}

    def policy_state(self) -> Mapping[str, Tensor]:
        return {"count": self.count.clone()}

    def state_dict(self) -> Mapping[str, Tensor]:
        return {"count": self.count.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.count = state["count"].clone()


class Line:
    """What the loop uses of `RosLearnerEndpoint`."""

    def __init__(self, kept: list[Event]) -> None:
        self.kept = kept
        self.incoming: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.flush_wanted = threading.Event()
        self.malformed = 0
        self.published: list[tuple[int, float]] = []
        self.settled: list[int] = []

    def restore(self) -> Iterator[Event]:
        yield from self.kept

    def publish(self, version: int, tensors: Mapping[str, Tensor]) -> None:
        self.published.append((version, float(tensors["count"])))

    def settle(self, taken: int) -> None:
        self.flush_wanted.clear()
        self.settled.append(taken)

    def sync(self) -> None:
        pass

    def hear(self, event: Event) -> None:
        self.kept.append(event)
        self.incoming.put(event)


class Metrics:
    def __init__(self) -> None:
        self.said: list[dict[str, float]] = []

    def publish(self, message: Any) -> None:
        self.said.append(json.loads(message.data))


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, **_: object) -> None:
        self.lines.append(text)

    warning = error = info


class Bench:
    """One life of the learner process on `directory`, with what its journal holds."""

    def __init__(self, directory: Path, kept: list[Event]) -> None:
        memory = ExperienceMemory(OBSERVATION, ACTION, CONFIG.capacity, 0, Returns())
        self.learner = Learner(CountingAlgorithm(), memory, CONFIG)
        self.line, self.metrics, self.log = Line(kept), Metrics(), Log()
        self.loop = LearningLoop(
            self.learner, cast(Any, self.line), directory, cast(Any, self.metrics), cast(Any, self.log)
        )
        self.loop.restore()
        self.loop.start()

    def wait_for_updates(self, count: int) -> None:
        deadline_s = time.monotonic() + 20.0
        while self.learner.updates < count:
            assert self.loop.error is None, self.loop.error
            assert time.monotonic() < deadline_s, f"{self.learner.updates} of {count} updates"
            time.sleep(0.005)


def episode(name: str, steps: int, phase: str = "learn") -> list[Event]:
    state = {"state": np.zeros(3, np.float32)}
    action = np.zeros(2, np.float32)
    events: list[Event] = [EpisodeStart(name, phase, state, 0.0)]
    for step in range(steps):
        last = step == steps - 1
        events.append(
            Transition(name, step, state, action, action, False, float(last), state, last, False, step / 10, 0)
        )
    return [*events, EpisodeEnd(name, True, steps, 1.0, 0)]


def test_bug_8_learns_at_the_ratio_and_never_ahead_of_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [])
    for event in episode("a", 30):
        bench.line.hear(event)
    bench.wait_for_updates(60)
    time.sleep(0.3)
    assert bench.learner.updates == 60
    assert bench.learner.realized_utd == pytest.approx(2.0)
    versions = [version for version, _ in bench.line.published]
    assert versions[0] == 0 and versions == sorted(versions)
    assert all(version == count for version, count in bench.line.published)
    assert all(after - before >= CONFIG.publish_every for before, after in pairwise(versions))
    bench.loop.stop()


def test_goes_on_after_a_kill_with_the_ratio_kept(tmp_path: Path) -> None:
    """Killed after its checkpoint: updates since then are done again, none twice over."""
    kept: list[Event] = []
    first = Bench(tmp_path, kept)
    for event in episode("a", 30):
        first.line.hear(event)
    first.wait_for_updates(60)
    assert first.loop.save(timeout_s=10.0)
    for event in episode("b", 10):
        first.line.hear(event)
    first.wait_for_updates(80)
    first.loop._stop.set()  # as good as dead: it writes nothing any more
    second = Bench(tmp_path, kept)
    assert second.learner.memory.online_steps == 40
    second.wait_for_updates(80)
    time.sleep(0.2)
    assert second.learner.updates == 80
    assert float(second.learner.algorithm.state_dict()["count"]) == 80
    assert second.line.published[0] == (60, 60.0)
    second.loop.stop()


def test_curves_of_updates_that_a_kill_undid_are_dropped(tmp_path: Path) -> None:
    kept: list[Event] = []
    first = Bench(tmp_path, kept)
    assert first.loop.save(timeout_s=10.0)
    for event in episode("a", 30):
        first.line.hear(event)
    first.wait_for_updates(60)
    first.loop._stop.set()
    first.loop._tell(1.0)
    first.loop._board.flush()
    second = Bench(tmp_path, kept[:21])
    second.wait_for_updates(40)
    second.loop._tell(1.0)
    second.loop.stop()
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    steps = [point.step for point in curves.Scalars("updates")]
    assert steps == sorted(set(steps)) and steps[-1] == 40


def test_bug_10_existing_and_damaged_checkpoints_do_no_harm(tmp_path: Path) -> None:
    """Saving twice at one step is fine, and a checkpoint that cannot be read is put aside for the one before."""
    kept: list[Event] = []
    first = Bench(tmp_path, kept)
    for event in episode("a", 20):
        first.line.hear(event)
    first.wait_for_updates(40)
    first.loop.stop()
    again = Bench(tmp_path, kept)
    again.loop.stop()  # saves step 40 a second time
    newer = tmp_path / "checkpoints" / "step_000000099"
    newer.mkdir()
    (newer / "learner.json").write_text('{"updates": 99}')
    (newer / "algorithm.safetensors").write_bytes(b"not tensors")
    (tmp_path / "checkpoints" / ".partial_000000050_1").mkdir()
    third = Bench(tmp_path, kept)
    assert third.learner.updates == 40
    assert any("not a usable checkpoint" in line for line in third.log.lines)
    third.loop.stop()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert "step_000000040" in names and not any(name.startswith((".partial", "step_000000099")) for name in names)


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [])
    for number in range(5):
        for event in episode(f"e{number}", 10):
            bench.line.hear(event)
        bench.wait_for_updates(20 * (number + 1) if number else 0)
        assert bench.loop.save(timeout_s=10.0)
    bench.loop.stop()
    kept = [int(path.name.removeprefix("step_")) for path in (tmp_path / "checkpoints").glob("step_*")]
    assert len(kept) == 3 and max(kept) == 100


def test_a_flush_is_answered_when_nothing_is_due(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [])
    for event in episode("a", 23):
        bench.line.hear(event)
    bench.line.flush_wanted.set()
    deadline_s = time.monotonic() + 20.0
    while not bench.line.settled:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    bench.loop.stop()
    # It may have been asked before everything had arrived; whatever was settled was published.
    assert bench.line.published[-1][0] >= 2 * (bench.line.settled[-1] - 2) > 0


def test_experience_that_does_not_fit_is_counted_and_learning_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [])
    odd = {"state": np.zeros(7, np.float32)}
    bench.line.hear(EpisodeStart("odd", "learn", odd, 0.0))
    for event in episode("a", 20):
        bench.line.hear(event)
    bench.wait_for_updates(40)
    deadline_s = time.monotonic() + 20.0
    while not bench.metrics.said:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    bench.loop.stop()
    assert bench.loop.rejected == 1
    assert bench.metrics.said[-1]["rejected_events"] == 1
    assert any("the same configuration" in line for line in bench.log.lines)
