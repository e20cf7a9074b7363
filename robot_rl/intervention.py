"""Who acts: the policy, or the person while engaged. Both are asked at every step."""

from __future__ import annotations

import numpy as np

from robot_rl.protocols import Human, Policy
from robot_rl.types import ActionSpec, Decision, Goal, HumanInput, Observation, Verdict


class NoHuman:
    """Nobody is watching: evaluation and plain RL."""

    def __init__(self, action_dim: int) -> None:
        self._input = HumanInput(False, np.zeros(action_dim))

    def reset(self, phase: str) -> None:
        pass

    def read(self) -> HumanInput:
        return self._input

    def verdict(self) -> Verdict | None:
        return None


class HoldPolicy:
    """Proposes to stay where it is: the policy under a person who demonstrates."""

    version = 0

    def __init__(self, action_dim: int) -> None:
        self._action = np.zeros(action_dim)

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        pass

    def act(self, observation: Observation) -> np.ndarray:
        return self._action.copy()


class Intervention:
    """Chooses policy or person per step, and checks what either says."""

    def __init__(self, policy: Policy, human: Human, action_spec: ActionSpec) -> None:
        self.policy = policy
        self.human = human
        self._spec = action_spec

    def reset(self, phase: str, goal: Goal | None = None, seed: int | None = None) -> None:
        self.policy.reset(goal, seed)
        self.human.reset(phase)

    def act(self, observation: Observation) -> Decision:
        proposed = np.clip(np.asarray(self.policy.act(observation), np.float64), -1.0, 1.0)
        self._spec.check(proposed)
        human = self.human.read()
        action = proposed
        if human.engaged:
            action = np.clip(np.asarray(human.action, np.float64), -1.0, 1.0)
            self._spec.check(action)
        return Decision(proposed, action, human.engaged, self.policy.version)
