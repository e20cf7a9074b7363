"""Changes of hand-made scenes: where they begin, where they are complete, whose they are."""

import numpy as np
import pytest

from robot_rl.changes import NONE, ChangeConfig, Things, next_changes, rests
from robot_rl.errors import ConfigError

NAMES = ("tcp.x", "block.x", "block.y", "button.on")
TOLD = np.array([False, True, True, True])
THINGS = Things.of(NAMES, TOLD)
CONFIG = ChangeConfig(rest=2)


def scene(*parts):
    """States (R, E) that stay for so many rows at each (block.x, block.y, button.on)."""
    return np.concatenate([np.repeat([place], rows, 0) for rows, place in parts]).astype(np.float32)


def test_elements_belong_to_the_things_that_their_names_begin_with():
    assert THINGS.names == ("block", "button")
    np.testing.assert_array_equal(THINGS.elements, [1, 2, 3])
    np.testing.assert_array_equal(THINGS.members, [[1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(THINGS.apart(np.array([3.0, 4.0, 1.0]), np.zeros(3)), [5.0, 1.0])


def test_a_change_is_complete_at_the_first_row_at_which_all_rests_elsewhere():
    moving = [(1, (0.5, 0.0, 0.0)), (1, (1.0, 0.5, 0.0)), (1, (1.5, 1.0, 0.0))]
    states = scene((4, (0, 0, 0)), *moving, (4, (2, 1, 0)), (5, (2, 1, 1)))
    np.testing.assert_array_equal(rests(states, THINGS, CONFIG), [0, 7, 11])


def test_what_comes_back_before_it_rests_or_moves_too_little_is_no_change():
    back = scene((4, (0, 0, 0)), (1, (1, 0, 0)), (4, (0, 0, 0)))
    little = scene((4, (0, 0, 0)), (4, (0.15, 0, 0)))
    for states in (back, little):
        np.testing.assert_array_equal(rests(states, THINGS, CONFIG), [0])


def test_little_by_little_is_a_change_once_it_is_far_enough():
    states = scene((3, (0, 0, 0)), (3, (0.15, 0, 0)), (3, (0.3, 0, 0)))
    np.testing.assert_array_equal(rests(states, THINGS, CONFIG), [0, 6])


def test_what_moves_up_to_the_end_is_never_complete():
    np.testing.assert_array_equal(rests(scene((4, (0, 0, 0)), (2, (1, 0, 0))), THINGS, CONFIG), [0])


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_an_episode_shorter_than_a_rest_has_no_change(rows):
    np.testing.assert_array_equal(rests(scene((rows, (0, 0, 0))), THINGS, ChangeConfig(rest=5)), [0])


def test_each_row_leads_to_the_next_change_of_its_own_episode():
    first = scene((3, (0, 0, 0)), (4, (0, 0, 2)))
    second = scene((4, (5, 0, 0)), (3, (7, 0, 0)))
    told = np.concatenate([first, second])
    states = np.concatenate([np.zeros((len(told), 1), np.float32), told * 2.0], 1)  # in units of their own
    ends = np.array([len(first) - 1, len(told) - 2])
    following, episodes = next_changes(states, ends, THINGS, np.full(4, 2.0), CONFIG)
    np.testing.assert_array_equal(following, [3, 3, 3, *[NONE] * 4, 11, 11, 11, 11, *[NONE] * 3])
    assert [rows.tolist() for rows in episodes] == [[0, 3], [7, 11]]


def test_what_has_no_names_or_nothing_told_has_no_things():
    for names, told in (((), np.ones(0, bool)), (NAMES, np.zeros(4, bool))):
        with pytest.raises(ConfigError, match="named elements"):
            Things.of(names, told)


@pytest.mark.parametrize("wrong", [{"moved": 0.0}, {"still": 0.3}, {"rest": 0}, {"moved": float("nan")}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigError, match="still"):
        ChangeConfig(**wrong)
