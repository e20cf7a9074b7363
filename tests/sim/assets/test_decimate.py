"""Fewer triangles, the same shape, the same physics."""

# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false
from __future__ import annotations

import mujoco
import numpy as np
import pytest
from scipy.spatial import KDTree

from sim.assets.decimate import decimated
from sim.assets.geometry import Mesh, volume
from sim.robosuite_arm import VISUAL_GROUP, robot_spec

pytest.importorskip("fast_simplification")


def sphere() -> Mesh:
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.1)
    return Mesh(np.asarray(ball.vertices, np.float64), np.asarray(ball.faces, np.int64))


def test_a_decimated_ball_is_a_ball_still() -> None:
    whole = sphere()
    light = decimated(whole, 500)
    assert len(whole.faces) == 20480 and 400 < len(light.faces) <= 500
    np.testing.assert_allclose(np.linalg.norm(light.vertices_m, axis=1), 0.1, atol=5e-3)
    assert volume(light) == pytest.approx(volume(whole), rel=0.02)
    assert decimated(light, 10_000) is light


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_a_decimated_robot_looks_and_weighs_as_the_whole_one(robot: str) -> None:
    hulls, light, fine = (robot_spec(robot, faces)[0].compile() for faces in (0, 12_000, 10_000_000))

    def drawn(model: mujoco.MjModel) -> tuple[np.ndarray, int]:
        data, points, faces = mujoco.MjData(model), [], 0
        mujoco.mj_forward(model, data)
        for geom in np.flatnonzero(model.geom_group == VISUAL_GROUP):
            mesh = model.geom_dataid[geom]
            if mesh < 0:
                continue
            first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            turn = data.geom_xmat[geom].reshape(3, 3)
            points.append(model.mesh_vert[first : first + count] @ turn.T + data.geom_xpos[geom])
            faces += int(model.mesh_facenum[mesh])
        return np.concatenate(points), faces

    few, light_faces = drawn(light)
    many, fine_faces = drawn(fine)
    assert light_faces < 25_000 < 30_000 < fine_faces
    # its vertices lie on what they were made of (faces of up to 1 cm between vertices there)
    assert np.percentile(KDTree(many).query(few)[0], 99) < 0.012
    np.testing.assert_allclose(light.body_mass, hulls.body_mass)
    np.testing.assert_allclose(light.body_inertia, hulls.body_inertia)
