"""What the actor takes for the person's word, and what it does not."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from sensor_msgs.msg import Joy
from std_msgs.msg import String

from hardware import ros_messages
from hardware.nodes.human import SCRIPTED, PhaseMessage, TopicHuman
from robot_rl.types import Verdict
from tests.hardware.ros_rig import Ros, ros, wait_for

__all__ = ["ros"]

Say = Callable[..., None]


@pytest.fixture
def human(ros: Ros) -> TopicHuman:
    return TopicHuman(ros.node("actor"), ("x", "y", "z", "gripper"))


@pytest.fixture
def say(ros: Ros, human: TopicHuman) -> Say:
    """Publish a message of the device: axes, whether engaged, its age, which device."""
    publisher = ros.node("device").create_publisher(Joy, "human/joy", 10)
    wait_for(publisher.get_subscription_count, "discovery")

    def publish(axes: list[float], engaged: bool = True, age_s: float = 0.0, frame: str = "page") -> None:
        header = ros_messages.header(time.time() - age_s, frame)
        publisher.publish(Joy(header=header, axes=axes, buttons=[int(engaged)]))

    return publish


def test_the_newest_engaged_action_is_read_and_clipped(human: TopicHuman, say: Say) -> None:
    assert not human.read().engaged
    say([0.25, -0.5, 3.0, 1.0])
    wait_for(lambda: human.read().engaged, "engaged")
    np.testing.assert_array_equal(human.read().action, [0.25, -0.5, 1.0, 1.0])


def test_of_all_seven_directions_those_of_the_task_are_taken(human: TopicHuman, say: Say) -> None:
    """Who does not know the task, as the page beside a policy of any run, gives them all."""
    say([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, -1.0])
    wait_for(lambda: human.read().engaged, "engaged")
    np.testing.assert_allclose(human.read().action, [0.1, 0.2, 0.3, -1.0])


def test_letting_go_counts_at_once_and_silence_soon(human: TopicHuman, say: Say) -> None:
    say([0.0, 0.0, 0.0, 1.0])
    wait_for(lambda: human.read().engaged, "engaged")
    say([0.0, 0.0, 0.0, 0.0], engaged=False)
    wait_for(lambda: not human.read().engaged, "released")
    say([0.0, 0.0, 0.0, 1.0])
    wait_for(lambda: human.read().engaged, "engaged again")
    began_s = time.monotonic()
    wait_for(lambda: not human.read().engaged, "a dead device has let go")
    assert time.monotonic() - began_s < 2.0


def test_old_messages_do_not_engage(human: TopicHuman, say: Say) -> None:
    say([0.0, 0.0, 0.0, 1.0], age_s=0.5)
    say([9.0], frame="marker")  # malformed, so that its arrival can be seen
    wait_for(lambda: human.malformed == 1, "the later message")
    assert not human.read().engaged


@pytest.mark.parametrize(
    ("axes", "age_s"), [([0.0, 0.0], 0.0), ([0.0, float("nan"), 0.0, 0.0], 0.0), ([0.0] * 4, -60.0)]
)
def test_unusable_messages_are_counted(human: TopicHuman, say: Say, axes: list[float], age_s: float) -> None:
    say(axes, age_s=age_s)
    wait_for(lambda: human.malformed == 1, "counted")
    assert not human.read().engaged


def test_a_real_person_comes_before_the_scripted_one(human: TopicHuman, say: Say) -> None:
    def both() -> bool:
        say([0.1, 0.0, 0.0, 0.0], frame="page")
        say([0.9, 0.0, 0.0, 0.0], frame=SCRIPTED)
        time.sleep(0.02)
        return len(human._devices) == 2 and human.read().action[0] == pytest.approx(0.1)

    wait_for(both, "the page's action while both are engaged")
    say([0.0] * 4, engaged=False, frame="page")
    say([0.9, 0.0, 0.0, 0.0], frame=SCRIPTED)
    wait_for(lambda: human.read().action[0] == pytest.approx(0.9), "the scripted person again")


def test_a_verdict_is_returned_once_and_does_not_outlive_its_episode(ros: Ros, human: TopicHuman) -> None:
    publisher = ros.node("page").create_publisher(String, "human/verdict", 10)
    wait_for(publisher.get_subscription_count, "discovery")
    publisher.publish(String(data="success"))
    wait_for(lambda: human._verdict is not None, "a verdict")
    assert human.verdict() is Verdict.SUCCESS
    assert human.verdict() is None
    publisher.publish(String(data="failure"))
    wait_for(lambda: human._verdict is not None, "a verdict")
    human.reset("learn")
    assert human.verdict() is None
    publisher.publish(String(data="maybe"))
    wait_for(lambda: human.malformed == 1, "an unknown verdict is counted")
    assert human.verdict() is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"phase": "demo"}', '{"phase": "demo", "episode": "x"}', "7"])
def test_other_texts_are_no_phase_messages(text: str) -> None:
    assert PhaseMessage.from_json(text) is None


def test_phase_messages_survive_the_way() -> None:
    told = PhaseMessage("learn", 7, "run")
    assert PhaseMessage.from_json(told.to_json()) == told


def test_a_hold_without_a_device_is_the_persons_until_given_back(human: TopicHuman, say: Say) -> None:
    human.hold(True)
    assert human.read().engaged and not human.read().action.any()
    say([0.5, 0.0, 0.0, 0.0], frame=SCRIPTED)
    time.sleep(0.2)
    assert not human.read().action.any(), "the scripted person does not steer a held arm"
    say([0.25, 0.0, 0.0, 0.0])
    wait_for(lambda: human.read().action[0] == 0.25, "a device steers")
    human.hold(False)
    wait_for(lambda: not human.read().engaged, "given back")
