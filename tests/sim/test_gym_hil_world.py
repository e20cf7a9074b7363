"""gym-hil through the same harness. Runs in gym-hil's own environment; here it must say so."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import ConfigError, UnknownNameError
from sim.experts import make_expert
from sim.gym_hil_world import make_world

has_gym_hil = find_spec("gym_hil") is not None


@pytest.mark.skipif(has_gym_hil, reason="gym-hil is installed")
def test_without_gym_hil_the_error_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="environment of its own"):
        make_world()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="gym_hil_pick"):
        make_world("lift")
    with pytest.raises(UnknownNameError, match="panda"):
        make_world(robot="ur5e")


@pytest.mark.skipif(not has_gym_hil, reason="needs gym-hil, see sim/gym_hil_world.py")
def test_expert_solves_it_and_it_repeats_exactly() -> None:
    env = RobotEnv(make_world(), EnvConfig(translation_m=0.025, objects=("cube",)))
    ends = []
    for _ in range(2):
        observation, _ = env.reset(seed=1)
        env.observation_spec.check(observation)
        expert, terminated = make_expert("gym_hil_pick"), False
        while not terminated and env.world.data.time < 9.0:  # type: ignore[attr-defined]
            observation, _, terminated, _, _ = env.step(expert.action(env.snapshot(), env.action_spec))
        assert terminated
        ends.append(observation["state"])
    assert np.array_equal(*ends)
    with pytest.raises(ConfigError, match="rate_hz=10"):
        env.world.advance(0.05)
    env.close()
