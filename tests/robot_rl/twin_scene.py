"""A work folder of `robot-rl cousins` as far as extraction, and runs of policies that learned nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from robot_rl import frames
from robot_rl.apps.config import compose
from robot_rl.apps.imitation import ImitationExperiment, build_model
from robot_rl.checkpoints import save_checkpoint
from robot_rl.typed import to_plain
from sim.cousins.family import cousin_task
from sim.cousins.physics import Physics, PhysicsPosterior
from sim.cousins.scene import OrientedBox, Part, Pose, Scene, SceneObject, Support, View, write_scene
from sim.cousins.tasks import OpenPart
from tests.untrained import Untrained

TASK = OpenPart("object_0", max_steps=12)


def at(x: float, y: float, z: float, yaw: float = 0.0) -> Pose:
    return (x, y, z, float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2)))


def cabinet_scene() -> Scene:
    """A cabinet with a door on a table, its front towards the robot."""
    to_base = np.asarray(at(0.62, 0.0, 0.08, np.pi))

    def inside(x: float, y: float, z: float) -> Pose:
        pose = frames.compose(to_base, np.array([x, y, z, 1.0, 0.0, 0.0, 0.0]))
        a, b, c, qw, qx, qy, qz = (float(one) for one in pose)
        return (a, b, c, qw, qx, qy, qz)

    handle = OrientedBox(inside(0.088, 0.10, 0.0), (0.020, 0.005, 0.05))
    panel = OrientedBox(inside(0.06, 0.0, 0.0), (0.008, 0.138, 0.128))
    door = Part("door", panel, inside(0.068, -0.138, 0.0)[:3], (0.0, 0.0, -1.0), handle, "user")
    box = OrientedBox(at(0.62, 0.0, 0.08, np.pi), (0.108, 0.14, 0.13))
    cabinet = SceneObject(
        "object_0", box, (0.5, 0.5, 0.5), category="cabinet", category_confidence=0.9, support="table_0", parts=(door,)
    )
    table = Support("table_0", "table", OrientedBox(at(0.6, 0.0, -0.07), (0.45, 0.7, 0.02)))
    eye, forward = np.array([0.0, -0.5, 0.5]), np.array([0.55, 0.5, -0.45])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    quat = frames.matrix_to_quat(np.stack([right, np.cross(forward, right), forward], 1))
    x, y, z, qw, qx, qy, qz = (float(one) for one in (*eye, *quat))
    return Scene((table,), (cabinet,), (View((x, y, z, qw, qx, qy, qz), (80.0, 80.0, 48.0, 32.0), (64, 96)),))


def write_work(work: Path, posterior: bool = True) -> Path:
    """The scene, the task and what is known of the physics."""
    (work / "extraction").mkdir(parents=True)
    write_scene(work / "extraction" / "scene.json", cabinet_scene())
    (work / "task.json").write_text(json.dumps(to_plain(TASK)))
    if posterior:
        known = PhysicsPosterior(Physics(arm_gain=0.9, delay_s=0.03), Physics(0.3, 0.3, 0.3, 0.3, 0.05, 0.004))
        (work / "posterior.json").write_text(json.dumps(to_plain(known)))
    return work


def write_policy(run_dir: Path, seed: int, *overrides: str, cameras: tuple[str, ...] = ()) -> Path:
    """A small chunk policy for the task, weights as drawn from `seed`."""
    words = ["task=lift", f"seed={seed}", "policy.inputs.goal=false", *overrides]
    task = cousin_task(run_dir / "scenes", TASK)
    task = replace(task, env=replace(task.env, cameras=cameras, image_hw=(84, 84)))
    experiment = replace(compose("imitate", words, ImitationExperiment), task=task)
    run_dir.mkdir(parents=True)
    (run_dir / "experiment.json").write_text(json.dumps(to_plain(experiment)))
    weights = build_model(experiment, task.observation_spec, task.action_spec).state_dict()
    save_checkpoint(run_dir / "checkpoints", 1, Untrained(weights, {}))
    return run_dir
