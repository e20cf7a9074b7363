"""Windows of episodes filled with identifiable values: which rows come out, at both ends of an episode."""

import numpy as np
import pytest

from data.goals import GoalConfig
from data.loader import load_batches
from data.returns import returns_to_goals
from data.windows import UNREACHED, WORDLESS, Parts, WindowConfig, WindowSampler, returns_to_go
from robot_rl.batch import Returns, Subgoals
from robot_rl.errors import ConfigError, DataError

LENGTHS = (5, 1, 8)
ENDS = np.cumsum(LENGTHS)


def arrays():
    """Observation t of episode e is 100 e + t, action t is -(100 e + t), reward t is 10^-t of its episode."""
    observations = np.concatenate([100.0 * e + np.arange(n + 1) for e, n in enumerate(LENGTHS)])
    actions = -np.concatenate([100.0 * e + np.arange(n) for e, n in enumerate(LENGTHS)])
    terminated = np.zeros(ENDS[-1], bool)
    terminated[ENDS[0] - 1] = True  # the first episode ended, the others were cut short
    return {
        "observation/state": observations[:, None].astype(np.float32),
        "observation/image/front": np.broadcast_to(observations[:, None, None, None], (17, 2, 2, 3)).astype(np.uint8),
        "executed_action": np.stack([actions, actions - 0.5], 1).astype(np.float32),
        "reward": np.concatenate([10.0 ** -np.arange(n) for n in LENGTHS]).astype(np.float32),
        "terminated": terminated,
    }


def sampler(config=None, returns=None, episodes=None, seed=0):
    return WindowSampler(arrays(), ENDS, config or WindowConfig(), seed=seed, returns=returns, episodes=episodes)


def at(steps, rng=0, **kwargs):
    return sampler(**kwargs).windows(np.asarray(steps), np.random.default_rng(rng))


def states(observation):
    return observation["state"][..., 0]


def test_history_repeats_the_first_observation_and_never_reaches_into_another_episode():
    windows = at([0, 1, 4, 5, 6, 7], config=WindowConfig(history=3))
    wanted = [[0, 0, 0], [0, 0, 1], [2, 3, 4], [100, 100, 100], [200, 200, 200], [200, 200, 201]]
    np.testing.assert_array_equal(states(windows.observation), wanted)
    np.testing.assert_array_equal(windows.observation["image/front"][2, :, 0, 0, 0], [2, 3, 4])
    assert windows.observation["image/front"].dtype == np.uint8


@pytest.mark.parametrize(("padding", "tail"), [("repeat", -4.0), ("zero", 0.0)])
def test_a_chunk_ends_with_its_episode(padding, tail):
    windows = at([0, 3, 4, 5], config=WindowConfig(horizon=3, padding=padding))
    first = [[0, -1, -2], [-3, -4, tail], [-4, tail, tail], [-100, *(2 * ((-100,) if padding == "repeat" else (0,)))]]
    np.testing.assert_array_equal(windows.action[..., 0], first)
    np.testing.assert_array_equal(windows.mask, [[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]])


def test_the_future_is_the_observation_after_each_action_up_to_the_last():
    windows = at([0, 3, 5], config=WindowConfig(horizon=3, future=True))
    np.testing.assert_array_equal(states(windows.future), [[1, 2, 3], [4, 5, 5], [101, 101, 101]])
    assert at([0]).future == {}


def draw(goals, steps, count=4000):
    windows = at(np.repeat(steps, count), config=WindowConfig(goals=goals))
    return states(windows.goal).reshape(len(steps), count), windows.goal_steps.reshape(len(steps), count)


def test_a_future_goal_is_any_later_observation_with_equal_chance():
    goal, ahead = draw(GoalConfig(), [0, 4, 5])
    values, counts = np.unique(goal[0], return_counts=True)
    np.testing.assert_array_equal(values, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(counts / 4000, 0.2, atol=0.03)
    assert set(goal[1]) == {5} and set(goal[2]) == {101}
    np.testing.assert_array_equal(ahead[0], goal[0])


def test_a_geometric_goal_has_the_distribution_that_its_discount_says_cut_at_the_end():
    goal, _ = draw(GoalConfig(discount=0.5), [6])
    offsets = goal[0] - 200
    wanted = [0.5**k for k in range(1, 8)] + [0.5**7]
    shares = [(offsets == k).mean() for k in range(1, 9)]
    np.testing.assert_allclose(shares, wanted, atol=0.03)


def test_limits_of_the_distance_hold_where_the_episode_is_long_enough():
    goal, ahead = draw(GoalConfig(min_steps=3, max_steps=4), [0, 3, 6])
    assert set(ahead[0]) == {3, 4} and set(ahead[1]) == {2} and set(ahead[2]) == {3, 4}
    assert set(goal[1]) == {5}


def test_final_present_and_random_goals():
    assert set(draw(GoalConfig(future=0, final=1), [0])[0][0]) == {5}
    goal, ahead = draw(GoalConfig(future=0, present=1), [2])
    assert set(goal[0]) == {2} and set(ahead[0]) == {0}
    goal, ahead = draw(GoalConfig(future=0, random=1), [2])
    assert set(goal[0]) == {*range(6), 100, 101, *range(200, 209)}
    np.testing.assert_array_equal(ahead[0] == UNREACHED, (goal[0] < 2) | (goal[0] > 5))
    shares = draw(GoalConfig(future=0.5, final=0.5), [0])[0][0]
    assert (shares == 5).mean() == pytest.approx(0.6, abs=0.03)


def test_returns_are_summed_within_the_episode_and_bootstrap_from_its_own_last_observation():
    windows = at([0, 3, 4, 5, 12], returns=Returns(steps=3, discount=0.5))
    np.testing.assert_allclose(windows.reward, [1 + 0.05 + 0.0025, 1e-3 + 0.5e-4, 1e-4, 1.0, 1e-6 + 0.5e-7], rtol=1e-5)
    np.testing.assert_array_equal(states(windows.next_observation), [3, 5, 5, 101, 208])
    np.testing.assert_allclose(windows.discount, [0.125, 0.25, 0.5, 0.5, 0.25])
    np.testing.assert_array_equal(windows.terminated, [0, 1, 1, 0, 0])


def test_returns_to_go_are_those_of_the_rest_of_the_episode_whatever_the_bootstrap_spans():
    wanted = {0: 1 + 0.05 + 25e-4 + 125e-6 + 6.25e-6, 3: 1e-3 + 0.5e-4, 4: 1e-4, 5: 1.0, 12: 1e-6 + 0.5e-7, 13: 1e-7}
    for steps in (1, 3):
        windows = at(list(wanted), returns=Returns(steps=steps, discount=0.5))
        np.testing.assert_allclose(windows.returns_to_go, list(wanted.values()), rtol=1e-5)
    assert windows.returns_to_go.dtype == np.float32
    undiscounted = at([0, 4, 6, 13]).returns_to_go
    np.testing.assert_allclose(undiscounted, [1.1111, 1e-4, 1.1111111, 1e-7], rtol=1e-5)


def test_returns_to_go_count_an_episode_without_steps_for_nothing():
    rewards = np.array([0.0, 1.0, 2.0], np.float32)
    np.testing.assert_allclose(returns_to_go(rewards, np.array([0, 2, 2, 3]), 0.9), [0.9, 1.0, 2.0])
    assert returns_to_go(np.empty(0, np.float32), np.array([], np.int64), 0.9).shape == (0,)


def test_a_chunked_return_spans_the_chunk():
    config = WindowConfig(horizon=4)
    windows = at([0], config=config, returns=Returns(steps=config.horizon, discount=0.9))
    assert windows.reward[0] == pytest.approx(1 + 0.09 + 0.0081 + 0.000729)
    assert states(windows.next_observation)[0] == 4 and windows.discount[0] == pytest.approx(0.9**4)


@pytest.mark.parametrize("steps", [1, 3])
def test_rewards_of_goals_count_the_steps_until_they_are_observed(steps):
    returns = Returns(steps=steps, discount=0.5, of_goals=True)
    goals = GoalConfig(future=0.5, present=0.2, random=0.3)
    windows = at([1] * 200 + [4] * 200, config=WindowConfig(goals=goals), returns=returns)
    ahead = np.where(np.arange(400) < 200, min(steps, 4), 1)
    reached = (windows.goal_steps != UNREACHED) & (windows.goal_steps <= ahead)
    np.testing.assert_array_equal(windows.terminated, reached)
    taken = np.where(reached, windows.goal_steps, ahead)
    np.testing.assert_allclose(windows.reward, [-sum(0.5**i for i in range(n)) for n in taken])
    assert {0, 1} <= set(taken) and 0 < reached.mean() < 1
    np.testing.assert_array_equal(windows.reward[windows.goal_steps == 0], 0.0)
    whole = [-2.0 if n == UNREACHED else -sum(0.5**i for i in range(n)) for n in windows.goal_steps]
    np.testing.assert_allclose(windows.returns_to_go, whole)
    np.testing.assert_array_equal(returns_to_goals(np.array([0, 3, UNREACHED]), 1.0), [0.0, -3.0, -np.inf])


def test_values_may_be_learned_of_other_goals_than_the_policy():
    config = WindowConfig(goals=GoalConfig(final=1, future=0), value_goals=GoalConfig(present=1, future=0))
    windows = at([1, 6], config=config, returns=Returns(of_goals=True))
    np.testing.assert_array_equal(states(windows.goal), [5, 208])
    np.testing.assert_array_equal(states(windows.value_goal), [1, 200])
    np.testing.assert_array_equal(windows.goal_steps, [0, 0])
    assert at([1]).value_goal == {}


def test_a_subgoal_lies_ahead_but_neither_past_the_goal_nor_past_the_end():
    subgoals = Subgoals(steps=3)
    final = WindowConfig(goals=GoalConfig(final=1, future=0), subgoals=subgoals)
    windows = at([0, 3, 4, 5, 6, 12], config=final)
    np.testing.assert_array_equal(states(windows.subgoal), [3, 5, 5, 101, 203, 208])
    np.testing.assert_array_equal(windows.subgoal["image/front"][:, 0, 0, 0], [3, 5, 5, 101, 203, 208])
    near = at([0, 6, 13], config=WindowConfig(goals=GoalConfig(max_steps=2, min_steps=2), subgoals=subgoals))
    np.testing.assert_array_equal(states(near.goal), [2, 202, 208])
    np.testing.assert_array_equal(states(near.subgoal), [2, 202, 208])
    here = at([3], config=WindowConfig(goals=GoalConfig(present=1, future=0), subgoals=subgoals))
    np.testing.assert_array_equal(states(here.subgoal), [3])
    elsewhere = at([1] * 200, config=WindowConfig(goals=GoalConfig(random=1, future=0), subgoals=subgoals))
    goal = states(elsewhere.goal)
    np.testing.assert_array_equal(
        states(elsewhere.subgoal), np.where((goal >= 1) & (goal <= 5), np.minimum(goal, 4), 4)
    )
    assert set(goal) > {1, 2, 3} and goal.max() > 200
    assert at([0]).subgoal == at([0]).option == {}


def test_an_option_heads_for_the_goal_of_the_values_the_subgoal_for_that_of_the_policy():
    config = WindowConfig(
        goals=GoalConfig(final=1, future=0),
        value_goals=GoalConfig(max_steps=2, min_steps=2),
        subgoals=Subgoals(steps=4, option_steps=3),
    )
    windows = at([0, 3, 6], config=config)
    np.testing.assert_array_equal(states(windows.subgoal), [4, 5, 204])
    np.testing.assert_array_equal(states(windows.option), [2, 5, 202])
    np.testing.assert_array_equal(windows.goal_steps, [2, 2, 2])


def test_only_the_chosen_episodes_are_drawn_from():
    chosen = sampler(episodes=np.array([False, True, True]))
    assert len(chosen) == 9
    windows = chosen.batch(0, 500)
    assert states(windows.observation).min() == 100
    with pytest.raises(DataError, match="no episode"):
        sampler(episodes=np.zeros(3, bool))


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    one, again = sampler(seed=3), sampler(seed=3)
    one.batch(0, 8)
    np.testing.assert_array_equal(one.batch(5, 8).action, again.batch(5, 8).action)
    assert not np.array_equal(one.batch(6, 8).action, again.batch(5, 8).action)
    assert not np.array_equal(sampler(seed=4).batch(5, 8).action, again.batch(5, 8).action)


def test_workers_deliver_the_same_batches_in_the_same_order():
    wanted = [one.action for one in load_batches(sampler(), 6, start=2, stop=9)]
    got = list(load_batches(sampler(), 6, start=2, stop=9, workers=2))
    assert len(got) == 7
    for left, right in zip(wanted, got, strict=True):
        np.testing.assert_array_equal(left, right.action)
    assert set(got[0].observation) == {"state", "image/front"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: GoalConfig(future=-1.0),
        lambda: GoalConfig(future=0.0),
        lambda: GoalConfig(discount=1.0),
        lambda: GoalConfig(min_steps=0),
        lambda: GoalConfig(min_steps=3, max_steps=2),
        lambda: WindowConfig(history=0),
        lambda: WindowConfig(horizon=0),
        lambda: WindowConfig(padding="wrap"),
        lambda: Subgoals(steps=0),
        lambda: Subgoals(option_steps=0),
    ],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()


def labelled(share=1.0, start=True, spans=((1, 3), (8, 12)), **options):
    """Steps 1 and 2 of the first episode are text 4, steps 2 to 5 of the last one text 2."""
    of_step = np.full(14, -1)
    for index, (begin, end) in enumerate(spans):
        of_step[begin:end] = index
    begins, ends = np.array(spans).T
    parts = Parts(begins, ends, np.array([4, 2]), of_step)
    config = WindowConfig(goals=GoalConfig(labelled=share, **options), start=start)
    return WindowSampler(arrays(), ENDS, config, labels=parts)


def test_in_a_labelled_part_the_goal_is_its_end_and_the_start_its_beginning():
    windows = labelled().windows(np.array([0, 1, 2, 3, 7, 8, 11, 12]), np.random.default_rng(0))
    inside = [1, 2, 5, 6]
    np.testing.assert_array_equal(windows.text, [-1, 4, 4, -1, -1, 2, 2, -1])
    np.testing.assert_array_equal(states(windows.goal)[inside], [3, 3, 206, 206])
    np.testing.assert_array_equal(states(windows.start)[inside], [1, 1, 202, 202])
    np.testing.assert_array_equal(windows.goal_steps[inside], [2, 1, 4, 1])


def test_only_a_share_of_labelled_windows_has_words():
    steps, rng = np.repeat([1, 9], 1000), np.random.default_rng(0)
    windows = labelled(share=0.25).windows(steps, rng)
    assert np.mean(windows.text != WORDLESS) == pytest.approx(0.25, abs=0.04)


def test_a_change_starts_before_the_window_and_within_reach_of_the_goal():
    steps, rng = np.repeat([4, 5, 12], 500), np.random.default_rng(0)
    windows = labelled(share=0.0, max_steps=3).windows(steps, rng)
    present, start, goal = states(windows.observation)[:, -1], states(windows.start), states(windows.goal)
    assert (start <= present).all() and (present < goal).all() and (goal - start <= 3).all()
    assert set(start[:500]) == {2, 3, 4} and set(start[500:1000]) == {100}  # the first rows of their episodes at most
    assert not labelled(start=False).windows(steps, rng).start


def test_a_label_may_begin_and_end_with_its_episode():
    windows = labelled(spans=((0, 5), (9, 14))).windows(np.array([0, 4, 9, 13]), np.random.default_rng(0))
    np.testing.assert_array_equal(states(windows.goal), [5, 5, 208, 208])
    np.testing.assert_array_equal(states(windows.start), [0, 0, 203, 203])
    for key, seen in (("goal", windows.goal), ("start", windows.start)):
        wanted = states(seen).astype(np.uint8)
        np.testing.assert_array_equal(seen["image/front"][:, 0, 0, 0], wanted, err_msg=key)


def test_goals_are_shown_as_images_too():
    windows = at([0, 6], config=WindowConfig(goals=GoalConfig(future=0, final=1)))
    np.testing.assert_array_equal(windows.goal["image/front"][:, 1, 1, 2], [5, 208])


def test_what_was_meant_can_be_imitated_instead_of_what_was_done():
    given = arrays() | {"proposed_action": arrays()["executed_action"] + 0.25}
    meant = WindowSampler(given, ENDS, WindowConfig(actions="proposed"))
    done = WindowSampler(given, ENDS, WindowConfig())
    rows = [window.windows(np.array([0, 7]), np.random.default_rng(0)).action for window in (meant, done)]
    np.testing.assert_array_equal(rows[0], rows[1] + 0.25)
    with pytest.raises(ConfigError, match="executed, proposed"):
        WindowConfig(actions="wished")  # type: ignore[arg-type]


def test_goals_lie_at_the_next_change_or_at_the_end_where_nothing_changes():
    config = WindowConfig(goals=GoalConfig(future=0.0, next_change=1.0))
    changes = np.array([2, 2, 4, 4, -1, -1, *[-1] * 2, *[12] * 4, *[-1] * 5])
    windows = WindowSampler(arrays(), ENDS, config, next_changes=changes).windows(
        np.array([0, 1, 2, 4, 5, 6, 10]), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(states(windows.goal), [2, 2, 4, 5, 101, 204, 208])
    with pytest.raises(ConfigError, match="next_changes"):
        sampler(config=config)
