"""What must be true of a recorded run, whatever was killed. Each check returns what it found wrong."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from data.journal import read_journal
from hardware import limits
from hardware.guard_config import GuardConfig
from robot_rl.delivery import Inbox
from robot_rl.types import EpisodeStart, Transition
from robot_rl.wire_events import decode_envelope
from tests.faults.recorder import Heard, Record

ARMED = "armed"
HEARING_S = 0.25
"""Two topics of one process may be heard this far apart on a busy machine."""
STEP_SLACK_M = 0.02
"""The recorder hears another sample of the measured pose than the guard: some 5 mm per period at full speed,
and the guard bounds the velocity last, so a target may lag behind an arm that overshoots."""


def unsafe_targets(record: Record, config: GuardConfig) -> list[str]:
    """Targets that are malformed, outside the box, too fast, or too far from the measured pose."""
    low, high = np.asarray(config.workspace_low_m), np.asarray(config.workspace_high_m)
    fastest_m = config.speed_m_s * 2 * config.tick_period_s + 1e-6
    fastest_rad = config.speed_rad_s * 2 * config.tick_period_s + 1e-6
    state_times = [state.time_s for state in record.states]
    mode_times = [time_s for time_s, _ in record.modes]
    found = []
    before: Heard | None = None
    for target in record.targets:
        position = target.pose[:3]
        if fault := limits.pose_fault(target.pose, config.quat_tolerance):
            found.append(f"target {target.pose} is {fault}")
            continue
        if (position < low - 1e-6).any() or (position > high + 1e-6).any():
            found.append(f"target {position} lies outside the workspace")
        if before is not None and not _disarmed_between(record, mode_times, before.time_s, target.time_s):
            moved_m, turned_rad = limits.distance(before.pose, target.pose)
            if moved_m > fastest_m or turned_rad > fastest_rad:
                found.append(f"target moved by {moved_m:.4f} m, {turned_rad:.3f} rad in one tick")
        index = bisect_right(state_times, target.time_s) - 1
        # A recorder that has not met the publisher of a new robot yet knows the place of the old one.
        known = index >= 0 and target.time_s - state_times[index] < HEARING_S
        if known and not _disarmed_between(record, mode_times, target.time_s, target.time_s):
            far_m, _ = limits.distance(record.states[index].pose, target.pose)
            if far_m > config.step_m + STEP_SLACK_M:
                age_s = target.time_s - state_times[index]
                found.append(f"target is {far_m:.3f} m from the pose measured {age_s:.3f} s before")
        before = target
    return found


def targets_while_disarmed(record: Record) -> list[str]:
    """Targets that were published although the guard had said that it is not armed."""
    times = [time_s for time_s, _ in record.modes]
    found = []
    for target in record.targets:
        begin = bisect_right(times, target.time_s - HEARING_S)
        end = bisect_left(times, target.time_s + HEARING_S)
        around = [mode for _, mode in record.modes[max(begin - 1, 0) : end]]
        if around and ARMED not in around:
            found.append(f"target {target.pose[:3]} while {around}")
    return found


def moves_without_actor(record: Record, killed_s: float, hold_after_s: float) -> list[str]:
    """From `hold_after_s` after the kill until the next actor disarms the guard, the target rests."""
    ended_s = next((t for t, mode in record.modes if t > killed_s and mode != ARMED), math.inf)
    targets = [target for target in record.targets if killed_s + hold_after_s < target.time_s < ended_s]
    if not targets:
        return []
    moved_m = max(limits.distance(targets[0].pose, target.pose)[0] for target in targets)
    return [f"the target moved by {moved_m:.4f} m while the actor was dead"] if moved_m > 2e-3 else []


def lost_messages(record: Record, journal: Path) -> list[str]:
    """Acknowledged messages that the learner would not have after its next start."""
    frames = [bytes(frame) for frame in read_journal(journal).frames]
    kept: dict[str, set[int]] = {}
    inbox, learned = Inbox(lambda _: None), 0
    learning: set[str] = set()
    for frame in frames:
        envelope = decode_envelope(frame)
        kept.setdefault(envelope.session, set()).add(envelope.sequence)
        for event in inbox.restore(frame):
            if isinstance(event, EpisodeStart) and event.phase == "learn":
                learning.add(event.episode_id)
            learned += isinstance(event, Transition) and event.episode_id in learning
    found = []
    for session, last in record.acks.items():
        if missing := set(range(last + 1)) - kept.get(session, set()):
            found.append(f"{session}: {len(missing)} of {last + 1} acknowledged messages are not in the journal")
    if record.metrics and record.metrics[-1][1]["online_steps"] > learned:
        found.append(f"the learner knew {record.metrics[-1][1]['online_steps']} steps, the journal has {learned}")
    return found


def broken_progress(record: Record) -> list[str]:
    """Counts that went back although they are kept on disk."""
    found = []
    for name in ("episode", "env_steps"):
        values = [episode[name] for episode in record.episodes]
        found += _falls(name, values)
    found += _falls("online_steps", [metrics["online_steps"] for _, metrics in record.metrics])
    for _, metrics in record.metrics:
        if metrics["realized_utd"] > metrics["target_utd"] + 1e-6:
            found.append(f"{metrics['realized_utd']} updates per step, {metrics['target_utd']} were asked for")
    return found


def _falls(name: str, values: Sequence[float]) -> list[str]:
    return [f"{name} fell from {before} to {after}" for before, after in pairwise(values) if after < before]


def _disarmed_between(record: Record, mode_times: list[float], began_s: float, ended_s: float) -> bool:
    """The guard was disarmed at some moment between two targets, as far as can be heard."""
    if ended_s - began_s > HEARING_S:
        return True
    begin, end = bisect_left(mode_times, began_s - HEARING_S), bisect_right(mode_times, ended_s + HEARING_S)
    return any(mode != ARMED for _, mode in record.modes[begin:end])
