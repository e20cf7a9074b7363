"""What the arm itself is like: its stiffness and delay, from two logs of joint-free motion through the `Env`.

The same actions are replayed in a simulated world; stiffness and delay are what makes the two paths of the TCP agree
best. What the object's joints are like cannot be told so: it keeps its prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from scipy.optimize import minimize

from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.protocols import Env
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.cousins.compose import compose
from sim.cousins.layout import SceneLayout
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior
from sim.cousins.scene import Scene
from sim.cousins.tasks import BoundTask
from sim.cousins.world import CousinWorld, CousinWorldConfig

LOG_S = 8.0
LOGS = 2
AMPLITUDE = 0.7
FREQUENCIES_HZ = (0.25, 0.5, 1.0)
START_SEED = 7
SPREAD_GAIN, SPREAD_S = 0.05, 0.004
"""Standard deviations that remain (log of the gain, seconds): the spread over hidden worlds of the fit's error."""


@dataclass(frozen=True)
class FreeMotion:
    """The arm on its own, from where another task lets it begin; nothing to do."""

    env: EnvConfig
    """That task's, without objects."""
    begins: Mapping[str, object]
    """Its fields of `ArmConfig`."""

    expert = ""

    def suits(self, name: str, asset: Asset) -> bool:
        return True

    def start(self, robot: str, layout: SceneLayout, model: mujoco.MjModel) -> Mapping[str, object]:
        return self.begins

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData, layout: SceneLayout) -> BoundTask:
        return BoundTask({}, {}, lambda arm: False)


def arm_alone(scene: Scene, world: CousinWorld, physics: Physics) -> RobotEnv:
    """The robot of `world` on the empty supports of `scene`, with some physics, starting as it does in `world`."""
    spec, arm, layout = compose(replace(scene, objects=()), [], robot=world.layout.robot, physics=physics)
    model = spec.compile()
    env = replace(world.task.env, objects=(), scalars=(), cameras=())
    task = FreeMotion(env, world.task.start(world.layout.robot, world.layout, world.model))
    return RobotEnv(CousinWorld(model, arm, layout, task, CousinWorldConfig(cameras={})), env)


def excite(env: Env, seed: int) -> tuple[FloatArray, FloatArray]:
    """Actions (T, A) and the TCP's path (T + 1, 3) from the start, in the base frame: two logs of 8 s.

    The motion is a sum of sines per direction, upwards of the start, where nothing stands.
    """
    rng, actions, path = np.random.default_rng(seed), [], []
    for _ in range(LOGS):
        env.reset(seed=START_SEED)
        path.append(env.snapshot().arm.pose_base_tcp[:3].copy())
        times = np.arange(round(LOG_S * env.rate_hz)) / env.rate_hz
        phases = rng.uniform(0.0, 2.0 * np.pi, (3, len(FREQUENCIES_HZ)))
        waves = np.sin(2.0 * np.pi * np.multiply.outer(times, FREQUENCIES_HZ)[:, None] + phases).mean(-1)
        for wave in AMPLITUDE * waves:
            action = np.zeros(env.action_spec.dim)
            action[:3] = wave
            actions.append(action)
            _, _, done, cut, _ = env.step(action)
            path.append(env.snapshot().arm.pose_base_tcp[:3].copy())
            if done or cut:
                break
    return np.array(actions), np.array(path)


def identify_arm(log: tuple[FloatArray, FloatArray], make: Callable[[Physics], RobotEnv]) -> PhysicsPosterior:
    """Stiffness and delay of the arm in `log`; `make` builds the simulated world with some physics."""
    actions, path = log

    def error(values: FloatArray) -> float:
        physics = Physics(arm_gain=float(np.exp(values[0])), delay_s=float(max(values[1], 0.0)))
        env = make(physics)
        try:
            return float(np.square(_from_start(_run(env, actions)) - _from_start(path)).sum(-1).mean()) * 1e6
        finally:
            env.close()

    options = {"maxfev": 40, "xatol": 2e-3, "fatol": 1e-3}
    simplex = np.array([[0.0, 0.03], [-0.25, 0.03], [0.0, 0.06]])
    found = minimize(error, simplex[0], method="Nelder-Mead", options={**options, "initial_simplex": simplex})
    prior = PhysicsPrior()
    mean = replace(prior.nominal(), arm_gain=float(np.exp(found.x[0])), delay_s=float(max(found.x[1], 0.0)))
    wide: dict[str, Any] = {
        name: float(np.log(high / low) / np.sqrt(12.0)) for name, (low, high) in vars(prior).items() if low > 0.0
    }
    return PhysicsPosterior(mean, Physics(**{**wide, "arm_gain": SPREAD_GAIN, "delay_s": SPREAD_S}))


def _run(env: RobotEnv, actions: FloatArray) -> FloatArray:
    path = []
    for log in np.array_split(actions, LOGS):
        env.reset(seed=START_SEED)
        path.append(env.snapshot().arm.pose_base_tcp[:3].copy())
        for action in log:
            env.step(action)
            path.append(env.snapshot().arm.pose_base_tcp[:3].copy())
    return np.array(path)


def _from_start(path: FloatArray) -> FloatArray:
    """Each log from its own start."""
    return np.concatenate([one - one[0] for one in np.array_split(path, LOGS)])
