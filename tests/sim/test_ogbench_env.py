"""OGBench's tasks as an `Env`: names fit the numbers, everything repeats, goals are goals, its oracles play."""

import numpy as np
import pytest

from robot_rl.errors import ConfigError, SpecError, UnknownNameError
from robot_rl.types import STATE_KEY
from sim.ogbench_env import ACTION_SPEC, GOALS, TASKS, OgbenchEnv, state_names
from sim.ogbench_play import OgbenchPlayer, healthy
from sim.seeding import seeded

pytest.importorskip("ogbench")


def roll(env, player, steps, seed):
    with seeded(None, seed):
        observation, _ = env.reset(seed=seed)
        player.reset()
        states = [observation[STATE_KEY]]
        for _ in range(steps):
            observation, reward, terminated, _, info = env.step(player.act(observation))
            states.append(observation[STATE_KEY])
            assert reward == 0.0 and not terminated and not info["success"]
    return np.array(states)


@pytest.mark.parametrize("task", TASKS)
def test_play_repeats_with_its_seed_and_moves_things(task):
    env = OgbenchEnv(task, play=True)
    player = OgbenchPlayer(env)
    states = roll(env, player, 150, seed=5)
    np.testing.assert_array_equal(states, roll(env, player, 150, seed=5))
    assert not np.array_equal(states, roll(env, player, 150, seed=6))
    assert states.shape[1] == len(state_names(task)) == env.observation_spec.state_dim
    moved = {name for name, spread in zip(state_names(task), np.ptp(states, axis=0), strict=True) if spread > 0.05}
    assert any(name.startswith(("block", "button", "drawer", "window")) for name in moved)
    env.close()


@pytest.mark.parametrize("task", TASKS)
def test_a_goal_repeats_with_its_seed_and_is_reached_by_being_there(task):
    """OGBench's own success: the goal observation shows the objects where the task wants them."""
    env = OgbenchEnv(task)
    first, info = env.reset(seed=3, options={"goal": 2})
    again, info_again = env.reset(seed=3, options={"goal": 2})
    np.testing.assert_array_equal(first[STATE_KEY], again[STATE_KEY])
    goal = info["goal"].observation[STATE_KEY]
    np.testing.assert_array_equal(goal, info_again["goal"].observation[STATE_KEY])
    env.observation_spec.check(info["goal"].observation)
    others = [env.reset(seed=3, options={"goal": g})[1]["goal"].observation[STATE_KEY] for g in range(1, GOALS + 1)]
    things = [i for i, name in enumerate(state_names(task)) if name.startswith(("block", "button", "drawer", "win"))]
    assert len({tuple(np.round(other[things], 1)) for other in others}) >= 4
    env.close()


def test_a_cube_that_stands_at_its_goal_is_success():
    env = OgbenchEnv("cube-single")
    _, info = env.reset(seed=1, options={"goal": 1})
    goal = info["goal"].observation[STATE_KEY]
    names = state_names("cube-single")
    place = [goal[names.index(f"block_0.{axis}")] / 10.0 for axis in "xyz"] + np.array([0.425, 0.0, 0.0])
    env.env.unwrapped._data.joint("object_joint_0").qpos[:3] = place
    _, reward, terminated, truncated, info = env.step(np.zeros(5))
    assert reward == 1.0 and terminated and not truncated and info["success"]
    env.close()


def test_actions_are_clipped_checked_and_reported():
    env = OgbenchEnv("cube-single")
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.array([2.0, 0.0, -3.0, 0.0, 0.5]))
    np.testing.assert_array_equal(info["executed_action"], [1.0, 0.0, -1.0, 0.0, 0.5])
    assert env.action_spec is ACTION_SPEC and ACTION_SPEC.gripper == "increment"
    with pytest.raises(SpecError):
        env.step(np.full(5, np.nan))
    env.close()


def test_an_episode_ends_at_ogbenchs_limit():
    env = OgbenchEnv("cube-single")
    env.reset(seed=0, options={"goal": 1})
    ends = [env.step(np.zeros(5))[2:4] for _ in range(200)]
    assert ends[-1] == (False, True) and not any(truncated for _, truncated in ends[:-1])
    env.close()


def test_images_of_the_scene_and_of_the_goal():
    env = OgbenchEnv("scene", cameras=("front",))
    observation, info = env.reset(seed=0, options={"goal": 2})
    env.observation_spec.check(observation)
    env.observation_spec.check(info["goal"].observation)
    assert observation["image/front"].std() > 10
    assert not np.array_equal(observation["image/front"], info["goal"].observation["image/front"])
    env.close()


def test_a_scene_whose_cube_got_lost_is_not_kept():
    names = state_names("scene")
    states = np.zeros((3, len(names)))
    y, z = (names.index(f"block_0.{axis}") for axis in "yz")
    assert healthy("scene", states)
    states[1, y] = 3.0
    assert not healthy("scene", states) and healthy("cube-double", states)
    states[1, [y, z]] = -3.1, 0.7  # in the drawer
    assert healthy("scene", states)
    states[1, z] = 0.2
    assert not healthy("scene", states)


def test_wrong_names_say_what_is_right():
    with pytest.raises(UnknownNameError, match="cube-double"):
        OgbenchEnv("cube")
    with pytest.raises(UnknownNameError, match="front"):
        OgbenchEnv("scene", cameras=("wrist",))
    env = OgbenchEnv("cube-single")
    with pytest.raises(ConfigError, match="1 to 5"):
        env.reset(options={"goal": 6})


def test_words_begin_where_they_can_be_done_and_end_once_they_are():
    env = OgbenchEnv("scene")
    observation, info = env.reset(seed=3, options={"words": "unlock the drawer"})
    assert info["goal"].text == "unlock the drawer" and not info["goal"].observation
    names = env.observation_spec.arrays[STATE_KEY].names
    assert observation[STATE_KEY][names.index("button_0.on")] == 0.0
    again, _ = env.reset(seed=3, options={"words": "unlock the drawer"})
    np.testing.assert_array_equal(observation[STATE_KEY], again[STATE_KEY])
    assert not env.step(np.zeros(5, np.float32))[2]
    env._inner._cur_button_states[0] = 1  # as the button does when it is pressed
    _, reward, terminated, _, step_info = env.step(np.zeros(5, np.float32))
    assert reward == 1.0 and terminated and step_info["success"]
    with pytest.raises(UnknownNameError, match="open the window"):
        env.reset(options={"words": "make coffee"})
