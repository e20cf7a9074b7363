"""Every task on every robot: specs, action units, success, configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot_rl import frames
from robot_rl.env import EnvConfig
from robot_rl.errors import UnknownNameError
from sim.robosuite_arm import ROBOTS
from sim.robosuite_world import RobosuiteWorld
from sim.tasks import TASKS, env_config, make_env, sim_task
from tests.sim.conftest import shared_env, shared_world

CONF = Path(__file__).resolve().parents[2] / "robot_rl" / "conf" / "task"


@pytest.mark.parametrize("robot", sorted(ROBOTS))
@pytest.mark.parametrize("task", sorted(TASKS))
def test_observations_keep_their_promise_and_nothing_is_solved_at_the_start(task: str, robot: str) -> None:
    env = shared_env(task, robot)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        env.observation_spec.check(observation)
        assert np.abs(observation["state"]).max() < 15.0
        assert not env.snapshot().task.success
        contacts = _robot_contacts(shared_world(task, robot))
        assert not contacts, f"starts in contact: {contacts}"
    observation, reward, terminated, truncated, info = env.step(np.zeros(env.action_spec.dim))
    env.observation_spec.check(observation)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["executed_action"] == pytest.approx(np.zeros(env.action_spec.dim), abs=1e-6)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_full_action_moves_the_tcp_by_its_unit_along_its_own_axis(task: str) -> None:
    env = shared_env(task)
    for index, name in enumerate(env.action_spec.names[: env.action_spec.arm_dim]):
        sign = -1.0 if name == "z" else 1.0  # away from table and door
        env.reset(seed=1)
        action = np.zeros(env.action_spec.dim)
        action[index] = sign
        for _ in range(5):  # up to speed
            env.step(action)
        before = env.snapshot().arm.pose_base_tcp
        env.step(action)
        moved = frames.relative(before, env.snapshot().arm.pose_base_tcp)
        twist = np.concatenate([moved[:3], frames.quat_to_rotvec(moved[3:])])
        expected = np.zeros(6)
        place = ("x", "y", "z", "rx", "ry", "rz").index(name)
        expected[place] = sign * (env.action_spec.translation_m if place < 3 else env.action_spec.rotation_rad)
        assert twist[:3] == pytest.approx(expected[:3], abs=0.15 * env.action_spec.translation_m)
        assert twist[3:] == pytest.approx(expected[3:], abs=0.15 * env.action_spec.rotation_rad)


@pytest.mark.parametrize(
    ("task", "joint", "solved", "unsolved"),
    [
        ("lift", "cube_joint0", [0.1, 0.1, 0.8 + 0.045], [0.1, 0.1, 0.8 + 0.035]),
        ("door", "Door_hinge", [0.31], [0.29]),
        ("nut_assembly_square", "SquareNut_joint0", [0.23, 0.10, 0.83], [0.23, 0.10, 0.96]),
        ("pick_place_can", "Can_joint0", [0.198, 0.403, 0.86], [0.198, 0.203, 0.86]),
        ("stack", "cubeA_joint0", None, [0.0, 0.1, 0.82]),
    ],
)
def test_success_is_robosuites_own(task: str, joint: str, solved: list[float] | None, unsolved: list[float]) -> None:
    world = shared_world(task)
    for place, success in ((unsolved, False), (solved, True)):
        world.reset(0)
        world.advance(0.3)  # objects are dropped from a centimetre or so
        if place is None:  # on the other cube
            green = world.data.joint("cubeB_joint0").qpos
            place = [green[0], green[1], green[2] + 0.046]
        address = int(world.model.joint(joint).qposadr[0])
        world.data.qpos[address : address + len(place)] = place
        world.advance(0.04 if task == "stack" else 0.002)
        assert world.task_state().success is success


def test_wiping_every_marker_is_success() -> None:
    world = shared_world("wipe")
    world.reset(0)
    markers = world.env.model.mujoco_arena.markers
    world.env.wiped_markers = list(markers[:-1])
    state = world.task_state()
    assert not state.success and state.scalars["wiped_fraction"] == pytest.approx(0.99)
    assert state.poses["nearest"] == pytest.approx(state.poses["centroid"])
    world.env.wiped_markers = list(markers)
    assert world.task_state().success
    world.reset(0)
    assert world.task_state().scalars["wiped_fraction"] == 0.0


def test_poses_are_in_the_base_frame() -> None:
    world = shared_world("lift")
    world.reset(4)
    base = world.data.body("robot0_base").xpos
    cube = world.data.body("cube_main")
    pose = world.task_state().poses["cube"]
    assert pose[:3] == pytest.approx(cube.xpos - base, abs=1e-12)
    assert abs(pose[3:] @ cube.xquat) == pytest.approx(1.0)


def test_door_angles_are_reported() -> None:
    world = shared_world("door")
    world.reset(0)
    world.data.joint("Door_hinge").qpos[0] = 0.2
    world.data.joint("Door_latch_joint").qpos[0] = 0.7
    assert world.task_state().scalars == pytest.approx({"hinge_rad": 0.2, "latch_rad": 0.7})


def test_parked_objects_touch_nothing() -> None:
    world = shared_world("pick_place_can")
    world.reset(0)
    world.advance(0.2)
    parked = {world.model.body(name).id for name in world.config.parked_bodies}
    touching = {int(world.model.geom_bodyid[geom]) for contact in world.data.contact for geom in contact.geom}
    assert not parked & touching


def test_state_without_objects_is_shorter() -> None:
    full, blind = env_config("door"), env_config("door", include_object_state=False)
    assert (blind.objects, blind.scalars) == ((), ())
    assert blind == EnvConfig(**{**vars(full), "objects": (), "scalars": ()})


def test_make_env_takes_overrides_and_refuses_unknown_names() -> None:
    env = make_env("lift", seed=3, max_steps=2, rate_hz=20.0)
    env.reset()
    env.step(np.zeros(4))
    assert env.world.time_s == pytest.approx(0.05)  # type: ignore[attr-defined]
    *_, truncated, _ = env.step(np.zeros(4))
    assert truncated
    with pytest.raises(UnknownNameError, match="lift, nut_assembly_square"):
        sim_task("lft")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_configuration_file_agrees_with_the_registry(name: str) -> None:
    loaded: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    env = loaded["env"]
    for key in ("action", "objects", "scalars"):
        env[key] = tuple(env[key])
    assert EnvConfig(**env) == TASKS[name].env
    assert (loaded["_target_"], loaded["name"]) == ("sim.tasks.TaskConfig", name)
    assert loaded["world"] == "sim.tasks:make_world"


def _robot_contacts(world: RobosuiteWorld) -> list[tuple[str, ...]]:
    """Contacts of arm or hand with anything (deeper than nothing)."""
    names = [
        tuple(world.model.geom(int(geom)).name for geom in contact.geom)
        for contact in world.data.contact
        if contact.dist < -1e-4
    ]
    return [pair for pair in names if any(name.startswith(("robot0", "gripper0")) for name in pair)]
