"""The checks of the fault tests find what they are there to find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.journal import Journal
from hardware.guard_config import GuardConfig
from robot_rl.types import EpisodeStart, Transition
from robot_rl.wire import EpisodeEncoder
from tests.faults import checks
from tests.faults.recorder import Heard, Record

LIMITS = GuardConfig(workspace_low_m=(0.0, -0.5, 0.0), workspace_high_m=(1.0, 0.5, 1.0))
TICK_S = LIMITS.tick_period_s


def pose(x_m: float, *, y_m: float = 0.0) -> np.ndarray:
    return np.array([x_m, y_m, 0.3, 0.0, 1.0, 0.0, 0.0])


def sound_record() -> Record:
    """Armed for two seconds, moving at 0.2 m/s; the arm follows."""
    record = Record(modes=[(-1.0, "disarmed"), (-0.5, "armed"), (2.5, "disarmed")])
    for tick in range(100):
        time_s, x_m = tick * TICK_S, 0.3 + 0.2 * tick * TICK_S
        record.states.append(Heard(time_s - 0.001, pose(x_m - 0.01)))
        record.targets.append(Heard(time_s, pose(x_m)))
    return record


def test_a_sound_record_passes() -> None:
    record = sound_record()
    assert checks.unsafe_targets(record, LIMITS) == []
    assert checks.targets_while_disarmed(record) == []


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (pose(float("nan")), "not finite"),
        (np.array([0.4, 0, 0.3, 0.0, 1.1, 0.0, 0.0]), "quaternion"),
        (pose(0.4, y_m=0.6), "outside the workspace"),
        (pose(0.45), "in one tick"),
    ],
)
def test_unsafe_targets_are_found(broken: np.ndarray, words: str) -> None:
    record = sound_record()
    record.targets[40] = Heard(record.targets[40].time_s, broken)
    assert any(words in problem for problem in checks.unsafe_targets(record, LIMITS))


def test_a_target_far_from_the_arm_is_found() -> None:
    record = sound_record()
    record.states = [Heard(state.time_s, pose(0.2)) for state in record.states]
    assert any("from the pose measured" in problem for problem in checks.unsafe_targets(record, LIMITS))


def test_a_new_start_after_a_reset_is_no_jump() -> None:
    record = sound_record()
    record.modes.append((3.5, "armed"))
    for tick in range(10):
        record.states.append(Heard(4.0 + tick * TICK_S - 0.001, pose(0.8)))
        record.targets.append(Heard(4.0 + tick * TICK_S, pose(0.8)))
    assert checks.unsafe_targets(record, LIMITS) == []


def test_targets_while_disarmed_are_found() -> None:
    record = sound_record()
    record.targets.append(Heard(4.0, pose(0.5)))
    assert len(checks.targets_while_disarmed(record)) == 1


def test_movement_without_an_actor_is_found() -> None:
    record = sound_record()
    assert checks.moves_without_actor(record, 0.0, 0.5) != []
    assert checks.moves_without_actor(record, 2.0, 0.5) == []


def journal_of(path: Path, steps: int, encoder: EpisodeEncoder) -> None:
    """A journal with an episode of `steps` learning steps, without its end."""
    state, action = {"state": np.zeros(2, np.float32)}, np.zeros(2, np.float32)
    journal = Journal(path)
    journal.append(encoder.encode(EpisodeStart("e", "learn", state, 0.0))[1])
    for step in range(steps):
        journal.append(
            encoder.encode(Transition("e", step, state, action, action, False, 0.0, state, False, False, 0.0, 0))[1]
        )
    journal.close()


def test_lost_acknowledged_messages_are_found(tmp_path: Path) -> None:
    journal_of(tmp_path / "journal", 5, EpisodeEncoder("actor-1"))
    metrics = [(0.0, {"online_steps": 5.0})]
    assert checks.lost_messages(Record(acks={"actor-1": 5}, metrics=metrics), tmp_path / "journal") == []
    lost = checks.lost_messages(Record(acks={"actor-1": 6, "actor-2": 0}), tmp_path / "journal")
    assert len(lost) == 2
    metrics = [(0.0, {"online_steps": 6.0})]
    assert len(checks.lost_messages(Record(metrics=metrics), tmp_path / "journal")) == 1


def test_counts_that_fall_and_updates_ahead_of_the_ratio_are_found() -> None:
    def told(steps: float, updates: float) -> tuple[float, dict[str, float]]:
        return 0.0, {"online_steps": steps, "realized_utd": updates / steps, "target_utd": 2.0}

    episodes = [{"episode": 1, "env_steps": 50}, {"episode": 2, "env_steps": 90}]
    assert checks.broken_progress(Record(episodes=episodes, metrics=[told(10, 20), told(20, 40)])) == []
    assert len(checks.broken_progress(Record(episodes=episodes[::-1]))) == 2
    assert len(checks.broken_progress(Record(metrics=[told(20, 40), told(10, 20)]))) == 1
    assert len(checks.broken_progress(Record(metrics=[told(10, 23)]))) == 1
