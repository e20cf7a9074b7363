"""Energy that goes into the surroundings: figures by hand, in the tank and in the environment's reward."""

from dataclasses import replace

import numpy as np
import pytest

from robot_rl.apps.wiring import load_experiment
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import ConfigError
from robot_rl.passivity import EnergyTank, PassivityConfig, power_w
from robot_rl.types import ArmState
from tests.kinematic_world import KinematicWorld


def state(stamp_s, force=0.0, velocity=0.0, torque=0.0, turning=0.0):
    """Along x alone: the surroundings push with `force`, the hand moves with `velocity`."""
    twist, wrench = np.zeros(6), np.zeros(6)
    twist[0], twist[3], wrench[0], wrench[3] = velocity, turning, force, torque
    return ArmState(stamp_s, np.zeros(7), twist, np.zeros(7), 1.0, wrench)


def test_power_is_what_the_arm_does_against_the_surroundings():
    assert power_w(state(0.0, force=-10.0, velocity=0.2)) == pytest.approx(2.0)  # pushes against resistance
    assert power_w(state(0.0, force=10.0, velocity=0.2)) == pytest.approx(-2.0)  # is pushed
    assert power_w(state(0.0, torque=-3.0, turning=0.5)) == pytest.approx(1.5)


def test_the_tank_pays_until_it_is_empty_and_fills_by_what_flows_back():
    tank = EnergyTank(PassivityConfig(weight_per_j=0.5, capacity_j=0.25, largest=0.4))
    push, rest, pushed = state(0.0, -10.0, 0.2), state(0.1), state(0.3, 10.0, 0.1)
    assert tank.pay(push, state(0.1, -10.0, 0.2)) == 0.0  # 2 W for 0.1 s: 0.2 J
    assert tank.energy_j == pytest.approx(0.05)
    assert tank.pay(push, replace(rest, stamp_s=0.2)) == pytest.approx(0.5 * 0.15)  # 1 W on average for 0.2 s
    assert tank.energy_j == 0.0
    assert tank.pay(rest, pushed) == 0.0  # -0.5 W on average for 0.2 s
    assert tank.energy_j == pytest.approx(0.1)
    assert tank.pay(push, state(10.0, -10.0, 0.2)) == 0.4  # 20 J: the most that a step may cost
    tank.pay(state(0.0, 10.0, 1.0), state(1.0, 10.0, 1.0))
    assert tank.energy_j == 0.25  # never more than it holds
    tank.energy_j = 0.0
    tank.fill()
    assert tank.energy_j == 0.25


class Resisting(KinematicWorld):
    """Resists with 50 N against motion along x."""

    def __init__(self):
        super().__init__()
        self.before = self.pose.copy()

    def advance(self, duration_s):
        self.before = self.pose.copy()
        return super().advance(duration_s)

    def state(self):
        plain = super().state()
        twist = np.zeros(6)
        twist[:3] = (self.pose - self.before)[:3] / 0.1
        return replace(plain, twist_base_tcp=twist, wrench_base=np.array([-50.0, 0, 0, 0, 0, 0]))

    def reset(self, seed):
        super().reset(seed)
        self.before = self.pose.copy()


def rewards(passivity, action, steps=3):
    env = RobotEnv(Resisting(), EnvConfig(action=("x", "y", "z"), translation_m=0.02, passivity=passivity))
    env.reset(seed=1)
    return [env.step(np.array(action))[1] for _ in range(steps)]


def test_the_reward_pays_for_work_against_a_resistance():
    """0.02 m a step at 10 Hz: 0.2 m/s against 50 N is 10 W, from rest 0.5 J in the first step, then 1 J each."""
    paying = PassivityConfig(weight_per_j=0.1, capacity_j=1.0, largest=0.5)
    assert rewards(paying, [1.0, 0.0, 0.0]) == pytest.approx([0.0, -0.05, -0.1])
    assert rewards(paying, [0.0, 1.0, 0.0]) == [0.0, 0.0, 0.0]
    assert rewards(None, [1.0, 0.0, 0.0]) == [0.0, 0.0, 0.0]


def test_an_episode_begins_with_a_full_tank():
    env = RobotEnv(Resisting(), EnvConfig(action=("x", "y", "z"), passivity=PassivityConfig(capacity_j=1.6)))
    for _ in range(2):
        env.reset(seed=1)
        assert [env.step(np.array([1.0, 0.0, 0.0]))[1] < 0.0 for _ in range(3)] == [False, False, True]


def test_it_is_configured_and_returns_below_zero_must_be_possible():
    experiment = load_experiment(["task.env.passivity.weight_per_j=0.2", "algorithm.value_range=[-1,1]"])
    assert experiment.task.env.passivity == PassivityConfig(weight_per_j=0.2)
    assert load_experiment().task.env.passivity is None
    with pytest.raises(ConfigError, match="value_range"):
        load_experiment(["task.env.passivity.weight_per_j=0.2"])
    for wrong in ({"weight_per_j": 0.0}, {"capacity_j": -1.0}, {"largest": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            PassivityConfig(**wrong)
