"""The seams of the system. Simulation and hardware, policy and person are each one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from robot_rl.types import (
    ActionSpec,
    ArmState,
    ArmTarget,
    CameraFrame,
    EpisodeEnd,
    EpisodeStart,
    FloatArray,
    Goal,
    HumanInput,
    Observation,
    ObservationSpec,
    Snapshot,
    TaskState,
    Transition,
    Verdict,
)


@runtime_checkable
class Arm(Protocol):
    """An arm with a gripper: reads its state, takes a pose target."""

    def state(self) -> ArmState:
        """Newest measured state. Raises `StaleError` when there is none within the deadline."""
        ...

    def command(self, target: ArmTarget) -> None:
        """Ask for `target`; returns at once. The guard may clip or refuse it."""
        ...


@runtime_checkable
class Camera(Protocol):
    """A colour (and optionally depth) camera."""

    def read(self) -> CameraFrame:
        """Newest frame. Raises `StaleError` when there is none within the deadline."""
        ...


class World(Protocol):
    """One arm, its cameras and the task's surroundings. Simulated in lockstep, or real over ROS 2."""

    @property
    def arm(self) -> Arm: ...

    @property
    def cameras(self) -> Mapping[str, Camera]: ...

    def task_state(self) -> TaskState:
        """Objects and success, as the task's sensors (or the simulator) report them."""
        ...

    def reset(self, seed: int | None) -> None:
        """Bring arm and objects to a start state; blocks until done."""
        ...

    def advance(self, duration_s: float) -> ArmTarget | None:
        """Let time pass until the next control tick (`duration_s` after the last one).

        Returns the target that was really executed since the last tick, or None when it is the
        one commanded. In simulation this steps physics; on hardware it sleeps to an absolute deadline.
        """
        ...

    def close(self) -> None: ...


class Env(Protocol):
    """Gymnasium API with typed specs; `robot_rl.env.RobotEnv` is the one implementation over a `World`."""

    observation_spec: ObservationSpec
    action_spec: ActionSpec
    rate_hz: float

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """`info` has `stamp_s`, and `goal` (a `Goal`) where the task has goals."""
        ...

    def step(
        self, action: FloatArray, *, source: str = "policy"
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """`source` is policy | human. `info` has `executed_action` (A,), `stamp_s` and `success`."""
        ...

    def snapshot(self) -> Snapshot: ...

    def close(self) -> None: ...


class Policy(Protocol):
    """Maps an observation to an action (A,) in [-1, 1]."""

    @property
    def version(self) -> int:
        """Version of the parameters now in use; 0 for policies that do not learn."""
        ...

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        """Called at each episode's start: forget chunks and recurrent state, take the goal if it has one.

        What the episode's actions are sampled from is drawn from `seed`, if there is one, so that trials of one start
        can be repeated and paired with those in a twin; exploration goes on with a stream of its own.
        """
        ...

    def act(self, observation: Observation) -> FloatArray: ...


class Human(Protocol):
    """The intervention input: whatever a person (or the scripted person) steers with."""

    def reset(self, phase: str) -> None:
        """A new episode of `phase` begins: `demo` asks the person to demonstrate it whole."""
        ...

    def read(self) -> HumanInput:
        """What the device says now; not `engaged` when the person is not in control."""
        ...

    def verdict(self) -> Verdict | None:
        """A label given since the last call, if any (each label is returned once)."""
        ...


class Subscriber(Protocol):
    """Listens to the one episode loop: recorder, sender, viewer, metrics."""

    def on_start(self, start: EpisodeStart) -> None: ...

    def on_step(self, transition: Transition) -> None: ...

    def on_end(self, end: EpisodeEnd) -> None: ...


class Transport(Protocol):
    """The actor's line to the learner: transitions up in step, the newest parameters down."""

    def send(self, event: EpisodeStart | Transition | EpisodeEnd) -> None:
        """Queue for delivery; kept until the learner acknowledges it."""
        ...

    def parameters(self) -> tuple[int, Mapping[str, Any]] | None:
        """(version, tensors) when newer ones than last returned have arrived, else None."""
        ...
