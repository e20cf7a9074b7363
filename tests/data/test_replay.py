"""The replay buffer's interface: sampling, mixing, the gripper's toggles, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.replay import ReplayBuffer, keep_demonstrations, mix
from robot_rl.batch import Returns
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.types import ArraySpec, EpisodeStart, ObservationSpec
from tests.data.episodes import SPEC, events, observation, transition


def filled(episodes: dict[int, int], capacity: int = 200, **options) -> ReplayBuffer:
    buffer = ReplayBuffer(SPEC, 3, capacity, seed=0, **options)
    for episode, steps in episodes.items():
        for event in events(episode, steps):
            buffer.feed(event)
    return buffer


def test_sampling_is_uniform():
    buffer = filled({1: 50, 2: 50})
    draws = np.concatenate([buffer.sample(1000).reward.copy() for _ in range(20)])
    _, counts = np.unique(draws, return_counts=True)
    assert len(counts) == len(buffer) == 100
    # 20000 draws over 100 transitions: chi-square with 99 degrees of freedom, 99.99 % below 161
    assert ((counts - 200) ** 2 / 200).sum() < 161


def test_all_fields_belong_to_the_same_step():
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0)
    for event in events(3, 8, interventions=(2, 3), success=True):
        buffer.feed(event)
    batch = buffer.sample(300)
    step = batch.observation["state"][:, 1]
    assert (batch.reward == 3000 + step).all()
    np.testing.assert_allclose(batch.action[:, 1], step / 1000)
    np.testing.assert_allclose(batch.action[:, 0], 0.03)
    assert (batch.is_demonstration == np.isin(step, (2, 3))).all()
    assert (batch.terminated == (step == 7)).all()
    assert (batch.observation["image/front"][:, 1, 0, 0] == step).all()
    assert (batch.next_observation["image/front"][:, 1, 0, 0] == step + 1).all()
    assert set(step) == set(range(8))


def test_the_batch_before_stays_valid_and_nothing_large_is_allocated():
    buffer = filled({1: 50})
    first = buffer.sample(32)
    copy = {key: array.copy() for key, array in first.observation.items()}
    second = buffer.sample(32)
    assert all((first.observation[key] == copy[key]).all() for key in copy)
    assert not np.shares_memory(first.observation["state"], second.observation["state"])
    assert np.shares_memory(first.observation["image/front"], buffer.sample(32).observation["image/front"])


@pytest.mark.parametrize(
    ("commands", "toggles"),
    [
        ((-1, -1, 0, 1, 1, -1), (1, 0, 0, 1, 0, 1)),
        ((1, 0.2, -0.2, -0.4, 0.33, 0.34), (0, 0, 0, 1, 0, 1)),
        ((0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0)),
    ],
)
def test_toggled_marks_changes_of_the_gripper_command(commands, toggles):
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0)
    for event in events(1, 6, gripper=commands):
        buffer.feed(event)
    batch = buffer.sample(200)
    expected = np.asarray(toggles)[batch.observation["state"][:, 1].astype(int)]
    assert (batch.toggled == expected).all()


def test_gripper_starts_as_the_observation_says():
    spec = ObservationSpec({"state": ArraySpec((2,), names=("x", "gripper.target"))})
    for target, toggled in ((-1.0, 0.0), (1.0, 1.0)):
        buffer = ReplayBuffer(spec, 3, 10, seed=0)
        seen = {"state": np.array([0, target], np.float32)}
        buffer.start(EpisodeStart("episode-1", "learn", seen, 0.0))
        buffer.add(replace(transition(1, 0, gripper=-1.0), observation=seen, next_observation=seen))
        assert buffer.sample(1).toggled == toggled


def test_toggles_are_followed_through_steps_that_are_not_kept():
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0, keep=keep_demonstrations)
    for event in events(1, 6, interventions=(3, 4), gripper=(-1, 0, 0, -1, 1, 0)):
        buffer.feed(event)
    batch = buffer.sample(100)
    step = batch.observation["state"][:, 1]
    assert set(step) == {3, 4}
    assert (batch.toggled == (step == 4)).all()  # closed before the segment began: step 3 changes nothing


def test_no_gripper_no_toggle():
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0, has_gripper=False)
    for event in events(1, 4, gripper=(-1, 1, -1, 1)):
        buffer.feed(event)
    assert not buffer.sample(50).toggled.any()


@pytest.mark.parametrize("batch_size", [1, 7, 256])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_mix_takes_the_share_of_each_buffer(batch_size, fraction):
    online, demos = filled({1: 20}), filled({2: 20})
    batch = mix(online, demos, batch_size, fraction)
    from_demos = batch.observation["state"][:, 0] == 2
    assert len(batch) == batch_size
    assert from_demos.sum() == int(batch_size * fraction)
    assert (np.diff(from_demos.astype(int)) >= 0).all()
    assert (batch.next_observation["state"][:, 1] == batch.observation["state"][:, 1] + 1).all()
    assert (batch.reward == batch.observation["state"][:, 2]).all()


@pytest.mark.parametrize("batch_size", [1, 7, 256])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_mix_puts_the_simulation_last_and_deals_the_rest_as_without_it(batch_size, share):
    online, demos, simulated = filled({1: 20}), filled({2: 20}), filled({3: 20})
    batch = mix(online, demos, batch_size, 0.5, simulated, share)
    wanted = int(batch_size * share)
    real = batch_size - wanted
    shares = [real - real // 2, real // 2, wanted]
    assert batch.simulated == wanted
    assert batch.observation["state"][:, 0].tolist() == np.repeat([1, 2, 3], shares).tolist()
    assert (batch.reward == batch.observation["state"][:, 2]).all()
    assert mix(online, demos, batch_size, 0.5, filled({}), share).simulated == 0
    assert mix(online, demos, batch_size).simulated == 0


def test_mix_falls_back_to_the_buffer_that_is_not_empty():
    empty, full = filled({}), filled({2: 5})
    assert (mix(empty, full, 9).observation["state"][:, 0] == 2).all()
    assert (mix(full, empty, 9).observation["state"][:, 0] == 2).all()
    with pytest.raises(DataError, match="both"):
        mix(empty, filled({}), 9)
    with pytest.raises(ConfigError, match="demo_fraction"):
        mix(full, full, 9, 1.5)


def test_stored_counts_what_was_overwritten_too():
    buffer = filled({1: 30, 2: 30}, capacity=10)
    assert buffer.stored == 60
    assert len(buffer) == 9


def test_bad_input_is_refused_and_leaves_the_buffer_as_it_was():
    buffer = filled({1: 5})
    buffer.start(EpisodeStart("episode-7", "learn", observation(7, 0), 0.0))
    good = transition(7, 0)
    nan = {**observation(7, 1), "state": np.full(3, np.nan, np.float32)}
    for bad in (
        replace(good, executed_action=np.zeros(4, np.float32)),
        replace(good, executed_action=np.full(3, np.nan, np.float32)),
        replace(good, next_observation=nan),
        replace(good, observation={"state": np.zeros(3, np.float32)}),
        replace(good, reward=float("inf")),
    ):
        with pytest.raises(SpecError):
            buffer.add(bad)
    with pytest.raises(DataError, match="twice"):
        buffer.start(EpisodeStart("episode-7", "learn", observation(7, 0), 0.0))
    with pytest.raises(DataError, match="not started"):
        buffer.add(transition(8, 0))
    assert len(buffer) == 5
    buffer.add(good)
    assert len(buffer) == 6


def test_empty_buffer_and_impossible_sizes():
    with pytest.raises(DataError, match="no transition"):
        filled({}).sample(4)
    with pytest.raises(ConfigError, match="capacity"):
        ReplayBuffer(SPEC, 3, 1, seed=0)


@pytest.mark.parametrize("path", [1, 3])
def test_a_path_holds_the_steps_one_by_one_up_to_the_end_or_a_takeover(path: int):
    """Episode 1 has eight steps, the person in control from the fifth to the sixth."""
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0, returns=Returns(4, 0.9, path=path))
    for event in events(1, 8, interventions=(4, 5)):
        buffer.feed(event)
    batch = buffer.sample(300)
    assert batch.path is not None and batch.path.mask.shape == (300, path)
    first = batch.observation["state"][:, 1].astype(int)
    last = np.where(first < 4, 4, 8)  # the person's steps and those after go on to the end
    for row, (begin, end) in enumerate(zip(first, last, strict=True)):
        count = min(path, end - begin)
        assert batch.path.mask[row].tolist() == [1.0] * count + [0.0] * (path - count)
        steps = begin + np.arange(count)
        assert batch.path.observation["state"][row, :count, 1].tolist() == (steps + 1).tolist()
        assert (batch.path.observation["image/front"][row, :count, 1, 1, 0] == steps + 1).all()
        np.testing.assert_allclose(batch.path.action[row, :count, 1], steps / 1000)
    assert ReplayBuffer(SPEC, 3, 100, seed=0, returns=Returns(4))._outputs.next(2).batch.path is None
