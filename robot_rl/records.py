"""What happened, per episode: the source of every curve, table and summary."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robot_rl.errors import DataError
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition

RECENT_EPISODES = 20
"""Over how many episodes a running figure is taken."""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One episode in figures."""

    phase: str
    success: bool
    steps: int
    interventions: int  # steps in which the person acted
    duration_s: float  # first observation to last
    reset_s: float  # bringing robot and objects to the start
    env_steps: int  # learning steps so far, this episode included
    wall_s: float  # since the record began
    policy_version: int
    discarded: bool = False


class EpisodeLog:
    """Subscriber that keeps an `EpisodeRecord` per episode, in memory and as JSON lines on disk."""

    def __init__(self, path: Path | None = None, on_record: Callable[[EpisodeRecord], None] | None = None) -> None:
        self.records: list[EpisodeRecord] = _repaired(path) if path and path.exists() else []
        self._path = path
        self._on_record = on_record
        self._began_s = time.monotonic() - (self.records[-1].wall_s if self.records else 0.0)
        self._phase = ""
        self._reset_s = 0.0
        self._version = 0

    @property
    def env_steps(self) -> int:
        """Environment steps taken while learning."""
        return self.records[-1].env_steps if self.records else 0

    def of(self, phase: str) -> list[EpisodeRecord]:
        return [record for record in self.records if record.phase == phase and not record.discarded]

    def on_start(self, start: EpisodeStart) -> None:
        self._phase = start.phase
        self._reset_s = start.reset_s

    def on_step(self, transition: Transition) -> None:
        self._version = transition.policy_version

    def on_end(self, end: EpisodeEnd) -> None:
        learned = end.steps if self._phase == "learn" else 0
        record = EpisodeRecord(
            phase=self._phase,
            success=end.success,
            steps=end.steps,
            interventions=end.interventions,
            duration_s=end.duration_s,
            reset_s=self._reset_s,
            env_steps=self.env_steps + learned,
            wall_s=time.monotonic() - self._began_s,
            policy_version=self._version,
            discarded=end.discarded,
        )
        self.records.append(record)
        if self._path is not None:
            with self._path.open("a") as stream:
                stream.write(json.dumps(asdict(record)) + "\n")
        if self._on_record is not None:
            self._on_record(record)


def read_records(path: Path) -> list[EpisodeRecord]:
    """Read JSON lines; a torn last line (the writer was killed) is dropped, damage elsewhere raises."""
    lines = path.read_text().splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(EpisodeRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise DataError(f"{path}:{number} is not an episode record: {error}") from error
    return records


def _repaired(path: Path) -> list[EpisodeRecord]:
    """Read, and cut off a torn last line, which the next record would otherwise be joined to."""
    records = read_records(path)
    whole = "".join(json.dumps(asdict(record)) + "\n" for record in records)
    if path.read_text() != whole:
        partial = path.with_suffix(".partial")
        partial.write_text(whole)
        partial.replace(path)
    return records


def find_records(run_dir: Path) -> list[EpisodeRecord]:
    """The episodes of a run, of one process or of an actor process; empty when there are none yet."""
    for path in (run_dir / "episodes.jsonl", run_dir / "actor" / "episodes.jsonl"):
        if path.exists():
            return read_records(path)
    return []


def without_nan(value: Any) -> Any:
    """For JSON, which knows no NaN: what was not measured is null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def success_rate(records: Iterable[EpisodeRecord]) -> float:
    """Share of successful episodes; NaN without episodes."""
    outcomes = [record.success for record in records]
    return sum(outcomes) / len(outcomes) if outcomes else float("nan")


def intervention_rate(records: Iterable[EpisodeRecord]) -> float:
    """Share of steps in which the person acted; NaN without steps."""
    records = list(records)
    steps = sum(record.steps for record in records)
    return sum(record.interventions for record in records) / steps if steps else float("nan")


def learning_curves(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Points of the learning curves after the last of `records`, episodes of learning, by TensorBoard's names."""
    recent = records[-RECENT_EPISODES:]
    return {
        "episode/success_rate": success_rate(recent),
        "episode/intervention_rate": intervention_rate(recent),
        "episode/steps": float(recent[-1].steps),
    }


def duty_cycle(records: Iterable[EpisodeRecord], rate_hz: float) -> float:
    """Share of the learning wall clock, resets excluded, in which the robot collected data; NaN without.

    A step counts as one nominal control period, so a loop that runs late, waits for parameters or
    pauses between episodes lowers the figure.
    """
    learned = [record for record in records if record.phase == "learn"]
    if not learned:
        return float("nan")
    began_s = learned[0].wall_s - learned[0].duration_s - learned[0].reset_s
    busy_s = learned[-1].wall_s - began_s - sum(record.reset_s for record in learned)
    return sum(record.steps for record in learned) / rate_hz / busy_s
