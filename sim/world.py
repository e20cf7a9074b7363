"""What all lockstep MuJoCo worlds share: time, seeds, stepping, cameras.

Frames: the base frame is the arm's own base body. The TCP is the gripper's grip site, midway between the finger tips:
z points out along the gripper (away from the hand), the fingers open along x. Stamps are simulation time, or what
`SimWorldConfig.clock` says.

MuJoCo puts a simulation that diverges back to the model's first state, in the middle of an episode and with a line in
its log as the only sign. Here such a world stands still instead, in the last sound state until the next reset: nothing
jumps, and the episode ends as one that did not succeed.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np

from robot_rl.types import ArmTarget, TaskState
from sim.arm import ArmConfig, ArmModel, SimArm
from sim.rendering import RenderConfig, SceneRenderer, SimCamera, light_model, make_cameras

log = logging.getLogger(__name__)

DIVERGENCE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
WHOLE = mujoco.mjtState.mjSTATE_FULLPHYSICS


@dataclass(frozen=True)
class SimWorldConfig(ArmConfig):
    """Seeds, cameras and clock of a lockstep world."""

    stream_seed: int = 0
    """Begins the stream of seeds used when `reset` is given none."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Our camera name -> the model's."""
    image_hw: tuple[int, int] = (64, 64)
    """Height and width of images."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """Drawing quality."""
    clock: Callable[[], float] | None = None
    """Source of stamps in seconds; simulation time when None."""


class SimWorld(ABC):
    """Implements `robot_rl.protocols.World`. Same seed and commands give the same bits, in any process."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        arm: ArmModel,
        config: SimWorldConfig,
        robot_prefixes: tuple[str, ...],
    ) -> None:
        self.model, self.data = model, data
        # No air: robosuite's hands have the inertia of metre-sized boxes, which MuJoCo gives the drag of such.
        model.opt.density = model.opt.viscosity = 0.0
        light_model(model, robot_prefixes, config.render)
        self.arm_model = arm
        self.clock = config.clock or (lambda: self.time_s)
        self.arm = SimArm(model, data, arm, config, self.clock)
        renderer = SceneRenderer(model, data, config.image_hw, config.render)
        self._renderer = renderer
        self.cameras: Mapping[str, SimCamera] = make_cameras(config.cameras, renderer, model, self.clock)
        self._episode_seeds = np.random.SeedSequence(config.stream_seed)
        self._substeps = max(1, round(1.0 / (config.controller.rate_hz * model.opt.timestep)))
        self._steps = 0
        self._due_s = 0.0
        self._warnings = [data.warning[kind] for kind in DIVERGENCE]
        self._sound = np.zeros(mujoco.mj_stateSize(model, WHOLE))
        self.diverged = False
        """Whether the simulation has broken down since the last reset; it stands still from then on."""

    @property
    def time_s(self) -> float:
        """Simulated seconds since the last reset."""
        return self.data.time

    @abstractmethod
    def task_state(self) -> TaskState: ...

    @abstractmethod
    def _place(self, seed: int) -> None:
        """Put everything but the arm where `seed` says."""

    def reset(self, seed: int | None) -> None:
        """Place objects and arm as drawn from `seed`; without one, from the stream of `stream_seed`."""
        if seed is None:
            seed = int(self._episode_seeds.spawn(1)[0].generate_state(1)[0])
        self._place(seed)
        self.arm.start(np.random.default_rng([seed, 1]))
        self._due_s, self._steps, self.diverged = 0.0, 0, False
        for one in self._warnings:
            one.number = 0

    def advance(self, duration_s: float) -> ArmTarget | None:
        """Step physics by `duration_s`; durations that are no multiple of the time step even out."""
        model, data = self.model, self.data
        self._due_s += duration_s
        due_steps = round(self._due_s / model.opt.timestep)
        while self._steps < due_steps:
            count = min(self._substeps - self._steps % self._substeps, due_steps - self._steps)
            if self.diverged:
                data.time += count * model.opt.timestep
            else:
                self._step(count)
            self._steps += count
        return None

    def _step(self, count: int) -> None:
        """So many steps of physics, at most up to the next renewal of the torques."""
        model, data = self.model, self.data
        # Torques are renewed on a fixed grid of steps, however time is cut into calls.
        if self._steps % self._substeps == 0:
            self._before_torques()
            self.arm.actuate()
        mujoco.mj_getState(model, data, self._sound, WHOLE)
        # The state is kept as mj_step1 leaves it: kinematics, velocities and contacts are those of the
        # present, and mj_step2 completes the step.
        mujoco.mj_step2(model, data)
        if count > 1:
            mujoco.mj_step(model, data, count - 1)
        mujoco.mj_step1(model, data)
        if any(one.number for one in self._warnings):
            self._stand_still(count)

    def _stand_still(self, count: int) -> None:
        """Back to the last sound state, at rest, with time gone on by `count` steps."""
        model, data = self.model, self.data
        self.diverged = True
        mujoco.mj_setState(model, data, self._sound, WHOLE)
        log.warning("the simulation diverged at %.3f s: it stands still until the next reset", data.time)
        data.qvel[:] = 0.0
        data.time += count * model.opt.timestep
        mujoco.mj_step1(model, data)

    def _before_torques(self) -> None:  # noqa: B027
        """Called at the controller's rate, before each renewal of the torques."""

    def draw_with(self, other: SimWorld) -> None:
        """Draw in the OpenGL context of a world of the same model: one each costs time and memory."""
        self._renderer.draw_with(other._renderer)

    def close(self) -> None:
        self._renderer.close()
