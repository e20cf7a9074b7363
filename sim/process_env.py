"""An `Env` in a process of its own, reached through the interface alone.

What it is asked and what it answers are bytes of `robot_rl.wire_fields`; nothing is unpickled. When the process dies,
the next call says so; `close` ends it.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from robot_rl.env import RobotEnv
from robot_rl.errors import RobotRlError, WireError
from robot_rl.types import ArmState, CameraFrame, FloatArray, Observation, Snapshot, TaskState
from robot_rl.wire_fields import Fields, pack, pack_array, pack_observation

MAX_BYTES = 64 * 1024 * 1024
START_TIMEOUT_S = 120.0
REQUESTS = ("reset", "step", "look")


class ProcessEnv:
    """Implements `robot_rl.protocols.Env` over the env that `make` (picklable) builds in another process."""

    def __init__(self, make: Callable[[], RobotEnv], config: Any) -> None:
        self.rate_hz: float = config.rate_hz
        self.action_spec, self.observation_spec = config.action_spec, config.observation_spec
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()
        self._snapshot: Snapshot | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        fields = self._ask("reset", {"seed": seed})
        observation = fields.observation("observation")
        self._sense(fields)
        return observation, {"stamp_s": self.snapshot().arm.stamp_s, "success": False}

    def step(
        self, action: FloatArray, *, source: str = "policy"
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        body = {"action": pack_array(np.asarray(action, np.float64), "action"), "source": source}
        fields = self._ask("step", body)
        observation, reward = fields.observation("observation"), fields.number("reward")
        terminated, truncated = fields.take("terminated", bool), fields.take("truncated", bool)
        executed = fields.array("executed_action")
        self._sense(fields)
        info = {"stamp_s": self.snapshot().arm.stamp_s, "success": terminated, "executed_action": executed}
        return observation, reward, terminated, truncated, info

    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            raise RuntimeError("call reset() before step() or snapshot()")
        return self._snapshot

    def look(self, seed: int = 0) -> tuple[CameraFrame, FloatArray, FloatArray]:
        """The scene camera's frame with depth, its calibrated pose (7,) in the base frame, and the joints (N,)."""
        fields = self._ask("look", {"seed": seed})
        intrinsics = fields.array("intrinsics").tolist()
        frame = CameraFrame(
            0.0, fields.array("color"), fields.array("depth_m"), (*intrinsics[:2], intrinsics[2], intrinsics[3])
        )
        return frame, fields.array("pose_base_camera"), fields.array("joint_pos_rad")

    def close(self) -> None:
        self._pipe.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _sense(self, fields: Fields) -> None:
        arm, scalars = fields.array("arm"), fields.array("scalars")
        poses = dict(zip(fields.take("pose_names", str).split(), fields.array("poses"), strict=True))
        names = fields.take("scalar_names", str)
        state = ArmState(float(arm[0]), arm[1:8], arm[8:14], arm[21:], float(arm[14]), arm[15:21])
        named = dict(zip(names.split(), map(float, scalars), strict=True))
        self._snapshot = Snapshot(state, TaskState(state.stamp_s, poses, named, fields.take("success", bool)))

    def _ask(self, kind: str, body: Mapping[str, Any]) -> Fields:
        try:
            self._pipe.send_bytes(pack(kind, dict(body), MAX_BYTES))
            fields = Fields.parse(self._pipe.recv_bytes(MAX_BYTES), MAX_BYTES)
        except (EOFError, OSError) as error:
            raise RobotRlError(f"the process of the environment is gone: {error!r}") from error
        if fields.take("kind", str) == "failure":
            raise RobotRlError(f"the environment failed: {fields.take('message', str)}")
        return fields


def _serve(pipe: Connection, make: Callable[[], RobotEnv]) -> None:
    """Answer until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    env = make()
    while True:
        try:
            request = pipe.recv_bytes(MAX_BYTES)
        except (EOFError, OSError):
            env.close()
            sys.exit(0)
        try:
            answer = pack("answer", _answer(env, Fields.parse(request, MAX_BYTES)), MAX_BYTES)
        except (RobotRlError, ValueError, RuntimeError) as error:
            answer = pack("failure", {"message": str(error)[:200]}, MAX_BYTES)
        pipe.send_bytes(answer)


def _answer(env: RobotEnv, fields: Fields) -> dict[str, Any]:
    kind = fields.choice("kind", REQUESTS)
    if kind == "look":
        frame, view, joint_pos_rad = _camera(env).look(fields.integer("seed"))
        return {
            "color": pack_array(frame.color, "color"),
            "depth_m": pack_array(frame.depth_m, "depth_m"),
            "intrinsics": pack_array(np.array(view.intrinsics), "intrinsics"),
            "pose_base_camera": pack_array(np.array(view.pose_base_camera), "pose_base_camera"),
            "joint_pos_rad": pack_array(joint_pos_rad, "joint_pos_rad"),
        }
    if kind == "reset":
        observation, _ = env.reset(seed=fields.optional_integer("seed"))
        return {"observation": pack_observation(observation), **_sensed(env.snapshot())}
    observation, reward, terminated, truncated, info = env.step(
        fields.array("action"), source=fields.take("source", str)
    )
    return {
        "observation": pack_observation(observation),
        "reward": float(reward),
        "terminated": terminated,
        "truncated": truncated,
        "executed_action": pack_array(info["executed_action"], "executed_action"),
        **_sensed(env.snapshot()),
    }


def _sensed(snapshot: Snapshot) -> dict[str, Any]:
    arm, task = snapshot.arm, snapshot.task
    values = [arm.stamp_s, *arm.pose_base_tcp, *arm.twist_base_tcp, arm.gripper_position, *arm.wrench_base]
    return {
        "arm": pack_array(np.array([*values, *arm.joint_pos_rad]), "arm"),
        "pose_names": " ".join(task.poses),
        "poses": pack_array(np.array(list(task.poses.values()), np.float64).reshape(-1, 7), "poses"),
        "scalar_names": " ".join(task.scalars),
        "scalars": pack_array(np.array(list(task.scalars.values()), np.float64), "scalars"),
        "success": task.success,
    }


def _camera(env: RobotEnv) -> Any:
    if not hasattr(env.world, "look"):
        raise WireError("this environment has no scene camera")
    return env.world
