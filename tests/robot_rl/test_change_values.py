"""Values over changes: the loss by hand, and what is learned from random play on a line and on a board of buttons."""

import itertools

import numpy as np
import pytest
import torch

from policies.subgoals import ChangeValueNet, Memory, SubgoalConfig, SubgoalPlanner
from robot_rl.algorithms.change_values import Batch, ChangeValuesConfig, Places, batches, learn, value_loss
from robot_rl.changes import ChangeConfig, Things
from robot_rl.errors import ConfigError, DataError

SMALL = ChangeValuesConfig(updates=1500, batch_size=128, learning_rate=3e-3)
NET = SubgoalConfig(members=2, hidden=(64, 64))
BUTTONS = 3
PRESSES = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]])  # Lights Out on a line: a press changes its neighbours, too
BOARD = Things.of(tuple(f"button_{i}.on" for i in range(BUTTONS)), np.ones(BUTTONS, bool))
ONE = Things.of(("block.x",), np.ones(1, bool))


class Known(torch.nn.Module):
    """Values that are given: of (place, goal) by the sum of both, each member's plus its number."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, place, goal):
        found = torch.tensor([self.table[float(one)] for one in (place + goal).sum(-1)])
        return torch.stack([found, found + 1.0])


def test_the_loss_is_that_of_a_case_by_hand():
    place, following, goal = (torch.tensor([[one] for one in row]) for row in ([0.0, 5.0], [1.0, 5.0], [3.0, 5.0]))
    batch = Batch(place, following, goal, torch.tensor([-1.0, 0.0]), torch.tensor([0.0, 1.0]))
    # row 0: V' = (-3, -2), targets -1 + 0.5 V' = (-2.5, -2), clipped to -2: (-2, -2); row 1 is reached: 0, 0
    online, target = Known({3.0: -1.0, 10.0: -4.0}), Known({3.0: -1.5, 4.0: -3.0, 10.0: 0.5})
    config = ChangeValuesConfig(discount=0.5, expectile=0.9)
    # known V: row 0 (-1.5, -0.5), mean -1 > least target -2: weight 0.1; row 1 (0.5, 1.5), mean 1 > 0: weight 0.1
    # errors: row 0 (-1 + 2)^2, (0 + 2)^2; row 1 (-4)^2, (-3)^2; mean over rows of each member, summed over members
    wanted = (0.1 * 1 + 0.1 * 16) / 2 + (0.1 * 4 + 0.1 * 9) / 2
    assert float(value_loss(online, target, batch, config)) == pytest.approx(wanted)


def test_what_is_better_than_expected_counts_by_the_expectile():
    batch = Batch(*(torch.tensor([[one]]) for one in (0.0, 1.0, 3.0)), torch.tensor([-1.0]), torch.tensor([1.0]))
    online = Known({3.0: -2.0})
    found = value_loss(online, Known({3.0: -5.0, 4.0: 0.0}), batch, ChangeValuesConfig(expectile=0.9))
    assert float(found) == pytest.approx(0.9 * (1.0 + 0.0))  # (-2 + 1)^2, (-1 + 1)^2; -1 > -4.5


def test_goals_come_later_from_anywhere_or_from_here_and_end_what_reaches_them():
    places = Places.of([np.arange(6.0)[:, None], 100.0 + np.arange(3.0)[:, None]])
    assert places.last.tolist() == [5] * 6 + [8] * 3 and places.left.tolist() == [0, 1, 2, 3, 4, 6, 7]
    for kind, allowed in enumerate((lambda here, goal: goal > here, lambda *_: True, lambda here, goal: goal == here)):
        config = ChangeValuesConfig(goals=tuple(float(kind == one) for one in range(3)), batch_size=400)
        batch = next(batches(places, ONE, 0.2, config, 0))
        here, after, goal = (one[:, 0].numpy() for one in (batch.place, batch.following, batch.goal))
        assert (after == here + 1).all() and allowed(here, goal).all() if kind != 1 else len(set(goal)) == 9
        same_episode = (here < 50) == (goal < 50)
        assert same_episode.all() or kind == 1
        np.testing.assert_array_equal(batch.reward.numpy(), np.where(here == goal, 0.0, -1.0))
        np.testing.assert_array_equal(batch.terminated.numpy(), (here == goal) | (after == goal))


def test_the_best_of_random_play_is_learned_the_nearer_the_higher_the_expectile():
    """On a line of places; with 0.5, V is that of the random walk itself (as IQL's figure 2, 2110.06169)."""
    random = np.random.default_rng(0)
    walks = [6.0 - np.abs(np.cumsum(random.choice([-1.0, 1.0], 40)) % 12 - 6.0) for _ in range(60)]  # 0 to 6 and back
    places, found = Places.of([walk[:, None] for walk in walks]), {}
    for expectile in (0.5, 0.9):
        config = ChangeValuesConfig(updates=1500, batch_size=128, learning_rate=3e-3, expectile=expectile)
        torch.manual_seed(0)
        net = ChangeValueNet(NET, 1)
        for _ in learn(net, batches(places, ONE, 0.2, config, 0), config):
            pass
        with torch.no_grad():
            found[expectile] = net(torch.tensor([[0.0], [2.0], [4.0]]), torch.full((3, 1), 5.0)).mean(0).numpy()
    shortest = -(1.0 - 0.9 ** np.array([5.0, 3.0, 1.0])) / 0.1
    assert np.abs(found[0.9] - shortest).max() < 0.5 and (found[0.5] < shortest - 0.7).all()


def test_a_board_of_buttons_is_solved_in_the_fewest_presses_from_random_play():
    random, episodes = np.random.default_rng(1), []
    for _ in range(40):
        board = random.integers(2, size=BUTTONS)
        episodes.append([board := (board + PRESSES[random.integers(BUTTONS)]) % 2 for _ in range(12)])
    places = Places.of([np.array(one, np.float32) * 2.0 for one in episodes])  # off and on, two deviations apart
    torch.manual_seed(0)
    net = ChangeValueNet(NET, BUTTONS)
    for _ in learn(net, batches(places, BOARD, 0.2, SMALL, 0), SMALL):
        pass
    left = places.left
    memory = Memory(places.told[left], places.told[left + 1], np.zeros(BUTTONS), np.full(BUTTONS, 0.5))
    planner = SubgoalPlanner(NET, ChangeConfig(), BOARD, net, memory)
    needed, took = [], []
    for start, goal in itertools.product(itertools.product((0.0, 1.0), repeat=BUTTONS), repeat=2):
        planner.begin()
        board, presses = np.array(start), 0
        while not np.array_equal(board, goal) and presses < 8:
            after = planner.next(board, np.array(goal))
            assert (np.abs(after - board) == PRESSES).all(1).any()  # one press, of those that there are
            board, presses = after, presses + 1
        options = itertools.product((0, 1), repeat=BUTTONS)
        needed.append(min(sum(one) for one in options if np.array_equal((start + np.array(one) @ PRESSES) % 2, goal)))
        took.append(presses)
    assert took == needed


def test_play_in_which_nothing_changes_is_refused():
    with pytest.raises(DataError, match="nothing"):
        Places.of([np.zeros((1, 2)), np.zeros((1, 2))])


@pytest.mark.parametrize(
    "wrong", [{"updates": 0}, {"discount": 1.0}, {"expectile": 0.0}, {"goal_changes": 1.0}, {"goals": (0.0, 0.0, 0.0)}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigError):
        ChangeValuesConfig(**wrong)
