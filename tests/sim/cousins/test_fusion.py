"""Views to clouds: rays, flying pixels, two views of one plane."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import DataError
from sim.cousins.fusion import Cloud, FusionConfig, back_project, clean_depth, fit_normals, fuse
from sim.cousins.projection import label_pixels, project, silhouette
from sim.cousins.scan import Scan, ScanView
from sim.cousins.scene import View

HW, INTRINSICS = (60, 80), (100.0, 100.0, 39.5, 29.5)


def down(x: float, z: float, rgb: int) -> ScanView:
    """A camera at (x, 0, z) that looks down on the plane z = 0."""
    color = np.full((*HW, 3), rgb, np.uint8)
    return ScanView(color, np.full(HW, z, np.float32), View((x, 0.0, z, 0.0, 1.0, 0.0, 0.0), INTRINSICS, HW))


def test_rays_follow_the_pinhole() -> None:
    depth = np.zeros(HW, np.float32)
    depth[10, 70] = 0.5
    points, pixels = back_project(depth, INTRINSICS)
    assert pixels.tolist() == [[10, 70]]
    assert np.allclose(points, [[(70 - 39.5) * 0.5 / 100, (10 - 29.5) * 0.5 / 100, 0.5]])


def test_projecting_undoes_looking() -> None:
    pose = (0.2, -0.1, 0.8, *map(float, frames.rotvec_to_quat(np.array([2.5, 0.4, -0.3]))))
    view = View(pose, INTRINSICS, HW)  # type: ignore[arg-type]
    depth = np.random.default_rng(0).uniform(0.5, 1.0, HW).astype(np.float32)
    camera, pixels = back_project(depth, INTRINSICS)
    base = camera @ frames.quat_to_matrix(np.asarray(pose[3:])).T + pose[:3]
    assert np.allclose(project(view, base), pixels[:, ::-1], atol=1e-4)
    behind = np.asarray(pose[:3]) - frames.quat_to_matrix(np.asarray(pose[3:]))[:, 2]
    assert np.isnan(project(view, behind[None])).all()


def test_two_views_of_a_plane_become_one() -> None:
    scan = Scan((down(0.0, 0.5, 100), down(0.1, 0.6, 200)))
    cloud = fuse(scan, FusionConfig(voxel_m=0.01, outlier_radius_m=0.03))
    assert np.abs(cloud.points[:, 2]).max() < 1e-6
    # 80 x 60 pixels of 5 mm about x = 0, of 6 mm about x = 0.1
    assert cloud.points[:, 0].min() == pytest.approx(-0.2, abs=0.01)
    assert cloud.points[:, 0].max() == pytest.approx(0.1 + 0.24, abs=0.01)
    assert len(np.unique(np.floor(cloud.points / 0.01).astype(int), axis=0)) == len(cloud)
    both = (np.abs(cloud.points[:, 0]) < 0.1) & (np.abs(cloud.points[:, 1]) < 0.12)
    only_second = cloud.points[:, 0] > 0.25
    assert np.allclose(cloud.colors[only_second], 200 / 255)
    assert (cloud.colors[both] > 100 / 255).all() and (cloud.colors[both] < 200 / 255).all()
    assert np.allclose(fit_normals(cloud.points, cloud.origins, 0.03), (0, 0, 1), atol=1e-4)


def test_flying_pixels_and_lost_ones_are_dropped_and_edges_kept() -> None:
    depth = np.full(HW, 0.9, np.float32)
    depth[:, 40:] = 0.6
    depth[::2, 39] = 0.75  # between front and back
    depth[5, 5] = 0.0
    depth[20, 60] = 0.65
    cleaned = clean_depth(depth, FusionConfig())
    assert (cleaned[::2, 39] == 0).all() and cleaned[5, 5] == 0 and cleaned[20, 60] == 0
    assert np.allclose(cleaned[3:-3, 41:50][:10], 0.6, atol=1e-4) and np.allclose(
        cleaned[3:-3, 5:37][10:], 0.9, atol=1e-4
    )
    assert cleaned[31, 40] == pytest.approx(0.6, abs=1e-3)


def test_noise_shrinks_and_its_mean_stays() -> None:
    noise = np.random.default_rng(0).normal(0, 0.002, HW).astype(np.float32)
    cleaned = clean_depth(0.6 + noise, FusionConfig())[8:-8, 8:-8]
    assert cleaned.std() < 0.001 and cleaned.mean() == pytest.approx(0.6, abs=2e-4)


def test_far_depth_alone_is_no_cloud() -> None:
    with pytest.raises(DataError, match="max_range_m"):
        fuse(Scan((down(0.0, 3.0, 10),)), FusionConfig())


def test_a_damaged_cloud_says_what_to_do(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "cloud.npz"
    fuse(Scan((down(0.0, 0.5, 100),)), FusionConfig(outlier_radius_m=0.03)).write(path)
    assert len(Cloud.read(path)) > 100
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="delete it to fuse anew"):
        Cloud.read(path)


def test_pixels_get_the_label_of_what_they_show() -> None:
    view = down(0.0, 0.5, 100)
    points = np.array([[-0.1, 0.0, 0.0], [0.1, 0.0, 0.0]])
    labels = label_pixels(view, points, np.array([3, 4]), 0.02, FusionConfig())
    assert set(np.unique(labels)) == {-1, 3, 4}
    rows, columns = np.nonzero(labels == 4)
    assert columns.mean() == pytest.approx(39.5 + 0.1 * 100 / 0.5, abs=1) and rows.mean() == pytest.approx(29.5, abs=1)


def test_a_silhouette_has_no_holes_but_where_something_else_is_seen() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[15:25, 15:25] = False
    other = np.zeros_like(mask)
    assert silhouette(mask, other)[15:25, 15:25].all()
    other[18:22, 18:22] = True
    filled = silhouette(mask, other)
    assert not filled[18:22, 18:22].any() and filled[16, 16] and not filled[:4].any()
