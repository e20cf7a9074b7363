"""Kinematics of the arms: against independent formulas and models, and inverse against forward."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import mujoco
import numpy as np
import pytest
import robosuite

from hardware import robots
from hardware.arm_binding import load_binding
from hardware.ik import Chain, Kinematics, Link, UnreachableError
from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray

ARMS = ("fr3", "ur5e", "sim_panda", "sim_ur5e")
ROBOSUITE = Path(robosuite.__file__).parent / "models" / "assets" / "robots"


@cache
def kinematics(name: str) -> Kinematics:
    return load_binding(name).kinematics()


def reachable(name: str, count: int, seed: int) -> list[FloatArray]:
    """Joint positions all over the limits, but within one turn."""
    arm, rng = kinematics(name), np.random.default_rng(seed)
    low, high = np.maximum(arm.lower_rad, -np.pi), np.minimum(arm.upper_rad, np.pi)
    return [rng.uniform(low, high) for _ in range(count)]


def denavit_hartenberg(a: float, d: float, alpha: float, theta: float) -> FloatArray:
    ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
    return np.array(
        [
            [ct, -st * ca, st * sa, a * ct],
            [st, ct * ca, -ct * sa, a * st],
            [0, sa, ca, d],
            [0, 0, 0, 1],
        ]
    )


def test_ur5e_is_the_makers_denavit_hartenberg_table() -> None:
    a = (0.0, -0.425, -0.3922, 0.0, 0.0, 0.0)
    d = (0.1625, 0.0, 0.0, 0.1333, 0.0997, 0.0996)
    alpha = (np.pi / 2, 0.0, 0.0, np.pi / 2, -np.pi / 2, 0.0)
    arm = Kinematics(robots.load_chain("ur5e"), np.full(6, -7.0), np.full(6, 7.0), np.zeros(6))
    for joints in reachable("ur5e", 20, seed=0):
        matrix = np.diag([-1.0, -1.0, 1.0, 1.0])  # base_link to the controller's base: half a circle about z
        for row in zip(a, d, alpha, joints, strict=True):
            matrix = matrix @ denavit_hartenberg(*row)
        pose = arm.forward(joints)
        np.testing.assert_allclose(pose[:3], matrix[:3, 3], atol=1e-9)
        np.testing.assert_allclose(frames.quat_to_matrix(pose[3:]), matrix[:3, :3], atol=1e-7)


@pytest.mark.parametrize(
    ("name", "folder", "flange_to_hand", "tolerance_m"),
    [
        # robosuite's hand sits 0.5 mm off Franka's flange and is turned by -45 degrees on it.
        ("fr3", "panda", (0, 0, -0.0005, np.cos(np.pi / 8), 0, 0, -np.sin(np.pi / 8)), 1e-6),
        # robosuite's UR5e has its lengths rounded to 1 mm.
        ("ur5e", "ur5e", (0, 0, 0, 1, 0, 0, 0), 5e-3),
    ],
)
def test_forward_agrees_with_robosuites_model(
    name: str, folder: str, flange_to_hand: tuple[float, ...], tolerance_m: float
) -> None:
    model = mujoco.MjModel.from_xml_path(str(ROBOSUITE / folder / "robot.xml"))
    data = mujoco.MjData(model)
    dim = model.nq
    arm = Kinematics(
        robots.load_chain(name),
        np.full(dim, -7.0),
        np.full(dim, 7.0),
        np.zeros(dim),
        np.array(flange_to_hand),
    )
    for joints in reachable(name, 20, seed=1):
        data.qpos[:] = joints
        mujoco.mj_kinematics(model, data)
        hand = data.body("right_hand")
        pose = arm.forward(joints)
        assert np.linalg.norm(pose[:3] - hand.xpos) < tolerance_m
        if name == "fr3":
            assert frames.geodesic_rad(pose[3:], hand.xquat / np.linalg.norm(hand.xquat)) < 1e-3


@pytest.mark.parametrize("name", ARMS)
def test_jacobian_is_the_derivative_of_forward(name: str) -> None:
    arm = kinematics(name)
    for joints in reachable(name, 5, seed=2):
        jacobian, step = arm.jacobian(joints), 1e-6
        for index in range(arm.dim):
            delta = np.eye(arm.dim)[index] * step
            before, after = arm.forward(joints - delta), arm.forward(joints + delta)
            turn = frames.quat_multiply(after[3:], frames.quat_inverse(before[3:]))
            numeric = np.concatenate([after[:3] - before[:3], frames.quat_to_rotvec(turn)]) / (2 * step)
            np.testing.assert_allclose(jacobian[:, index], numeric, atol=1e-6)


@pytest.mark.parametrize("name", ARMS)
def test_inverse_undoes_forward_on_the_same_branch(name: str) -> None:
    arm, rng = kinematics(name), np.random.default_rng(3)
    for joints in reachable(name, 60, seed=4):
        target = arm.forward(joints)
        start = np.clip(joints + rng.uniform(-0.2, 0.2, arm.dim), arm.lower_rad, arm.upper_rad)
        solution = arm.inverse(target, start)
        pose = arm.forward(solution)
        assert np.linalg.norm(pose[:3] - target[:3]) < 1e-4
        assert frames.geodesic_rad(pose[3:], target[3:]) < 1e-3
        assert np.all((solution >= arm.lower_rad) & (solution <= arm.upper_rad))
        assert np.max(np.abs(solution - start)) < 1.0


@pytest.mark.parametrize("name", ARMS)
def test_no_joint_jumps_along_a_path(name: str) -> None:
    """A square of 20 cm, 2 mm a step, with a slow turn: the joints move as little as the TCP does."""
    binding = load_binding(name)
    arm, joints = kinematics(name), np.array(binding.home_joints_rad)
    pose = arm.forward(joints)
    corners = np.array([[0, 0, 0], [0, 0.1, 0], [0.1, 0.1, 0], [0.1, -0.1, 0], [0, -0.1, 0], [0, 0, 0]])
    largest = 0.0
    for begin, end in itertools.pairwise(corners):
        count = int(np.linalg.norm(end - begin) / 0.002)
        for step in range(1, count + 1):
            target = pose.copy()
            target[:3] += begin + (end - begin) * step / count
            turn = np.array([0.0, 0.0, 0.2 * np.sin(np.pi * step / count)])
            target[3:] = frames.quat_multiply(pose[3:], frames.rotvec_to_quat(turn))
            solution = arm.inverse(target, joints)
            largest = max(largest, float(np.max(np.abs(solution - joints))))
            joints = solution
    assert largest < 0.06


@pytest.mark.parametrize("name", ARMS)
def test_unreachable_is_refused_by_name(name: str) -> None:
    arm, home = kinematics(name), np.array(load_binding(name).home_joints_rad)
    pose = arm.forward(home)
    for offset in ([1.5, 0, 0], [0, 0, 2.0], [-3.0, 0, 0]):
        target = pose.copy()
        target[:3] += offset
        with pytest.raises(UnreachableError, match=r"mm and .* rad are left"):
            arm.inverse(target, home)


def test_wrong_sizes_are_named() -> None:
    chain = Chain((Link(), Link((0.0, 0.0, 1.0))))
    with pytest.raises(ConfigError, match="3 home joint values for a chain of 2"):
        Kinematics(chain, np.zeros(2) - 1, np.zeros(2) + 1, np.zeros(3))
