"""Scripted demonstrations in generated scenes: the affordance's expert, and noise in what is executed."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.env import RobotEnv
from robot_rl.types import FloatArray, Goal, Observation, Snapshot
from sim.experts import make_expert

CARRIED = 0.5
"""Share of the noise that stays from one step to the next."""


class ShakenEnv:
    """An `Env` that executes something else than it is told: with noise, which leads to states that the expert alone
    would never be in, and so to demonstrations of the way back from them (DART, Laskey et al., 1703.09327).

    What was meant stays the transition's `proposed_action`: imitate that (`actions=proposed`), for a policy that
    imitates noise, too, is as unsteady as it.
    """

    def __init__(self, env: RobotEnv, noise: float) -> None:
        self._env, self._scale = env, noise
        self.observation_spec, self.action_spec, self.rate_hz = env.observation_spec, env.action_spec, env.rate_hz
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Make the next episode's noise repeatable."""
        self._random = np.random.default_rng(seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        self._noise = np.zeros(self.action_spec.arm_dim)
        return self._env.reset(seed=seed, options=options)

    def step(
        self, action: FloatArray, *, source: str = "policy"
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._noise = CARRIED * self._noise + self._random.normal(0.0, self._scale, len(self._noise))
        shaken = np.array(action, np.float64)
        shaken[: len(self._noise)] += self._noise
        return self._env.step(np.clip(shaken, -1.0, 1.0), source=source)

    def snapshot(self) -> Snapshot:
        return self._env.snapshot()

    def close(self) -> None:
        self._env.close()


class Demonstrator:
    """The expert as a `Policy`: it acts on what it sees of the world."""

    version = 0

    def __init__(self, task: str, env: RobotEnv) -> None:
        self._task, self._env = task, env

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        self._expert = make_expert(self._task)

    def act(self, observation: Observation) -> FloatArray:
        """Action (A,)."""
        return np.clip(self._expert.action(self._env.snapshot(), self._env.action_spec), -1.0, 1.0)
