"""OGBench's scripted oracles (2410.20092) as players: how its play data were made."""

# ogbench ships no type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from robot_rl.types import STATE_KEY, FloatArray, Goal, Observation
from sim.ogbench_env import OgbenchEnv, state_names

# Probability that a cube is put on another one, drawn for each episode from this range (generate_manipspace.py).
STACKING = {"cube-single": (0.0, 0.0), "cube-double": (0.0, 0.25)}


class OgbenchPlayer:
    """OGBench's plan oracles, one task after another, as a `Policy`.

    After `data_gen_scripts/generate_manipspace.py` of OGBench: noise 0.1, smoothed with 0.5 steps.
    """

    version = 0

    def __init__(self, env: OgbenchEnv) -> None:
        self._env = env
        self._oracles = _oracles(env.task, env.env)
        self._oracle: Any = None
        self._stacking = 0.0

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        """Draws from numpy's global generator, as the oracles do: see `sim.seeding.seeded`."""
        self._oracle = None
        self._stacking = float(np.random.uniform(*STACKING.get(self._env.task, (0.5, 0.5))))  # noqa: NPY002

    def act(self, observation: Observation) -> FloatArray:
        """Action (5,) towards the present target, a new one once it is reached."""
        state, info = observation[STATE_KEY].astype(np.float64), self._env.info
        if self._oracle is None:
            self._oracle = self._begin(state, info)
        elif self._oracle.done:
            self._oracle = self._begin(*self._env.new_target(self._stacking))
        return np.clip(self._oracle.select_action(state, info), -1.0, 1.0)

    def _begin(self, state: FloatArray, info: dict[str, Any]) -> Any:
        """The oracle of the present target, ready."""
        oracle = self._oracles[info["privileged/target_task"]]
        oracle.reset(state, info)
        return oracle


def healthy(task: str, states: FloatArray) -> bool:
    """Whether an episode of play, its `states` (T, S), may be kept: in `scene` the cube must stay in sight."""
    if task != "scene":
        return True
    names = state_names(task)
    y_m, z_m = (states[:, names.index(f"block_0.{axis}")] / 10.0 for axis in "yz")  # xyz_scaler
    lost_left = (y_m <= -0.3) & ((z_m < 0.06) | (z_m > 0.08))  # and not in the drawer
    return not bool((y_m >= 0.29).any() or lost_left.any())


def _oracles(task: str, env: gym.Env[Any, Any]) -> dict[str, Any]:
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    noise = {"env": env, "noise": 0.1, "noise_smoothing": 0.5}
    if task.startswith("puzzle"):
        return {"button": ButtonPlanOracle(gripper_always_closed=True, **noise)}
    oracles = {"cube": CubePlanOracle(**noise)}
    if task == "scene":
        oracles |= {
            "button": ButtonPlanOracle(**noise),
            "drawer": DrawerPlanOracle(**noise),
            "window": WindowPlanOracle(**noise),
        }
    return oracles
