"""A policy that was really fitted to one twin, rolled out there and over an ensemble, is refused; its rival is not.

Both learn by nearest neighbours from the same demonstrations in the point twin, whose arm goes exactly where it is
told. One remembers what to do at each step after a start like this, the other what to do in a place like this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial import KDTree

from robot_rl import frames
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.promotion import PromotionConfig, judge, refusals
from robot_rl.types import ArmTarget, FloatArray
from tests.kinematic_world import GoalExpert, KinematicWorld
from tests.twin_tables import columns, described, digest, identity

CONFIG = EnvConfig(action=("x", "y", "z"), objects=("goal",), max_steps=40)
HOME_M = np.array([0.4, 0.0, 0.2])
STARTS = 30
DEMONSTRATIONS = 1500
SCALES = {"point": 1.0, "ensemble_00": 0.6, "ensemble_01": 0.7, "ensemble_02": 0.9, "ensemble_03": 1.4}
"""How far the arm goes when it is told to go 1 m."""


class ScaledWorld(KinematicWorld):
    """An arm that is calibrated badly."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self._scale = scale

    def advance(self, duration_s: float) -> ArmTarget | None:
        executed = super().advance(duration_s)
        self.pose[:3] = HOME_M + self._scale * (self.commands[-1].pose_base_tcp[:3] - HOME_M)
        return executed


def offset(env: RobotEnv) -> FloatArray:
    """Where the goal is (3,), seen from the TCP."""
    snapshot = env.snapshot()
    return frames.relative(snapshot.arm.pose_base_tcp, snapshot.task.poses["goal"])[:3]


class Remembers:
    """Plays the demonstration whose goal was nearest."""

    def __init__(self, episodes: list[tuple[FloatArray, FloatArray]]) -> None:
        self._tree = KDTree([offsets[0] for offsets, _ in episodes])
        self._actions = [actions for _, actions in episodes]

    def start(self, env: RobotEnv) -> None:
        self._plan = self._actions[int(self._tree.query(offset(env))[1])]
        self._step = -1

    def act(self, env: RobotEnv) -> FloatArray:
        self._step += 1
        return self._plan[self._step] if self._step < len(self._plan) else np.zeros(3)


class Looks:
    """Does what was done where the goal was as it is now."""

    def __init__(self, episodes: list[tuple[FloatArray, FloatArray]]) -> None:
        self._tree = KDTree(np.concatenate([offsets for offsets, _ in episodes]))
        self._actions = np.concatenate([actions for _, actions in episodes])

    def start(self, env: RobotEnv) -> None:
        """Nothing to remember."""

    def act(self, env: RobotEnv) -> FloatArray:
        return self._actions[int(self._tree.query(offset(env))[1])]


def demonstrations() -> list[tuple[FloatArray, FloatArray]]:
    """Offsets and actions (T, 3) of each of the expert's episodes in the point twin."""
    env, expert = RobotEnv(ScaledWorld(SCALES["point"]), CONFIG), GoalExpert()
    episodes = []
    for seed in range(10_000, 10_000 + DEMONSTRATIONS):
        env.reset(seed=seed)
        offsets, actions, over = [], [], False
        while not over:
            offsets.append(offset(env))
            actions.append(expert.action(env.snapshot(), env.action_spec))
            over = any(env.step(actions[-1])[2:4])
        episodes.append((np.array(offsets), np.array(actions)))
    return episodes


def roll_out(name: str, policy: Remembers | Looks) -> list[dict[str, Any]]:
    found = []
    for world, scale in SCALES.items():
        env = RobotEnv(ScaledWorld(scale), CONFIG)
        for start in range(STARTS):
            env.reset(seed=start)
            policy.start(env)
            steps, over, info = 0, False, {}
            while not over:
                *_, terminated, truncated, info = env.step(policy.act(env))
                steps, over = steps + 1, terminated or truncated
            row = {"policy": name, "checkpoint": digest(name), "world": world, "kind": world.split("_")[0]}
            row |= {"scene": "scene_0000", "variant": "", "start": start, "success": bool(info["success"])}
            found.append(row | {"steps": steps, "limited_steps": 0, "refused_steps": 0})
    return found


@pytest.fixture(scope="module")
def table():
    episodes = demonstrations()
    return columns(roll_out("remembers", Remembers(episodes)) + roll_out("looks", Looks(episodes)))


def said(table):
    return described([{"policy": name, "checkpoint": digest(name)} for name in set(table["policy"].tolist())])


def test_what_was_fitted_to_the_twin_is_refused(table):
    candidate, checks = judge(table, said(table), identity("remembers"), None, PromotionConfig(required_success=0.0))
    assert candidate is not None and candidate.alone["point"].value > 0.9 > 0.6 > candidate.success.value
    (reason,) = refusals(checks)
    assert f"overfitted to the twin: {candidate.alone['point']}".split(" [")[0] in reason
    assert f"{candidate.success.value:.2f} over the ensemble" in reason


def test_what_was_not_passes_and_cannot_be_replaced_by_it(table):
    candidate, checks = judge(table, said(table), identity("looks"), None, PromotionConfig())
    assert refusals(checks) == () and candidate is not None and candidate.success.value > 0.9
    _, checks = judge(table, said(table), identity("remembers"), identity("looks"), PromotionConfig())
    assert any("significantly worse" in reason for reason in refusals(checks))
