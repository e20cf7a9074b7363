"""The values that travel between the parts: specs, observations, arm state and targets, transitions.

Shape letters: S state, A action, H W image height and width, N joints.
Quaternions are (w, x, y, z); a pose is (x, y, z, qw, qx, qy, qz) in metres; a twist is
(vx, vy, vz, wx, wy, wz) in m/s and rad/s. `pose_base_tcp` is the tool centre point seen from
the arm's base frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import SpecError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Observation = dict[str, NDArray[Any]]
"""`state` (S,) float32, and one `image/<camera>` (H, W, 3) uint8 RGB per camera."""

STATE_KEY = "state"
IMAGE_PREFIX = "image/"
ACTION_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
GRIPPER_ACTIONS = ("command", "increment")


@dataclass(frozen=True)
class ArraySpec:
    """Shape, dtype, bounds and per-element names of one array."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float = -np.inf
    high: float = np.inf
    names: tuple[str, ...] = ()

    def space(self) -> gym.spaces.Box:
        return gym.spaces.Box(self.low, self.high, self.shape, np.dtype(self.dtype).type)


@dataclass(frozen=True)
class ObservationSpec:
    """What an `Env` promises to return: one `ArraySpec` per observation key."""

    arrays: Mapping[str, ArraySpec]

    @property
    def state_dim(self) -> int:
        return self.arrays[STATE_KEY].shape[0] if STATE_KEY in self.arrays else 0

    @property
    def image_keys(self) -> tuple[str, ...]:
        return tuple(key for key in self.arrays if key.startswith(IMAGE_PREFIX))

    def space(self) -> gym.spaces.Dict:
        return gym.spaces.Dict({key: spec.space() for key, spec in self.arrays.items()})

    def check(self, observation: Observation) -> None:
        """Raise `SpecError` unless every key is there with its shape and dtype, all finite."""
        if missing := set(self.arrays) - set(observation):
            raise SpecError(f"observation lacks {sorted(missing)}; it has {sorted(observation)}")
        for key, spec in self.arrays.items():
            array = observation[key]
            if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
                raise SpecError(
                    f"observation[{key!r}] is {array.shape} {array.dtype}, expected {spec.shape} {spec.dtype}"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise SpecError(f"observation[{key!r}] holds NaN or Inf")


@dataclass(frozen=True)
class ActionSpec:
    """Normalised Cartesian delta action: each element in [-1, 1], a subset of `ACTION_NAMES` in order.

    `x y z` scale to `translation_m` per step, `rx ry rz` (rotation vector) to `rotation_rad` per
    step, in the TCP frame. `gripper` is a discrete `command`: below -1/3 close, above 1/3 open,
    between keep; or an `increment` of its position.
    """

    names: tuple[str, ...]
    translation_m: float
    rotation_rad: float
    gripper: str = "command"

    def __post_init__(self) -> None:
        if self.gripper not in GRIPPER_ACTIONS:
            raise SpecError(f"unknown kind of gripper action {self.gripper!r}; valid choices: {GRIPPER_ACTIONS}")
        if unknown := [name for name in self.names if name not in ACTION_NAMES]:
            raise SpecError(f"unknown action names {unknown}; valid choices: {ACTION_NAMES}")
        if list(self.names) != sorted(self.names, key=ACTION_NAMES.index):
            raise SpecError(f"action names must follow the order {ACTION_NAMES}, got {self.names}")

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def has_gripper(self) -> bool:
        return "gripper" in self.names

    @property
    def arm_dim(self) -> int:
        """Number of continuous (arm) elements; they come first."""
        return self.dim - self.has_gripper

    def space(self) -> gym.spaces.Box:
        return gym.spaces.Box(-1.0, 1.0, (self.dim,), np.float32)

    def check(self, action: FloatArray) -> None:
        """Raise `SpecError` unless `action` is (A,) and finite."""
        if np.shape(action) != (self.dim,):
            raise SpecError(f"action has shape {np.shape(action)}, expected ({self.dim},) {self.names}")
        if not np.isfinite(action).all():
            raise SpecError(f"action holds NaN or Inf: {action}")


@dataclass(frozen=True, slots=True)
class ArmState:
    """Measured state of one arm with a gripper, at `stamp_s`."""

    stamp_s: float
    pose_base_tcp: FloatArray  # (7,)
    twist_base_tcp: FloatArray  # (6,)
    joint_pos_rad: FloatArray  # (N,)
    gripper_position: float  # 0 closed ... 1 open
    wrench_base: FloatArray = field(default_factory=lambda: np.zeros(6))  # (6,) N, N m


@dataclass(frozen=True, slots=True)
class ArmTarget:
    """Where the arm should go, and the stamp of the observation that this was computed from."""

    stamp_s: float
    pose_base_tcp: FloatArray  # (7,)
    gripper_position: float  # 0 closed ... 1 open
    source: str = "policy"  # policy | human | reset | hold


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One image: `color` (H, W, 3) uint8 RGB, optional aligned `depth_m` (H, W) float32."""

    stamp_s: float
    color: NDArray[np.uint8]
    depth_m: NDArray[np.float32] | None = None
    intrinsics: tuple[float, float, float, float] | None = None  # fx, fy, cx, cy in pixels


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the task knows besides the arm: object poses in the base frame, scalars, success."""

    stamp_s: float
    poses: Mapping[str, FloatArray]  # name -> (7,) in the base frame
    scalars: Mapping[str, float]
    success: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Arm and task at one moment: what a person standing beside the robot sees."""

    arm: ArmState
    task: TaskState


@dataclass(frozen=True, slots=True)
class HumanInput:
    """What the person's device says now. `action` (A,) counts only while `engaged`."""

    engaged: bool
    action: FloatArray


@dataclass(frozen=True, slots=True)
class Goal:
    """What a goal-conditioned policy is told to bring about: what it would then observe, or words, or both."""

    observation: Observation = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, order=True, slots=True)
class Label:
    """Steps `begin <= i < end` of an episode, in which `text` was done."""

    begin: int
    end: int
    text: str


def plain(text: str) -> str:
    """Small letters, single spaces: texts that differ in nothing else are the same goal."""
    return " ".join(text.lower().split())


class Verdict(Enum):
    """A label that ends an episode from outside the environment."""

    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who acts in this step, and with what."""

    proposed_action: FloatArray  # (A,) what the policy wanted
    action: FloatArray  # (A,) what is sent
    is_intervention: bool
    policy_version: int


@dataclass(frozen=True, slots=True)
class EpisodeStart:
    """Opens an episode. `phase` is `demo`, `play`, `learn` or `evaluate`."""

    episode_id: str
    phase: str
    observation: Observation
    stamp_s: float
    seed: int | None = None
    reset_s: float = 0.0  # time that bringing the robot to this start took
    operator: str = ""  # who was at the controls, where that is known
    synthetic: bool = False  # sampled from a model of the data, never seen on a robot or in a simulation


@dataclass(frozen=True, slots=True)
class Transition:
    """One control step. `executed_action` is what passed the guard; learning uses that one.

    `terminated` means the task ended (success or failure: do not bootstrap); `truncated` means the
    clock or a person cut it short (bootstrap from this transition's own `next_observation`).
    """

    episode_id: str
    step: int
    observation: Observation
    proposed_action: FloatArray  # (A,)
    executed_action: FloatArray  # (A,)
    is_intervention: bool
    reward: float
    next_observation: Observation
    terminated: bool
    truncated: bool
    stamp_s: float
    policy_version: int


@dataclass(frozen=True, slots=True)
class EpisodeEnd:
    """Closes an episode. A `discarded` one is kept on disk but never trained on."""

    episode_id: str
    success: bool
    steps: int
    duration_s: float
    interventions: int  # steps in which the person acted
    discarded: bool = False
