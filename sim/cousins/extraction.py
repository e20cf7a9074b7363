"""From a scan to a scene, in steps; each reads the files of the steps before it and writes one of its own.

    cloud.npz -> planes.json (-> percept.npz) -> clusters.npz -> boxes.json -> parts.json -> scene.json

A step whose file is newer than what it is made from (files and its part of the configuration) is skipped, so that after
a correction by hand only what follows is made anew. `clusters.png` and `overlay.png` show what was found;
`object_0.npy`, `object_0.png` hold an object's points and its pixels in the first view.

Shape letters: N points of the cloud.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np

from robot_rl.errors import DataError, UnknownNameError
from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.articulation import ArticulationConfig, find_parts
from sim.cousins.boxes import BoxConfig, fit_objects, ground_of
from sim.cousins.fusion import Cloud, FusionConfig, fit_normals, fuse
from sim.cousins.joining import Joiner, JoiningConfig
from sim.cousins.overlay import draw_scene
from sim.cousins.perception import masks_of, named, perceive, read_percept, write_percept
from sim.cousins.planes import PlaneConfig, find_supports
from sim.cousins.plugins import Perceiver, Percept
from sim.cousins.projection import label_pixels, silhouette
from sim.cousins.refining import refined
from sim.cousins.robot_mask import without_robot
from sim.cousins.scan import Scan
from sim.cousins.scan_folder import read_scan
from sim.cousins.scene import Scene, SceneObject, Support, check_names, read_scene, write_scene
from sim.cousins.segmentation import segment
from sim.cousins.separation import SeparationConfig, clusters, things_mask
from sim.cousins.steps import Steps, read_plain, write_plain

CABINET_CONFIDENCE = 0.5
"""A box whose parts are at least so sure is a cabinet."""


@dataclass(frozen=True)
class ExtractionConfig:
    """Every step's."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    """Depth to cloud."""
    planes: PlaneConfig = field(default_factory=PlaneConfig)
    """Tables, floor, walls."""
    separation: SeparationConfig = field(default_factory=SeparationConfig)
    """Clusters, and where touching things part."""
    joining: JoiningConfig = field(default_factory=JoiningConfig)
    """Segments that are one thing."""
    boxes: BoxConfig = field(default_factory=BoxConfig)
    """Solids and categories."""
    articulation: ArticulationConfig = field(default_factory=ArticulationConfig)
    """Doors, drawers and lids."""
    perceivers: tuple[Perceiver, ...] = ()
    """Plug-ins (`sim.cousins.plugins`), in order: masks part things, names of categories name them. None by default."""


@dataclass(frozen=True)
class Supports:
    """`planes.json`."""

    supports: tuple[Support, ...]
    """Tables, floor, walls."""

    def __post_init__(self) -> None:
        check_names(self.supports)


@dataclass(frozen=True)
class Objects:
    """`boxes.json`, and `parts.json` with what opens."""

    objects: tuple[SceneObject, ...]
    """Named by the number of their cluster."""

    def __post_init__(self) -> None:
        check_names(self.objects)


def extract(folder: Path, work: Path, config: ExtractionConfig, scan: Scan | None = None) -> Scene:
    """The scene of the scan in `folder`, by files in `work`; `scan` if it has been read already."""
    return _Extraction(folder, work, config, scan or read_scan(folder)).scene


def number_of(name: str) -> int:
    """The cluster of an object; -1 for one that a user added under another name."""
    stem, _, number = name.rpartition("_")
    return int(number) if stem == "object" and number.isdigit() else -1


class _Extraction:
    """The steps, each a file and what is read from it."""

    def __init__(self, folder: Path, work: Path, config: ExtractionConfig, scan: Scan) -> None:
        self._work, self._config = work, config
        self._scan = refined(without_robot(scan), config.fusion.max_range_m)
        self._step = Steps(work)
        self._sources = sorted(path for path in folder.iterdir() if path.is_file())

    @cached_property
    def cloud_file(self) -> Path:
        config = self._config.fusion
        return self._step("cloud.npz", self._sources, config, lambda out: fuse(self._scan, config).write(out))

    @cached_property
    def cloud(self) -> Cloud:
        return Cloud.read(self.cloud_file)

    @cached_property
    def planes_file(self) -> Path:
        return self._step("planes.json", [self.cloud_file], self._config.planes, self._make_planes)

    @cached_property
    def supports(self) -> tuple[Support, ...]:
        return read_plain(self.planes_file, Supports).supports

    @cached_property
    def percept_files(self) -> list[Path]:
        """What plug-ins see in the first view; none without them."""
        view, perceivers = self._scan.views[0], self._config.perceivers
        if not perceivers:
            return []
        return [
            self._step(
                "percept.npz", self._sources, perceivers, lambda out: write_percept(out, perceive(view, perceivers))
            )
        ]

    @cached_property
    def percept(self) -> Percept:
        return read_percept(self.percept_files[0]) if self.percept_files else Percept()

    @cached_property
    def clusters_file(self) -> Path:
        config = self._config
        how = (config.separation, config.joining, config.perceivers)
        inputs = [self.cloud_file, self.planes_file, *self.percept_files]
        return self._step("clusters.npz", inputs, how, self._make_clusters)

    @cached_property
    def clusters(self) -> tuple[IntArray, BoolArray]:
        """Each point's thing (N,), -1 for none, and whether it belongs to a handle (N,)."""
        return read_labels(self.clusters_file, len(self.cloud))

    @cached_property
    def boxes_file(self) -> Path:
        how = (self._config.separation, self._config.boxes, self._config.perceivers)
        inputs = [self.cloud_file, self.planes_file, self.clusters_file]
        return self._step("boxes.json", inputs, how, self._make_boxes)

    @cached_property
    def parts_file(self) -> Path:
        inputs = [self.cloud_file, self.clusters_file, self.boxes_file]
        return self._step("parts.json", inputs, self._config.articulation, self._make_parts)

    @cached_property
    def scene(self) -> Scene:
        inputs = [self.cloud_file, self.planes_file, self.clusters_file, self.parts_file]
        return read_scene(self._step("scene.json", inputs, self._config.fusion, self._make_scene))

    def _points(self, one: SceneObject) -> FloatArray:
        return self.cloud.points[self.clusters[0] == number_of(one.name)]

    def _make_planes(self, out: Path) -> None:
        config = self._config.planes
        camera = np.asarray(self._scan.views[0].view.pose_base_camera[:3])
        supports = find_supports(self.cloud.points, camera, config)
        if not any(one.kind != "wall" for one in supports):
            raise DataError(
                f"no table or floor of {config.min_table_m2} m2 within {config.max_tilt_deg} degrees of level; is"
                " pose_base_camera right (z up)? Else look from where more of it is seen, or set planes.min_table_m2"
            )
        write_plain(out, Supports(supports))

    def _make_clusters(self, out: Path) -> None:
        cloud, config, view = self.cloud, self._config, self._scan.views[0]
        labels, protruding = np.full(len(cloud), -1), np.zeros(len(cloud), bool)
        index = np.flatnonzero(things_mask(cloud, self.supports, config.separation))
        base = clusters(cloud.points[index], config.separation.link_m, config.separation.min_points)
        index = index[base >= 0]
        labels[index] = masks = masks_of(cloud.points[index], view, self.percept)
        unmasked = index[masks < 0]
        if len(unmasked):
            found, protruding[unmasked] = self._separate(cloud[unmasked])
            labels[unmasked] = found + masks.max() + 1
        labels[index] = in_order(cloud.points[index], labels[index], config.boxes.min_points)
        with out.open("wb") as stream:
            np.savez(stream, labels=labels, protruding=protruding)
        shown = label_pixels(view, cloud.points[index], labels[index], config.separation.clearance_m, config.fusion)
        picture = cv2.applyColorMap(((shown + 1) * 47 % 256).astype(np.uint8), cv2.COLORMAP_TURBO)
        picture[shown < 0] = 0
        cv2.imwrite(str(self._work / "clusters.png"), picture)

    def _separate(self, things: Cloud) -> tuple[IntArray, BoolArray]:
        """Things' numbers and which points are handles, by surface and colour."""
        normals = fit_normals(things.points, things.origins, self._config.separation.normal_radius_m)
        ground_m = ground_of(things.points, self.supports)[0]
        segments = segment(things, normals, ground_m, self._config.separation)
        return Joiner(things, normals, ground_m, self._config.joining).join(segments)

    def _make_boxes(self, out: Path) -> None:
        objects = fit_objects(self.cloud, *self.clusters, self.supports, self._config.boxes, self._config.separation)
        view = self._scan.views[0]
        write_plain(out, Objects(tuple(named(one, self._points(one), view, self.percept) for one in objects)))

    def _make_parts(self, out: Path) -> None:
        config = self._config.articulation
        objects = read_plain(self.boxes_file, Objects).objects
        names = [one.name for one in objects]
        for name in config.counts:
            if name not in names:
                raise UnknownNameError("object in articulation.counts", name, names)
        done = []
        for one in objects:
            if one.category in ("box", "cabinet") or one.name in config.counts:
                box, parts = find_parts(one.name, one.box, self._points(one), self._scan.views, config)
                sure = max((part.confidence for part in parts), default=0.0)
                one = replace(one, box=box, parts=parts)
                if sure >= CABINET_CONFIDENCE:
                    one = replace(one, category="cabinet", category_confidence=sure)
            done.append(one)
        write_plain(out, Objects(tuple(done)))

    def _make_scene(self, out: Path) -> None:
        labels, view = self.clusters[0], self._scan.views[0]
        known, reach = labels >= 0, self._config.separation.clearance_m
        pixels = label_pixels(view, self.cloud.points[known], labels[known], reach, self._config.fusion)
        masks, described = {}, []
        for one in read_plain(self.parts_file, Objects).objects:
            number = number_of(one.name)
            masks[one.name] = silhouette(pixels == number, (pixels >= 0) & (pixels != number))
            np.save(self._work / f"{one.name}.npy", self._points(one).astype(np.float32))
            cv2.imwrite(str(self._work / f"{one.name}.png"), (255 * masks[one.name]).astype(np.uint8))
            described.append(replace(one, points_file=f"{one.name}.npy", mask_file=f"{one.name}.png"))
        views = tuple(view.view for view in self._scan.views)
        try:
            scene = Scene(self.supports, tuple(described), views, self._scan.assumptions)
        except UnknownNameError as error:  # an object that was taken out by hand, say
            raise DataError(f"{self.boxes_file} or {self.parts_file.name}: {error}; correct it there") from error
        cv2.imwrite(str(self._work / "overlay.png"), draw_scene(view, scene, masks)[:, :, ::-1])
        write_scene(out, scene)


def read_labels(path: Path, points: int) -> tuple[IntArray, BoolArray]:
    """Each point's thing (N,), -1 for none, and whether it belongs to a handle (N,)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels, protruding = arrays["labels"], arrays["protruding"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} holds no labels: {error}; delete it to separate anew") from error
    if labels.shape != (points,) or protruding.shape != (points,) or labels.dtype.kind != "i":
        raise DataError(f"{path}: labels and protruding must be ({points},), one integer per point of cloud.npz")
    return labels, protruding.astype(bool)


def in_order(points: FloatArray, labels: IntArray, min_points: int) -> IntArray:
    """Numbers (N,) from left to right as the arm sees it (falling y), small ones -1."""
    sizes = np.bincount(labels, minlength=1)
    large = sorted(np.flatnonzero(sizes >= min_points), key=lambda number: -float(points[labels == number, 1].mean()))
    order = np.full(len(sizes), -1)
    order[large] = np.arange(len(large))
    return order[labels]
