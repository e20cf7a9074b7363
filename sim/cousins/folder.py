"""A generated scene at rest: a folder with a model that MuJoCo's own viewer opens, and where all of it came from.

    scene.xml     the whole scene, robot included (`python -m mujoco.viewer --mjcf=scene.xml`)
    meshes/ ...   every file that the model refers to
    layout.json   what stands where, from which asset, at which distance; physics, cameras, contacts, seed
    arm.json      names of the arm's parts in the model

Written into a folder beside and renamed, so that a scene is there as a whole or not at all.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from robot_rl.errors import ConfigError, DataError
from robot_rl.typed import to_dataclass, to_plain
from sim.arm import ArmModel
from sim.cousins.layout import SceneLayout

MODEL, LAYOUT, ARM, MESHES = "scene.xml", "layout.json", "arm.json", "meshes"


def write_folder(folder: Path, spec: mujoco.MjSpec, arm: ArmModel, layout: SceneLayout) -> None:
    """Write the scene; an older one of that name is replaced."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / MESHES).mkdir(parents=True)
    (partial / MODEL).write_text(_carry_files(spec.to_xml(), partial))
    for name, value in ((LAYOUT, layout), (ARM, arm)):
        (partial / name).write_text(json.dumps(to_plain(value), indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def read_layout(folder: Path) -> SceneLayout:
    """What stands where; `DataError` says what is wrong with the folder."""
    try:
        return to_dataclass(SceneLayout, json.loads((folder / LAYOUT).read_text()))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{folder} is no generated scene: {error}") from error


def read_folder(folder: Path) -> tuple[mujoco.MjModel, ArmModel, SceneLayout]:
    """Compiled model, arm and layout; `DataError` says what is wrong with the folder."""
    layout = read_layout(folder)
    try:
        arm = to_dataclass(ArmModel, json.loads((folder / ARM).read_text()))
        return mujoco.MjModel.from_xml_path(str(folder / MODEL)), arm, layout
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{folder} is no generated scene: {error}") from error


def _carry_files(xml: str, target: Path) -> str:
    """The model with every file that it refers to copied to below `target`, and referred to from there."""
    root = ElementTree.fromstring(xml)
    copied: dict[str, str] = {}
    for element in root.iter():
        source = element.get("file")
        if source is None:
            continue
        if source not in copied:
            copied[source] = f"{MESHES}/{len(copied)}_{Path(source).name}"
            shutil.copyfile(source, target / copied[source])
        element.set("file", copied[source])
    for compiler in root.iter("compiler"):
        for directory in ("meshdir", "texturedir", "assetdir"):
            compiler.attrib.pop(directory, None)
    for default in root.findall("default"):
        for nested in default.findall("default"):
            if not nested.attrib and not len(nested):  # the robot's, attached without a prefix: not valid to read back
                default.remove(nested)
    return ElementTree.tostring(root, encoding="unicode")
