"""Properties that the replay must have whatever is fed to it (ANCHORS: buffer bugs 1, 2 and 3).

Every observation says which episode and step it belongs to, so a wrong pairing shows by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.replay import ReplayBuffer, keep_all, keep_demonstrations, mix
from robot_rl.batch import Batch, Returns
from robot_rl.types import EpisodeEnd, EpisodeStart
from tests.data.episodes import SPEC, events, observation, transition, value


def pairs(batch: Batch) -> set[tuple[int, int]]:
    """(episode, step) of every row, after checking that the row is consistent."""
    now, then = batch.observation["state"], batch.next_observation["state"]
    assert (then[:, 0] == now[:, 0]).all(), "next observation of another episode"
    assert (then[:, 1] == now[:, 1] + 1).all(), "next observation of another step"
    assert (batch.reward == now[:, 2]).all(), "reward of another step"
    for seen, state in ((batch.observation, now), (batch.next_observation, then)):
        assert (seen["image/front"][:, 1, 0, 0] == state[:, 1] % 251).all(), "image of another step"
    return {(int(episode), int(step)) for episode, step, _ in now}


def test_bug_1_first_step_of_each_intervention_segment_has_its_own_image():
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0, keep=keep_demonstrations)
    for event in events(1, 20, interventions=(0, 1, 5, 6, 7, 12, 19)):
        buffer.feed(event)
    assert pairs(buffer.sample(1000)) == {(1, step) for step in (0, 1, 5, 6, 7, 12, 19)}


def test_bug_2_a_truncated_step_bootstraps_from_its_own_final_observation():
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0)
    for episode in (1, 2, 3):
        for event in events(episode, 6):
            buffer.feed(event)
    batch = buffer.sample(2000)
    last = batch.observation["state"][:, 1] == 5
    assert last.any()
    assert (batch.next_observation["state"][last, 1] == 6).all()
    assert pairs(batch) == {(episode, step) for episode in (1, 2, 3) for step in range(6)}


def test_bug_3_a_timeout_is_not_terminal():
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0)
    for event in (*events(1, 6), *events(2, 6, success=True)):
        buffer.feed(event)
    batch = buffer.sample(500)
    state = batch.observation["state"]
    assert (batch.terminated == ((state[:, 0] == 2) & (state[:, 1] == 5))).all()


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
@pytest.mark.parametrize("only_person", [False, True])
def test_n_step_returns_are_those_added_up_by_hand(steps: int, only_person: bool) -> None:
    """Sums end with the episode, the person's segment and where the person takes over; none runs into a neighbour."""
    discount, interventions, length = 0.9, (2, 3, 4, 5, 9, 10), 12
    keep = keep_demonstrations if only_person else keep_all
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0, keep=keep, returns=Returns(steps, discount))
    gripper = [-1.0, 0.0, 1.0, 1.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0, 1.0, -1.0]
    toggled = np.array([1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1])
    for episode in (1, 2):
        for event in events(episode, length, interventions=interventions, success=episode == 2, gripper=gripper):
            buffer.feed(event)
    batch = buffer.sample(400)
    for row, (episode, step, _) in enumerate(batch.observation["state"].astype(int)):
        end = step
        while end < length and end - step < steps and (not only_person or end in interventions):
            if end > step and end in interventions and end - 1 not in interventions:
                break
            end += 1
        powers = discount ** np.arange(end - step)
        np.testing.assert_allclose(
            batch.reward[row], (powers * [value(episode, at) for at in range(step, end)]).sum(), rtol=1e-6
        )
        np.testing.assert_allclose(batch.toggles[row], (powers * toggled[step:end]).sum(), rtol=1e-6)
        np.testing.assert_allclose(batch.discount[row], discount ** (end - step), rtol=1e-6)
        assert (batch.next_observation["state"][row, :2] == (episode, end)).all()
        assert (batch.next_observation["image/front"][row, 1, 0] == end).all()
        assert batch.terminated[row] == (episode == 2 and end == length)
        assert batch.toggled[row] == toggled[step]


@pytest.mark.parametrize("steps", [1, 3, 5, 50])
@pytest.mark.parametrize("only_person", [False, True])
def test_chunks_are_what_was_executed_and_stay_inside_their_run(steps: int, only_person: bool) -> None:
    """Through takeovers, where all steps are kept; never beyond the episode, the person's segment or the buffer."""
    discount, interventions, length = 0.9, (2, 3, 4, 5, 9, 10), 12
    keep = keep_demonstrations if only_person else keep_all
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0, keep=keep, returns=Returns(steps, discount, chunk=True))
    for episode in (1, 2):
        for event in events(episode, length, interventions=interventions, success=episode == 2):
            buffer.feed(event)
    batch = buffer.sample(400)
    assert batch.chunk is not None and batch.chunk_mask is not None
    assert batch.chunk.shape == (400, steps, 3) and batch.chunk_mask.shape == (400, steps)
    for row, (episode, step, _) in enumerate(batch.observation["state"].astype(int)):
        end = step
        while end < length and end - step < steps and (not only_person or end in interventions):
            end += 1
        count = end - step
        assert batch.chunk_mask[row].tolist() == [1.0] * count + [0.0] * (steps - count)
        expected = [[episode / 100, at / 1000, 0.0] for at in range(step, end)]
        np.testing.assert_allclose(batch.chunk[row, :count], expected, rtol=1e-6)
        assert not batch.chunk[row, count:].any()
        rewards = discount ** np.arange(count) * [value(episode, at) for at in range(step, end)]
        np.testing.assert_allclose(batch.reward[row], rewards.sum(), rtol=1e-6)
        np.testing.assert_allclose(batch.discount[row], discount**count, rtol=1e-6)
        assert (batch.next_observation["state"][row, :2] == (episode, end)).all()
        assert batch.terminated[row] == (episode == 2 and end == length)


def test_mixed_chunks_come_from_their_own_buffers() -> None:
    returns = Returns(3, 0.9, chunk=True)
    online, demos = (ReplayBuffer(SPEC, 3, 100, seed=seed, returns=returns) for seed in (0, 1))
    for buffer, episode in ((online, 1), (demos, 2)):
        for event in events(episode, 10):
            buffer.feed(event)
    batch = mix(online, demos, 20, 0.25)
    assert batch.chunk is not None and batch.chunk_mask is not None
    first = batch.chunk[:, 0]
    np.testing.assert_allclose(first[:, 0], np.repeat([0.01, 0.02], [15, 5]))
    np.testing.assert_allclose(first, batch.action)
    np.testing.assert_allclose(first[:, 1] * 1000, batch.observation["state"][:, 1], rtol=1e-5)


@dataclass
class Reference:
    """What a ring of `capacity` observations must still hold, kept as a plain list of writes."""

    capacity: int
    writes: list[tuple[int, int]] = field(default_factory=list)  # (episode, step) in order of writing
    transitions: list[tuple[int, int, int, int]] = field(default_factory=list)  # episode, step, two writes
    last: dict[int, tuple[int, int]] = field(default_factory=dict)  # episode -> (step, its last write)

    def add(self, episode: int, step: int) -> None:
        before, index = self.last.get(episode, (-1, -1))
        if before != step or index <= len(self.writes) - self.capacity:
            self.writes.append((episode, step))
            index = len(self.writes) - 1
        self.writes.append((episode, step + 1))
        self.transitions.append((episode, step, index, len(self.writes) - 1))
        self.last[episode] = (step + 1, len(self.writes) - 1)

    def discard(self, episode: int) -> None:
        self.transitions = [one for one in self.transitions if one[0] != episode]

    def alive(self, index: int) -> bool:
        return index >= len(self.writes) - self.capacity and index >= 0

    def held(self) -> set[tuple[int, int]]:
        alive = [one for one in self.transitions if self.alive(one[2]) and self.alive(one[3])]
        return {(episode, step) for episode, step, _, _ in alive}


OPERATIONS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["keep", "keep", "keep", "skip", "end", "discard"])),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 25), OPERATIONS)
def test_ring_holds_what_a_list_of_writes_says(capacity: int, operations: list[tuple[int, str]]) -> None:
    """Interleaved, partial, gappy and discarded episodes through a ring that overwrites itself."""
    buffer = ReplayBuffer(SPEC, 3, capacity, seed=0, keep=lambda phase, step: step.is_intervention)
    reference = Reference(capacity)
    current: dict[int, tuple[int, int]] = {}  # lane -> (episode, next step)
    episodes = 0
    for lane, operation in operations:
        if lane not in current:
            episodes += 1
            current[lane] = (episodes, 0)
            name = f"episode-{episodes}"
            buffer.start(EpisodeStart(name, "learn", observation(episodes, 0), 0.0))
        episode, step = current[lane]
        if operation in ("keep", "skip"):
            buffer.add(transition(episode, step, intervention=operation == "keep"))
            current[lane] = (episode, step + 1)
            if operation == "keep":
                reference.add(episode, step)
        else:
            discarded = operation == "discard"
            buffer.end(EpisodeEnd(f"episode-{episode}", False, step, 1.0, 0, discarded))
            if discarded:
                reference.discard(episode)
            del current[lane]
        held = reference.held()
        assert len(buffer) == len(held)
    if held := reference.held():
        assert pairs(buffer.sample(40 * len(held))) == held


def test_a_step_that_contradicts_the_one_before_opens_its_own_run():
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0)
    buffer.start(EpisodeStart("episode-1", "learn", observation(1, 0), 0.0))
    buffer.add(transition(1, 0))
    jumped = replace(transition(1, 1), observation=observation(1, 50), next_observation=observation(1, 51))
    buffer.add(replace(jumped, reward=1050.0))
    assert pairs(buffer.sample(100)) == {(1, 0), (1, 50)}


def test_episodes_that_look_alike_do_not_run_into_each_other():
    """A slot that another episode has taken over is not continued, though it shows the same image."""
    buffer = ReplayBuffer(SPEC, 3, 4, seed=0)
    still = observation(0, 0)
    for episode in (1, 2):
        buffer.start(EpisodeStart(f"episode-{episode}", "learn", still, 0.0))
    for episode, step in ((1, 0), (2, 0), (2, 1), (2, 2), (1, 1), (2, 3)):
        buffer.add(replace(transition(episode, step), observation=still, next_observation=still))
    assert len(buffer) == 2
    assert set(buffer.sample(50).reward) == {1001.0, 2003.0}


def test_frames_are_stored_once():
    buffer = ReplayBuffer(SPEC, 3, 1000, seed=0)
    for episode in range(1, 10):
        for event in events(episode, 9):
            buffer.feed(event)
    assert len(buffer) == 81
    assert np.count_nonzero(buffer._owner >= 0) == 90
