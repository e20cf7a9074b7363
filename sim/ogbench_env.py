"""OGBench's manipulation tasks (2410.20092) as an `Env` with goals; `sim.ogbench_play` has who plays in them.

Observations, actions, goals, success and time limits are OGBench's own, so that figures can be held against
the published ones: a UR5e at 20 Hz; `state` (S,) as OGBench scales it; actions are x, y, z and yaw increments
in the world's frame (not the TCP's, as elsewhere) and an increment of the gripper's closing, all in [-1, 1].
The image, if asked for, is the `front_pixels` camera.

Every task has five evaluation goals, chosen by `reset(options={"goal": 1 ... 5})`; without it the reset's seed
chooses. `reset`'s info holds the `Goal`. `reset(options={"words": "open the drawer"})` tells a goal in words
instead (see `sim.ogbench_words`): the episode then begins in a random state in which that can be done.
"""

# ogbench ships no type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import (
    IMAGE_PREFIX,
    STATE_KEY,
    ActionSpec,
    ArraySpec,
    CameraFrame,
    FloatArray,
    Goal,
    Observation,
    ObservationSpec,
    Snapshot,
)
from sim.ogbench_words import Instruction, View, find_instruction, view
from sim.rendering import choose_gl, use_gl
from sim.seeding import seeded

TASKS = ("cube-single", "cube-double", "scene", "puzzle-3x3")
GOALS = 5
RATE_HZ = 20.0  # control_timestep of manipspace_env.py
STARTS = 256  # random states that are tried until one lets an instruction be done
PLAY_STEPS = 1001  # max_episode_steps of OGBench's data_gen_scripts/commands.sh
CAMERA = "front"
IMAGE_HW = (64, 64)
FILM_HW = (368, 480)
# action_range of manipspace_env.py
ACTION_SPEC = ActionSpec(("x", "y", "z", "rz", "gripper"), translation_m=0.05, rotation_rad=0.3, gripper="increment")

_ARM = (
    *(f"joint_pos.{i}" for i in range(6)),
    *(f"joint_vel.{i}" for i in range(6)),
    *(f"tcp.{axis}" for axis in "xyz"),
    *("tcp.cos_yaw", "tcp.sin_yaw", "gripper.position", "gripper.contact"),
)
_BLOCK = ("x", "y", "z", "qw", "qx", "qy", "qz", "cos_yaw", "sin_yaw")
_BUTTON = ("off", "on", "pos", "vel")
_OBJECTS = {  # in the order of each environment's compute_observation
    "cube-single": ("block_0",),
    "cube-double": ("block_0", "block_1"),
    "scene": ("block_0", "button_0", "button_1", "drawer", "window"),
    "puzzle-3x3": tuple(f"button_{i}" for i in range(9)),
}
_ELEMENTS = {"block": _BLOCK, "button": _BUTTON, "drawer": ("pos", "vel"), "window": ("pos", "vel")}


def state_names(task: str) -> tuple[str, ...]:
    """Name of each element of `state`."""
    if task not in TASKS:
        raise UnknownNameError("OGBench task", task, TASKS)
    of_objects = (f"{name}.{one}" for name in _OBJECTS[task] for one in _ELEMENTS[name.split("_")[0]])
    return (*_ARM, *of_objects)


@dataclass(frozen=True)
class OgbenchTask:
    """One task, as configuration; `build` makes it."""

    name: str
    """cube-single, cube-double, scene or puzzle-3x3."""
    cameras: tuple[str, ...] = ()
    """Cameras whose images enter the observation: none, or `front`."""

    goals = GOALS
    """Evaluation goals that it has."""
    rate_hz = RATE_HZ
    action_spec = ACTION_SPEC

    @property
    def observation_spec(self) -> ObservationSpec:
        return _observation_spec(self.name, self.cameras)

    def seeing(self, other: OgbenchTask) -> OgbenchTask:
        """The same task, with what is seen in `other` as well; `ConfigError` when it is not the same."""
        if self.name != other.name:
            raise ConfigError(f"{self.name} is not {other.name}")
        return replace(self, cameras=tuple(dict.fromkeys((*self.cameras, *other.cameras))))

    def build(self) -> OgbenchEnv:
        return OgbenchEnv(self.name, cameras=self.cameras)


class OgbenchEnv:
    """Implements `robot_rl.protocols.Env`."""

    def __init__(
        self, task: str, *, cameras: tuple[str, ...] = (), play: bool = False, steps: int | None = None
    ) -> None:
        """`play`: no goal, no success, episodes of `PLAY_STEPS`, targets for the oracles. `cameras`: () or (front,).

        `steps`: length of the episodes, if another.
        """
        self.observation_spec = _observation_spec(task, cameras)
        self.task = task
        self._names = state_names(task)
        self.rate_hz = RATE_HZ
        self.action_spec = ACTION_SPEC
        self.info: dict[str, Any] = {}
        self._cameras = cameras
        self._play = play
        if cameras:
            use_gl(choose_gl())
        self.env = _make(task, play, bool(cameras), steps)
        self._inner: Any = self.env.unwrapped
        self._instruction: tuple[Instruction, View] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        options = options or {}
        goal, words = options.get("goal"), options.get("words")
        if (goal is not None or words) and self._play:
            raise ConfigError("while playing there is no goal")
        if goal is not None and goal not in range(1, GOALS + 1):
            raise ConfigError(f"goal must be 1 to {GOALS}, got {goal}")
        if words:
            return self._reset_to_words(words, seed)
        if not self._play and goal is None:
            goal = int(np.random.default_rng(seed).integers(GOALS)) + 1
        observation = self._reset(seed, goal)
        info: dict[str, Any] = {"stamp_s": self._stamp_s()}
        if not self._play:
            info["goal"] = Goal(self._goal_observation())
        return observation, info

    def _reset(self, seed: int | None, goal: int | None) -> Observation:
        """To the beginning of the task of `goal`, or to a random state, as play begins."""
        self._inner.goal_seed = seed
        self._instruction = None
        mode = self._inner._mode
        self._inner._mode = mode if goal is not None else "data_collection"
        try:
            with seeded(None, seed) if seed is not None else nullcontext():
                options = {"task_id": goal, "render_goal": bool(self._cameras)} if goal is not None else None
                raw, self.info = self.env.reset(seed=seed, options=options)
        finally:
            self._inner._mode = mode
        return self._observe(raw)

    def _reset_to_words(self, words: str, seed: int | None) -> tuple[Observation, dict[str, Any]]:
        """Begin in the first random state of those that follow from `seed` in which it can be done."""
        instruction = find_instruction(self._names, words)
        for one in np.random.default_rng(seed).integers(2**31, size=STARTS):
            observation = self._reset(int(one), None)
            before = view(self._names, observation[STATE_KEY])
            if instruction.possible(before):
                self._instruction = (instruction, before)
                return observation, {"stamp_s": self._stamp_s(), "goal": Goal(text=words)}
        raise ConfigError(f"none of {STARTS} random states of {self.task} lets one {words!r}")

    def step(
        self, action: FloatArray, *, source: str = "policy"
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.action_spec.check(action)
        executed = np.clip(action, -1.0, 1.0)
        raw, _, terminated, truncated, self.info = self.env.step(executed)
        observation = self._observe(raw)
        if self._instruction is not None:
            instruction, before = self._instruction
            success = terminated = instruction.done(before, view(self._names, observation[STATE_KEY]))
        else:
            success = bool(self.info["success"]) and not self._play
        info = {"executed_action": executed, "stamp_s": self._stamp_s(), "success": success}
        return observation, float(success), bool(terminated), bool(truncated), info

    def snapshot(self) -> Snapshot:
        raise ConfigError("OGBench's tasks have no scripted person: their data come from `robot-rl play`")

    def close(self) -> None:
        self.env.close()

    def new_target(self, stacking: float) -> tuple[FloatArray, dict[str, Any]]:
        """While playing: set the oracles another target; with `stacking`'s probability on top of another cube."""
        return self._inner.set_new_target(p_stack=stacking)

    @property
    def camera(self) -> OgbenchCamera:
        """For films: the `front` view of OGBench."""
        if not self._cameras:
            use_gl(choose_gl())
        return OgbenchCamera(self)

    def _stamp_s(self) -> float:
        return float(self.info["time"][0])

    def _observe(self, raw: FloatArray) -> Observation:
        observation: Observation = {STATE_KEY: raw.astype(np.float32)}
        for name in self._cameras:
            observation[IMAGE_PREFIX + name] = self._inner.render(camera="front_pixels")
        return observation

    def _goal_observation(self) -> Observation:
        observation: Observation = {STATE_KEY: self.info["goal"].astype(np.float32)}
        for name in self._cameras:
            observation[IMAGE_PREFIX + name] = self.info["goal_rendered"]
        return observation


class OgbenchCamera:
    """Implements `robot_rl.protocols.Camera`."""

    def __init__(self, env: OgbenchEnv) -> None:
        self._env = env

    def read(self) -> CameraFrame:
        inner: Any = self._env.env.unwrapped
        return CameraFrame(float(inner._data.time), inner.render(camera="front"))


def _observation_spec(task: str, cameras: tuple[str, ...]) -> ObservationSpec:
    names = state_names(task)
    if unknown := set(cameras) - {CAMERA}:
        raise UnknownNameError("OGBench camera", sorted(unknown)[0], (CAMERA,))
    arrays = {STATE_KEY: ArraySpec((len(names),), names=names)}
    for name in cameras:
        arrays[IMAGE_PREFIX + name] = ArraySpec((*IMAGE_HW, 3), "uint8", 0, 255)
    return ObservationSpec(arrays)


def _make(task: str, play: bool, pixels: bool, wanted_steps: int | None) -> gym.Env[Any, Any]:
    with warnings.catch_warnings():  # of a missing X11 by glfw, of casting the action's bounds by gymnasium
        warnings.simplefilter("ignore")
        try:
            import ogbench.manipspace  # noqa: F401  registers the tasks
        except ImportError as error:
            raise ConfigError(f"OGBench's tasks need its package ({error}): pip install -e '.[play]'") from error
        spec = gym.spec(f"{task}-v0")
        arguments, steps = dict(spec.kwargs), spec.max_episode_steps
        if play:
            arguments, steps = arguments | {"terminate_at_goal": False, "mode": "data_collection"}, PLAY_STEPS
        height, width = IMAGE_HW if pixels else FILM_HW
        arguments |= {"height": height, "width": width, "visualize_info": not pixels}
        original = cast("type[Any]", load_env_creator(str(spec.entry_point)))
        repeatable: Any = type("Repeatable", (_RepeatableGoals, original), {})
        return gym.wrappers.TimeLimit(repeatable(**arguments), int(wanted_steps or steps or PLAY_STEPS))


class _RepeatableGoals:
    """Before it takes the goal's observation OGBench moves the arm by random actions; here they follow a seed."""

    goal_seed: int | None = None

    @property
    def action_space(self) -> gym.spaces.Box:
        """A new space at every access, as OGBench's is, but seeded."""
        with warnings.catch_warnings():  # as above
            warnings.simplefilter("ignore")
            space = super().action_space  # type: ignore[misc]  # of the OGBench class beside this one
        if self.goal_seed is not None:
            space.seed(self.goal_seed)
            self.goal_seed += 1
        return space
