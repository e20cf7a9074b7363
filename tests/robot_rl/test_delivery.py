"""Events reach the learner exactly once and in order, whatever the line and the learner do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.delivery import DeliveryConfig, Inbox, Outbox, OutboxFullError
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from robot_rl.wire import Ack, Event

CONFIG = DeliveryConfig(window_messages=4, stall_s=1.0)


def episode(name: str, steps: int, *, ends: bool = True, phase: str = "learn") -> list[Event]:
    """A whole episode whose observations say which step they belong to."""

    def seen(step: int) -> dict[str, np.ndarray]:
        return {"state": np.array([step, 7], np.float32)}

    events: list[Event] = [EpisodeStart(name, phase, seen(0), 0.0)]
    for step in range(steps):
        action = np.full(2, step, np.float32)
        following = seen(step + 1)
        is_last = ends and step == steps - 1
        events.append(
            Transition(name, step, seen(step), action, action, step % 2 == 0, 0.0, following, is_last, False,
                       step * 0.1, 3)
        )  # fmt: skip
    if ends:
        events.append(EpisodeEnd(name, True, steps, 1.0, 0))
    return events


def marks(events: list[Event]) -> list[tuple[str, str, int]]:
    """What identifies each event."""
    return [(type(event).__name__, event.episode_id, getattr(event, "step", -1)) for event in events]


class Disk:
    """The learner's journal."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def restart(self) -> tuple[Inbox, list[Event]]:
        inbox = Inbox(self.frames.append)
        return inbox, [event for frame in self.frames for event in inbox.restore(frame)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_event_arrives_once_and_in_order_over_a_bad_line(data: st.DataObject) -> None:
    """Messages and acknowledgements get lost and repeated; the learner restarts; the outbox recovers."""
    events = episode("a", 5) + episode("b", 3)
    outbox, disk = Outbox("actor-1", CONFIG), Disk()
    inbox, got = disk.restart()
    for event in events:
        outbox.put(event)
    now_s = 0.0
    for turn in range(400):
        now_s += 0.3
        bad = turn < 40
        fate = st.sampled_from(["pass", "lose", "twice", "restart"]) if bad else st.just("pass")
        for message in outbox.due(now_s):
            what = data.draw(fate)
            if what == "restart":
                inbox, got = disk.restart()
            for _ in range({"pass": 1, "twice": 2}.get(what, 0)):
                news, ack = inbox.accept(message)
                got += news
                assert len(disk.frames) > ack.sequence  # on disk before it is acknowledged
                if not (bad and data.draw(st.booleans())):
                    outbox.acknowledge(ack, now_s)
        if not outbox.pending:
            break
    assert outbox.pending == 0 and outbox.pending_bytes == 0
    assert marks(got) == marks(events)
    steps = [event for event in got if isinstance(event, Transition)]
    assert all(event.observation["state"][0] == event.step for event in steps)
    assert marks(disk.restart()[1]) == marks(events)


def test_no_more_than_a_window_is_under_way() -> None:
    outbox = Outbox("actor-1", CONFIG)
    for event in episode("a", 20):
        outbox.put(event)
    assert len(outbox.due(0.0)) == 4
    assert outbox.due(0.5) == []
    assert len(outbox.due(1.1)) == 4  # the learner is silent: the same four again
    outbox.acknowledge(Ack("actor-1", 1), 1.2)
    assert len(outbox.due(1.2)) == 2


def test_a_gap_is_repeated_at_once_but_not_for_every_acknowledgement() -> None:
    outbox = Outbox("actor-1", CONFIG)
    for event in episode("a", 20):
        outbox.put(event)
    outbox.due(0.0)
    outbox.acknowledge(Ack("actor-1", -1), 0.2)
    assert len(outbox.due(0.2)) == 4
    outbox.acknowledge(Ack("actor-1", -1), 0.21)
    assert outbox.due(0.21) == []


def test_a_full_outbox_refuses_steps_but_takes_the_end() -> None:
    outbox = Outbox("actor-1", DeliveryConfig(limit_bytes=2000))
    events = episode("a", 50)
    with pytest.raises(OutboxFullError, match="not acknowledged"):
        for event in events:
            outbox.put(event)
    outbox.put(events[-1])
    assert outbox.pending_bytes < 3000
    inbox, got = Disk().restart()
    for message in outbox.due(0.0):
        got += inbox.accept(message)[0]
    assert isinstance(got[-1], EpisodeEnd)


def test_foreign_and_impossible_acknowledgements_are_ignored() -> None:
    outbox = Outbox("actor-1", CONFIG)
    outbox.put(episode("a", 1)[0])
    outbox.acknowledge(Ack("actor-2", 0), 0.0)
    outbox.acknowledge(Ack("actor-1", 5), 0.0)
    assert outbox.pending == 1


@pytest.mark.parametrize("phase", ["demo", "learn"])
def test_the_episode_of_a_killed_actor_is_closed_when_it_comes_back(phase: str) -> None:
    disk = Disk()
    inbox, got = disk.restart()
    for session, events in (
        ("actor-1", episode("a", 3, ends=False, phase=phase)),
        ("actor-2", episode("b", 2)),
    ):
        outbox = Outbox(session, DeliveryConfig())
        for event in events:
            outbox.put(event)
        for message in outbox.due(0.0):
            got += inbox.accept(message)[0]
    closed = got[4]
    assert isinstance(closed, EpisodeEnd) and closed.episode_id == "a"
    assert (closed.success, closed.steps, closed.interventions, closed.discarded) == (False, 3, 2, False)
    assert marks(got[5:]) == marks(episode("b", 2))
    assert marks(disk.restart()[1]) == marks(got)


def test_two_actors_may_have_episodes_open_at_once() -> None:
    inbox, got = Disk().restart()
    first, second = Outbox("left-1", CONFIG), Outbox("right-1", CONFIG)
    one, other = episode("a", 2), episode("b", 2)
    for event, its in zip(one, other, strict=True):
        first.put(event)
        second.put(its)
    for message in (m for pair in zip(first.due(0.0), second.due(0.0), strict=True) for m in pair):
        got += inbox.accept(message)[0]
    assert [event.episode_id for event in got] == ["a", "b"] * 4


def test_a_learner_that_lost_its_record_goes_on_with_the_next_episode() -> None:
    """The journal is gone: the rest of the episode under way is reported as skipped, the next one arrives."""
    outbox = Outbox("actor-1", CONFIG)
    inbox, _ = Disk().restart()
    for event in episode("a", 6):
        outbox.put(event)
    for message in outbox.due(0.0)[:3]:
        outbox.acknowledge(inbox.accept(message)[1], 0.0)
    disk = Disk()
    inbox, got = disk.restart()
    for event in episode("b", 3):
        outbox.put(event)
    now_s = 0.0
    while outbox.pending and now_s < 60:
        now_s += 0.3
        for message in outbox.due(now_s):
            news, ack = inbox.accept(message)
            got += news
            outbox.acknowledge(ack, now_s)
    assert outbox.pending == 0
    assert outbox.skipped == 5
    assert marks(got) == marks(episode("b", 3))
    assert marks(disk.restart()[1]) == marks(got)


def test_a_learner_whose_record_lost_its_end_goes_on_with_the_next_episode() -> None:
    """A power cut: what was acknowledged is gone from the disk and from the sender."""
    outbox, disk = Outbox("actor-1", CONFIG), Disk()
    inbox, _ = disk.restart()
    for event in episode("a", 6):
        outbox.put(event)
    for message in outbox.due(0.0):
        outbox.acknowledge(inbox.accept(message)[1], 0.0)
    del disk.frames[2:]
    inbox, got = disk.restart()
    for event in episode("b", 3):
        outbox.put(event)
    now_s = 0.0
    while outbox.pending and now_s < 60:
        now_s += 0.3
        for message in outbox.due(now_s):
            news, ack = inbox.accept(message)
            got += news
            outbox.acknowledge(ack, now_s)
    assert outbox.pending == 0
    assert marks(got)[-5:] == marks(episode("b", 3))
    assert marks(disk.restart()[1]) == marks(got)
