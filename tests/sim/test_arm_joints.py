"""Friction, load, inertia and play of an arm's joints, against hand calculation; nothing changes by default."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.types import ArmTarget
from sim.arm_joints import ArmPhysics, dry_friction, read_with_play
from sim.cousins.physics import Physics
from sim.sysid.lone_arm import LoneArm


def test_static_friction_falls_off_with_speed() -> None:
    kinetic = np.array([2.0, 1.0])
    np.testing.assert_allclose(dry_friction(kinetic, 0.5, 0.05, np.zeros(2)), [3.0, 1.5])
    np.testing.assert_allclose(dry_friction(kinetic, 0.5, 0.05, np.array([0.05, 10.0])), [2.0 + np.exp(-1.0), 1.0])


def test_play_hides_the_way_back() -> None:
    seen, path = np.zeros(1), []
    for joint in (0.0, 1.0, 2.0, 1.5, 1.0, 0.0):
        seen = read_with_play(seen, np.array([joint]), np.array([0.5]))
        path.append(float(seen[0]))
    assert path == [0.0, 0.5, 1.5, 1.5, 1.5, 0.5]


def test_a_load_is_one_body_with_the_hand() -> None:
    """Two point-like masses: the inertia about the common centre is the reduced mass times the distance squared."""
    bare = LoneArm("panda", Physics())
    loaded = LoneArm("panda", Physics(arm=ArmPhysics(payload_kg=0.5, payload_tcp_m=(0.0, 0.0, 0.03))))
    site = bare.arm.site_id
    hand = int(bare.model.site_bodyid[site])
    own = float(bare.model.body_mass[hand])
    assert float(loaded.model.body_mass[hand]) == pytest.approx(own + 0.5)
    mujoco.mj_forward(bare.model, bare.data)
    axes = bare.data.site_xmat[site].reshape(3, 3)
    at = bare.data.site_xpos[site] + 0.03 * axes[:, 2]
    mujoco.mj_forward(loaded.model, loaded.data)
    middle = (own * bare.data.xipos[hand] + 0.5 * at) / (own + 0.5)
    np.testing.assert_allclose(loaded.data.xipos[hand], middle, atol=1e-12)
    between = float(np.linalg.norm(at - bare.data.xipos[hand]))
    # the trace of the inertia grows by twice the reduced mass times the square of the distance
    grown = loaded.model.body_inertia[hand].sum() - bare.model.body_inertia[hand].sum()
    assert grown == pytest.approx(2.0 * own * 0.5 / (own + 0.5) * between**2)


def test_an_unknown_load_makes_the_arm_sag() -> None:
    """By its weight over the stiffness: kp times the apparent mass (J M^-1 J^T)^-1 that the controller reckons with."""
    sags, load_kg = [], 0.5
    for carried_kg in (0.0, load_kg):
        world = LoneArm("panda", Physics(arm=ArmPhysics(payload_kg=carried_kg, friction_nm=(0.0,) * 7)))
        world.reset(0)
        before = world.arm.state()
        for _ in range(20):
            world.arm.command(ArmTarget(world.time_s, before.pose_base_tcp, 1.0))
            world.advance(0.1)
        sags.append(float(before.pose_base_tcp[2] - world.arm.state().pose_base_tcp[2]))
    bare = LoneArm("panda", Physics())
    bare.reset(0)
    jacobian, mass, dofs = np.zeros((6, bare.model.nv)), np.zeros((bare.model.nv,) * 2), bare.arm.joints.dofs
    mujoco.mj_jacSite(bare.model, bare.data, jacobian[:3], jacobian[3:], bare.arm.site_id)
    mujoco.mj_fullM(bare.model, mass, bare.data.qM)
    mobility = jacobian[:, dofs] @ np.linalg.solve(mass[np.ix_(dofs, dofs)], jacobian[:, dofs].T)
    expected = mobility[2, 2] * load_kg * 9.81 / bare.config.controller.position_kp
    assert abs(sags[0]) < 1e-6
    assert sags[1] == pytest.approx(expected, rel=0.05)


def test_inertia_and_damping_are_set_and_the_view_keeps_the_nominal_ones() -> None:
    physics = ArmPhysics(armature=(2.0,) * 7, damping_nm_s=(3.0,) * 7, friction_nm=(0.7,) * 7)
    world, bare = LoneArm("panda", Physics(arm=physics)), LoneArm("panda", Physics())
    joints = world.arm.joints
    np.testing.assert_allclose(world.model.dof_armature[joints.dofs], 2.0 * bare.model.dof_armature[joints.dofs])
    np.testing.assert_allclose(world.model.dof_damping[joints.dofs], 3.0)
    np.testing.assert_allclose(joints.view_model.dof_armature[joints.dofs], bare.model.dof_armature[joints.dofs])
    assert bare.arm.joints.view is bare.data


def test_delays_between_two_updates_make_a_difference() -> None:
    """Of any length, and in proportion: a controller at 100 Hz does not round them up to 10 ms."""
    reached = []
    for delay_s in (0.031, 0.034, 0.037):
        world = LoneArm("panda", Physics(delay_s=delay_s))
        world.reset(0)
        pose = world.arm.state().pose_base_tcp.copy()
        for step in range(10):
            pose[2] += 0.01
            world.arm.command(ArmTarget(world.time_s, pose, 1.0))
            world.advance(0.1 if step < 9 else 0.07)
        reached.append(float(world.arm.state().pose_base_tcp[2]))
    first, second = np.diff(reached)
    assert first < -1e-4 and second == pytest.approx(first, rel=0.2)


def test_bad_physics_is_refused() -> None:
    with pytest.raises(ConfigError, match="not negative"):
        ArmPhysics(friction_nm=(-1.0,))
    with pytest.raises(ConfigError, match="each of 7 joints, got 2"):
        LoneArm("panda", Physics(arm=ArmPhysics(friction_nm=(1.0, 1.0))))
