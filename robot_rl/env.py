"""`RobotEnv`: the one environment, over a simulated `World` in lockstep or a real one over ROS 2.

Each action moves the TCP target by a scaled delta in the target's own frame. The target may lead the
measured pose by at most `LEASH_STEPS` full actions, so that an arm held back by a contact or a guard
does not wind up, while directions that the action does not control keep their place. What the guard
let through comes back from the world and is turned into the *executed* action, in the same units,
so that learning never trusts a command that was clipped, refused or overridden. Its gripper element
is -1 or 1 only where the gripper's target really changed, else 0, so that one effect has one label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.passivity import EnergyTank, PassivityConfig
from robot_rl.protocols import World
from robot_rl.types import (
    ACTION_NAMES,
    IMAGE_PREFIX,
    STATE_KEY,
    ActionSpec,
    ArmTarget,
    ArraySpec,
    FloatArray,
    Observation,
    ObservationSpec,
    Snapshot,
)

GRIPPER_THRESHOLD = 1.0 / 3.0
LEASH_STEPS = 3.0
MAX_RATE_HZ = 1000.0  # no arm takes commands faster

# Scales that bring the state to order one where it matters: a workspace is some 0.4 m across, a hand moves at
# some 0.4 m/s, and a grasp is decided within a centimetre of the object. Objects are therefore seen as asinh(offset /
# OBJECT_NEAR_M): in proportion when near, as the logarithm when far, so that a goal a metre away does not drown the
# centimetre (the first layer is normalised as a whole).
POSITION_SCALE_PER_M = 5.0
OBJECT_NEAR_M = 0.03
VELOCITY_SCALE_S_PER_M = 2.5
ANGULAR_VELOCITY_SCALE_S_PER_RAD = 0.5


@dataclass(frozen=True)
class EnvConfig:
    """What the agent sees and does; the same for simulation and hardware."""

    rate_hz: float = 10.0
    """Control rate. HIL-SERL uses 10."""
    max_steps: int = 100
    """Steps after which an episode is truncated (never treated as terminal)."""
    action: tuple[str, ...] = ("x", "y", "z", "gripper")
    """Controlled directions, a subset of x y z rx ry rz gripper."""
    translation_m: float = 0.02
    """Largest translation per step and axis."""
    rotation_rad: float = 0.1
    """Largest rotation per step and axis."""
    gripper_hold_s: float = 0.0
    """For so long after a change the gripper keeps its target, whatever the action says: fingers take time to close,
    and choices that hardly differ in value must not swing meanwhile. HIL-SERL's robots have 0.6 (`gripper_sleep`)."""
    objects: tuple[str, ...] = ()
    """Objects whose poses enter the state; none for policies that must rely on images."""
    scalars: tuple[str, ...] = ()
    """Task scalars that enter the state (door angle, …)."""
    cameras: tuple[str, ...] = ()
    """Cameras whose images enter the observation."""
    image_hw: tuple[int, int] = (64, 64)
    """Height and width of the images."""
    ends_at_success: bool = True
    """Whether success ends the episode; in play it does not, and earns nothing."""
    passivity: PassivityConfig | None = None
    """What energy costs that goes into the surroundings, beyond a tank's; needs an arm that measures its wrench."""

    def __post_init__(self) -> None:
        if not 0.0 < self.rate_hz <= MAX_RATE_HZ:
            raise ConfigError(f"rate_hz must be above 0 and at most {MAX_RATE_HZ:g}; got {self.rate_hz}")
        if self.max_steps < 1 or min(self.image_hw) < 1 or not self.gripper_hold_s >= 0.0:
            raise ConfigError(
                "max_steps and image_hw must be positive, gripper_hold_s not negative; "
                f"got {self.max_steps}, {self.image_hw}, {self.gripper_hold_s}"
            )
        for name in ("action", "objects", "scalars", "cameras"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} names one twice: {', '.join(values)}")

    def seeing(self, other: EnvConfig) -> EnvConfig:
        """The same with what `other` sees as well; `ConfigError` names what else the two differ in."""
        wider = {
            name: tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))
            for name in ("objects", "scalars", "cameras")
        }
        image_hw = self.image_hw if self.cameras else other.image_hw
        mine = replace(self, **wider, image_hw=image_hw)
        theirs = replace(other, **wider, image_hw=other.image_hw if other.cameras else image_hw)
        if different := [name for name, value in vars(mine).items() if value != getattr(theirs, name)]:
            raise ConfigError(f"the tasks differ in env.{', env.'.join(different)}")
        return mine

    @property
    def turns(self) -> bool:
        """Whether the action can turn the TCP."""
        return any(name in ("rx", "ry", "rz") for name in self.action)

    @property
    def action_spec(self) -> ActionSpec:
        return ActionSpec(self.action, self.translation_m, self.rotation_rad)

    @property
    def observation_spec(self) -> ObservationSpec:
        return _observation_spec(self)


class RobotEnv(gym.Env[Any, Any]):
    """Gymnasium environment over any `World`; success is sparse reward 1 and terminates, energy may cost."""

    def __init__(self, world: World, config: EnvConfig) -> None:
        self.world = world
        self.config = config
        self.rate_hz = config.rate_hz
        self.action_spec = config.action_spec
        self.observation_spec = config.observation_spec
        self._arm_axes = arm_axes(self.action_spec)
        self.action_space = self.action_spec.space()
        self.observation_space = self.observation_spec.space()
        self._origin = frames.IDENTITY
        self._target_pose = frames.IDENTITY
        self._gripper_target = 1.0
        self._gripper_hold_steps = round(config.gripper_hold_s * config.rate_hz)
        self._steps = self._gripper_free = 0
        self._tank = EnergyTank(config.passivity) if config.passivity else None
        self._snapshot: Snapshot | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.world.reset(seed)
        snapshot = self._sense()
        self.check_names()
        self._origin = np.asarray(snapshot.arm.pose_base_tcp, np.float64)
        self._target_pose = self._origin
        self._gripper_target = float(round(snapshot.arm.gripper_position))
        self._steps = self._gripper_free = 0
        if self._tank is not None:
            self._tank.fill()
        return self._observe(snapshot), {"stamp_s": snapshot.arm.stamp_s, "success": False}

    def step(
        self, action: FloatArray, *, source: str = "policy"
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for one period. `source` (policy | human) tells the guard's mux who commands."""
        action = np.asarray(action, np.float64)
        self.action_spec.check(action)
        action = np.clip(action, -1.0, 1.0)
        before = self.snapshot().arm
        reference = leashed(before.pose_base_tcp, self._target_pose, self.action_spec)
        wish = self._gripper_wish(action)
        self.world.arm.command(ArmTarget(before.stamp_s, moved(reference, action, self.action_spec), wish, source))
        executed_target = self.world.advance(1.0 / self.rate_hz)
        was_gripper_target = self._gripper_target
        if executed_target is None:
            executed = action
            self._target_pose, self._gripper_target = moved(reference, action, self.action_spec), wish
        else:
            executed = self._executed(reference, executed_target, action)
            self._target_pose = executed_target.pose_base_tcp
            self._gripper_target = executed_target.gripper_position
        if self.action_spec.has_gripper:
            change = np.sign(self._gripper_target - was_gripper_target)
            executed = np.append(executed[:-1], change)
            if change:
                self._gripper_free = self._steps + self._gripper_hold_steps
        after = self._sense()
        self._steps += 1
        success = after.task.success and self.config.ends_at_success
        info = {
            "stamp_s": after.arm.stamp_s,
            "success": success,
            "executed_action": executed.astype(np.float32),
        }
        reward = float(success) - (self._tank.pay(before, after.arm) if self._tank is not None else 0.0)
        truncated = not success and self._steps >= self.config.max_steps
        return self._observe(after), reward, success, truncated, info

    def snapshot(self) -> Snapshot:
        """Arm and task as of the last observation."""
        if self._snapshot is None:
            raise RuntimeError("call reset() before step() or snapshot()")
        return self._snapshot

    def check_names(self) -> None:
        """`UnknownNameError` unless the world shows what the agent is to see."""
        task = self.world.task_state()
        for kind, shown in (("objects", task.poses), ("scalars", task.scalars), ("cameras", self.world.cameras)):
            for name in getattr(self.config, kind):
                if name not in shown:
                    raise UnknownNameError(f"env.{kind}", name, shown)

    def close(self) -> None:
        self.world.close()

    def _sense(self) -> Snapshot:
        self._snapshot = Snapshot(self.world.arm.state(), self.world.task_state())
        return self._snapshot

    def _executed(self, reference: FloatArray, target: ArmTarget, action: FloatArray) -> FloatArray:
        """`action` with the arm elements that would have asked for `target`."""
        spec = self.action_spec
        step = frames.relative(reference, target.pose_base_tcp)
        delta = np.concatenate([step[:3] / spec.translation_m, frames.quat_to_rotvec(step[3:]) / spec.rotation_rad])
        executed = action.copy()
        executed[: spec.arm_dim] = np.clip(delta[self._arm_axes], -1.0, 1.0)
        return executed

    def _gripper_wish(self, action: FloatArray) -> float:
        held = self._steps < self._gripper_free
        if self.action_spec.has_gripper and not held and abs(action[-1]) > GRIPPER_THRESHOLD:
            return 1.0 if action[-1] > 0 else 0.0
        return self._gripper_target

    def _observe(self, snapshot: Snapshot) -> Observation:
        """State in the relative frame: TCP seen from the start pose, the rest seen from the TCP.

        Orientations are part of it only when the action can turn the TCP.
        """
        arm, config, turns = snapshot.arm, self.config, self.config.turns
        tcp = frames.relative(self._origin, arm.pose_base_tcp)
        lead = frames.relative(arm.pose_base_tcp, self._target_pose)
        to_tcp = frames.quat_to_matrix(arm.pose_base_tcp[3:]).T
        parts: list[Any] = [
            tcp[:3] * POSITION_SCALE_PER_M,
            to_tcp @ arm.twist_base_tcp[:3] * VELOCITY_SCALE_S_PER_M,
            lead[:3] / (LEASH_STEPS * config.translation_m),
        ]
        if turns:
            parts += [
                frames.rotation_6d(tcp[3:]),
                to_tcp @ arm.twist_base_tcp[3:] * ANGULAR_VELOCITY_SCALE_S_PER_RAD,
                frames.quat_to_rotvec(lead[3:]) / (LEASH_STEPS * config.rotation_rad),
            ]
        parts.append([arm.gripper_position * 2.0 - 1.0, self._gripper_target * 2.0 - 1.0])
        for name in config.objects:
            pose = frames.relative(arm.pose_base_tcp, snapshot.task.poses[name])
            parts.append(np.arcsinh(pose[:3] / OBJECT_NEAR_M))
            if turns:
                parts.append(frames.rotation_6d(pose[3:]))
        parts.append([snapshot.task.scalars[name] for name in config.scalars])
        observation: Observation = {STATE_KEY: np.concatenate(parts).astype(np.float32)}
        for name in config.cameras:
            observation[IMAGE_PREFIX + name] = self.world.cameras[name].read().color
        return observation


def leashed(measured: FloatArray, target: FloatArray, spec: ActionSpec) -> FloatArray:
    """`target` (7,), pulled back to within `LEASH_STEPS` of the measured pose (7,), both in the base frame."""
    lead = frames.relative(measured, target)
    translation = _shorten(lead[:3], LEASH_STEPS * spec.translation_m)
    rotation = _shorten(frames.quat_to_rotvec(lead[3:]), LEASH_STEPS * spec.rotation_rad)
    return frames.compose(measured, np.concatenate([translation, frames.rotvec_to_quat(rotation)]))


def moved(reference: FloatArray, action: FloatArray, spec: ActionSpec) -> FloatArray:
    """`reference` (7,) moved by the arm elements of `action` (A,), in its own frame."""
    delta = np.zeros(6)
    delta[arm_axes(spec)] = action[: spec.arm_dim]
    rotation = frames.rotvec_to_quat(delta[3:] * spec.rotation_rad)
    return frames.compose(reference, np.concatenate([delta[:3] * spec.translation_m, rotation]))


def arm_axes(spec: ActionSpec) -> list[int]:
    """Indices of the action's arm elements in x y z rx ry rz."""
    return [ACTION_NAMES.index(name) for name in spec.names if name != "gripper"]


def _shorten(vector: FloatArray, longest: float) -> FloatArray:
    length = float(np.linalg.norm(vector))
    return vector if length <= longest else vector * (longest / length)


def _observation_spec(config: EnvConfig) -> ObservationSpec:
    axes, six = ("x", "y", "z"), tuple(f"r{i}" for i in range(6))
    names = [f"{part}{axis}" for part in ("tcp.", "tcp.v", "lead.") for axis in axes]
    if config.turns:
        names += [f"tcp.{one}" for one in six]
        names += [f"{part}{axis}" for part in ("tcp.w", "lead.r") for axis in axes]
    names += ["gripper.position", "gripper.target"]
    of_object = (*axes, *six) if config.turns else axes
    names += [f"{name}.{one}" for name in config.objects for one in of_object]
    names += list(config.scalars)
    arrays = {STATE_KEY: ArraySpec((len(names),), names=tuple(names))}
    for name in config.cameras:
        arrays[IMAGE_PREFIX + name] = ArraySpec((*config.image_hw, 3), "uint8", 0, 255)
    return ObservationSpec(arrays)
