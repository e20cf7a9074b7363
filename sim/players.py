"""Scripted play in robosuite: objects fetched and put down elsewhere, again and again, with no task in mind."""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.env import RobotEnv
from robot_rl.errors import UnknownNameError
from robot_rl.types import FloatArray, Goal, Observation, Snapshot
from sim.experts.base import UP, GraspShape, Picker, action_towards, yaw_to

CUBE = GraspShape(aligned_m=0.012, clear_m=0.08, depth_m=0.012, aligned_rad=0.3)  # as the expert of Stack grasps
PLAYED: dict[str, tuple[str, ...]] = {"lift": ("cube",), "stack": ("red", "green")}
PLAY_STEPS = 500
AREA_M = 0.10  # half the side of the square about the objects' first places in which they are put down
CARRY_M = 0.10
RELEASE_M = 0.012  # height above the resting place at which the hand opens
STACKING = 0.25  # probability to aim for the top of another object
PATIENCE_STEPS = 90  # a try that takes longer (the object was pushed out of reach) is given up
NOISE = 0.15  # of the normalised action, standard deviation; half of it carried over to the next step


class RobosuitePlayer:
    """A `Policy` that acts on what it sees of the world, with noise; draws from `seed` and the episode's number."""

    version = 0

    def __init__(self, task: str, env: RobotEnv, seed: int = 0) -> None:
        if task not in PLAYED:
            raise UnknownNameError("task to play with", task, PLAYED)
        self._env = env
        self._objects = PLAYED[task]
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Make the next episode repeatable."""
        self._random = np.random.default_rng(seed)

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        self._home: FloatArray | None = None
        self._noise = np.zeros(self._env.action_spec.arm_dim)

    def act(self, observation: Observation) -> FloatArray:
        """Action (A,)."""
        snapshot = self._env.snapshot()
        if self._home is None:
            self._home = np.mean([snapshot.task.poses[name][:3] for name in self._objects], axis=0)
            self._choose(snapshot)
        if self._steps > PATIENCE_STEPS or self._opened > 4:
            self._choose(snapshot)
        self._steps += 1
        action = self._towards(snapshot)
        self._noise = 0.5 * self._noise + self._random.normal(0.0, NOISE, len(self._noise))
        action[: len(self._noise)] += self._noise
        return np.clip(action, -1.0, 1.0)

    def _choose(self, snapshot: Snapshot) -> None:
        """Another object and another place for it."""
        assert self._home is not None
        self._picker = Picker(CUBE)
        self._object = str(self._random.choice(self._objects))
        self._place = self._home + np.append(self._random.uniform(-AREA_M, AREA_M, 2), 0.0)
        others = [name for name in self._objects if name != self._object]
        if others and self._random.random() < STACKING:
            self._place = snapshot.task.poses[str(self._random.choice(others))][:3] + 0.045 * UP
        self._hover = float(self._random.uniform(0.05, CARRY_M))
        self._steps = self._opened = 0

    def _towards(self, snapshot: Snapshot) -> FloatArray:
        spec, tcp = self._env.action_spec, snapshot.arm.pose_base_tcp[:3]
        thing = snapshot.task.poses[self._object][:3]
        offset = self._place - thing
        arrived = np.linalg.norm(offset[:2]) < 0.02
        if self._opened or (arrived and thing[2] - self._place[2] < RELEASE_M):
            self._opened += 1
            return action_towards(snapshot, spec, tcp + (self._opened > 1) * self._hover * UP, gripper=1.0)
        turn = 0.0
        if "rz" in spec.names:
            turn = yaw_to(snapshot, frames.quat_to_matrix(snapshot.task.poses[self._object][3:])[:, 0], np.pi / 2)
        fetch = self._picker.fetch(snapshot, spec, thing, turn)
        if fetch is not None:
            return fetch
        if arrived:
            return action_towards(snapshot, spec, tcp + offset, gripper=-1.0)
        rise = self._place[2] + CARRY_M - thing[2]
        across = offset[:2] if rise < 0.04 else np.zeros(2)
        return action_towards(snapshot, spec, tcp + np.append(across, rise), gripper=-1.0)
