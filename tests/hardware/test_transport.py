"""The transport over real DDS: delivery, restarts of the learner, conflated parameters, damage."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import UInt8MultiArray

from data.journal import read_journal
from hardware.nodes import transport
from hardware.nodes.transport import (
    RosLearnerEndpoint,
    RosTransport,
    TransportConfig,
    frame_parameters,
    read_parameters,
)
from robot_rl.delivery import DeliveryConfig, Inbox, OutboxFullError
from robot_rl.errors import DataError, StaleError, WireError
from robot_rl.types import EpisodeStart, Observation, Transition
from robot_rl.wire import Event
from tests.hardware.ros_rig import Ros, ros, wait_for

__all__ = ["ros"]

CONFIG = TransportConfig(DeliveryConfig(stall_s=0.2), patience_s=2.0)


def steps(episode: str, count: int, pixels: int = 0) -> list[Event]:
    """An episode without its end; each state and each image says its step."""

    def seen(step: int) -> Observation:
        observation: Observation = {"state": np.full(3, step, np.float32)}
        if pixels:
            observation["image/front"] = np.full((pixels, pixels, 3), step % 256, np.uint8)
        return observation

    action = np.zeros(2, np.float32)
    return [
        EpisodeStart(episode, "learn", seen(0), 0.0),
        *(
            Transition(episode, i, seen(i), action, action, False, 0.0, seen(i + 1), False, False, i / 10, 0)
            for i in range(count)
        ),
    ]


def drain(endpoint: RosLearnerEndpoint) -> list[Event]:
    return [endpoint.incoming.get() for _ in range(endpoint.incoming.qsize())]


def kept_steps(journal: Path) -> list[tuple[str, int]]:
    """(episode, step) of all transitions in the journal, in order."""
    inbox = Inbox(lambda _: None)
    events = [event for frame in read_journal(journal).frames for event in inbox.restore(bytes(frame))]
    return [(event.episode_id, event.step) for event in events if isinstance(event, Transition)]


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"net.weight": torch.full((4, 3), value), "net.bias": torch.full((3,), -value)}


def test_events_arrive_whole_and_are_on_disk_when_acknowledged(ros: Ros, tmp_path: Path) -> None:
    endpoint = RosLearnerEndpoint(ros.node("learner"), tmp_path / "journal")
    endpoint.open()
    actor = RosTransport(ros.node("actor"), CONFIG)
    events = steps("a", 30, pixels=64)
    for event in events:
        actor.send(event)
    wait_for(lambda: actor.outbox.pending == 0, "all acknowledged")
    assert kept_steps(tmp_path / "journal") == [("a", i) for i in range(30)]
    got = drain(endpoint)
    assert len(got) == len(events)
    for event in got[1:]:
        assert isinstance(event, Transition)
        assert event.observation["image/front"].max() == event.observation["image/front"].min() == event.step
        assert event.next_observation["state"][0] == event.step + 1


def test_nothing_is_lost_or_doubled_when_the_learner_restarts(ros: Ros, tmp_path: Path) -> None:
    """The learner goes away twice in the middle of a stream that does not pause."""
    journal = tmp_path / "journal"
    actor = RosTransport(ros.node("actor"), CONFIG)
    restored: list[Event] = []
    endpoint: RosLearnerEndpoint | None = None
    learner: Node | None = None
    for index, event in enumerate(steps("a", 300)):
        if index in (0, 120, 220):
            if endpoint is not None and learner is not None:
                wait_for(lambda: actor.outbox.last_sequence > actor.outbox.pending, "first messages")
                ros.kill(learner)
                endpoint.close()
            learner = ros.node("learner")
            endpoint = RosLearnerEndpoint(learner, journal)
            restored = list(endpoint.restore())
            endpoint.open()
        actor.send(event)
        time.sleep(0.002)
    wait_for(lambda: actor.outbox.pending == 0, "all acknowledged")
    assert endpoint is not None
    assert kept_steps(journal) == [("a", i) for i in range(300)]
    assert len(restored) + endpoint.incoming.qsize() == 301


def test_without_a_learner_sending_goes_on_until_the_outbox_is_full(ros: Ros) -> None:
    config = TransportConfig(DeliveryConfig(limit_bytes=20_000), patience_s=0.5)
    actor = RosTransport(ros.node("actor"), config)
    slowest_s = 0.0
    with pytest.raises(OutboxFullError, match="is it running"):
        for event in steps("a", 1000):
            began_s = time.perf_counter()
            actor.send(event)
            slowest_s = max(slowest_s, time.perf_counter() - began_s)
    assert slowest_s < 1.0
    with pytest.raises(StaleError, match="no progress"):
        actor.flush()


def test_bug_6_only_the_newest_parameters_are_handed_out(ros: Ros, tmp_path: Path) -> None:
    """A slow actor must not work through a queue of old parameters."""
    endpoint = RosLearnerEndpoint(ros.node("learner"), tmp_path / "journal")
    endpoint.publish(1, weights(1.0))
    actor = RosTransport(ros.node("actor"), CONFIG)
    wait_for(lambda: actor._newest is not None, "a late joiner gets the newest")
    for version in range(2, 101):
        endpoint.publish(version, weights(version))
    wait_for(lambda: actor._newest and actor._newest.version == 100, "the last version")
    newer = actor.parameters()
    assert newer is not None and newer[0] == 100
    assert torch.equal(newer[1]["net.weight"], torch.full((4, 3), 100.0))
    assert actor.parameters() is None


def test_parameters_of_a_restarted_learner_count_although_their_version_is_lower(ros: Ros, tmp_path: Path) -> None:
    learner = ros.node("learner")
    endpoint = RosLearnerEndpoint(learner, tmp_path / "journal")
    actor = RosTransport(ros.node("actor"), CONFIG)
    endpoint.publish(90, weights(9.0))
    wait_for(lambda: (actor.parameters() or (0,))[0] == 90, "version 90")
    ros.kill(learner)
    endpoint.close()
    endpoint = RosLearnerEndpoint(ros.node("learner"), tmp_path / "journal")
    endpoint.publish(60, weights(6.0))
    wait_for(lambda: (actor.parameters() or (0,))[0] == 60, "version 60 of the new learner")


def test_flush_returns_what_the_learner_made_of_everything_sent(ros: Ros, tmp_path: Path) -> None:
    endpoint = RosLearnerEndpoint(ros.node("learner"), tmp_path / "journal")
    endpoint.open()
    actor = RosTransport(ros.node("actor"), CONFIG)
    taken = 0
    done = threading.Event()

    def learn() -> None:
        """A learner that takes its time: version = number of events it has seen."""
        nonlocal taken
        while not done.is_set():
            time.sleep(0.05)
            if not endpoint.incoming.empty():
                endpoint.incoming.get()
                taken += 1
            elif endpoint.flush_wanted.is_set():
                endpoint.publish(taken, weights(taken))
                endpoint.settle(taken)

    thread = threading.Thread(target=learn)
    thread.start()
    try:
        for episode, events_so_far in (("a", 5), ("b", 11)):  # 5 each, and the end of "a" when "b" begins
            for event in steps(episode, 4):
                actor.send(event)
            version, tensors = actor.flush()
            assert version == events_so_far
            assert tensors["net.bias"][0] == -version
    finally:
        done.set()
        thread.join()


def test_damaged_messages_are_counted_and_ignored(ros: Ros, tmp_path: Path) -> None:
    endpoint = RosLearnerEndpoint(ros.node("learner"), tmp_path / "journal")
    endpoint.open()
    actor = RosTransport(ros.node("actor"), CONFIG)
    stranger = ros.node("stranger")
    # Durability as the subscribers of each topic ask for it.
    newest = transport.NEWEST
    lines = {
        name: stranger.create_publisher(UInt8MultiArray, name, newest if "param" in name else QoSProfile(depth=10))
        for name in (transport.TRANSITIONS, transport.ACK, transport.PARAMETERS)
    }
    wait_for(lambda: all(line.get_subscription_count() for line in lines.values()), "discovery")
    lines[transport.TRANSITIONS].publish(transport.to_message(b"\x00nonsense"))
    lines[transport.ACK].publish(transport.to_message(b""))
    good = bytearray(frame_parameters(1, 5, weights(5.0)))
    good[-3] ^= 0xFF
    lines[transport.PARAMETERS].publish(transport.to_message(bytes(good)))
    wait_for(lambda: endpoint.malformed == 1 and actor.malformed == 2, "three complaints")
    assert actor.parameters() is None
    for event in steps("a", 3):
        actor.send(event)
    wait_for(lambda: actor.outbox.pending == 0, "good messages still pass")
    assert endpoint.received == 4


def test_nothing_is_acknowledged_when_the_disk_is_full(
    ros: Ros, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = RosLearnerEndpoint(ros.node("learner"), tmp_path / "journal")

    def full(_: bytes) -> None:
        raise DataError("no space left")

    monkeypatch.setattr(endpoint.inbox, "_keep", full)
    endpoint.open()
    actor = RosTransport(ros.node("actor"), CONFIG)
    actor.send(steps("a", 0)[0])
    wait_for(lambda: ros.errors, "the error reaches whoever spins")
    assert actor.outbox.pending == 1


@pytest.mark.parametrize("cut", [0, 5, 15, 40])
def test_parameters_cut_short_are_refused(cut: int) -> None:
    with pytest.raises(WireError):
        read_parameters(frame_parameters(1, 5, weights(5.0))[:cut])


def test_parameters_survive_the_way_unchanged() -> None:
    learner, version, tensors = read_parameters(frame_parameters(2**64 - 1, 7, weights(0.25)))
    assert (learner, version) == (2**64 - 1, 7)
    assert all(torch.equal(tensors[name], value) for name, value in weights(0.25).items())
