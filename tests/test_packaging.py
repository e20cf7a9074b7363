"""Where each package resolves, and that what is declared in several files agrees."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import robot_rl
from robot_rl.apps.cli import COMMANDS
from robot_rl.apps.graph import graph_names, graph_path, read_graph

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("robot_rl", "sim", "hardware", "policies", "data")


@pytest.mark.parametrize("name", PACKAGES)
def test_package_resolves_to_this_tree_from_anywhere(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()  # a folder of the same name where the user stands must not win
    code = f"import {name}; print({name}.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == ROOT / name / "__init__.py"


def test_launch_and_data_folders_are_what_they_should_be() -> None:
    assert not (ROOT / "launch" / "__init__.py").exists(), "ROS 2's own python package is called launch"
    assert all(path.name.endswith(".launch.py") for path in (ROOT / "launch").glob("*.py"))


def test_versions_agree() -> None:
    package_xml = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package_xml.findtext("version") == robot_rl.__version__
    assert package_xml.findtext("name") == "robot_rl"
    assert importlib.metadata.version("robot-rl") == robot_rl.__version__


def test_package_cannot_be_uploaded() -> None:
    metadata = importlib.metadata.metadata("robot-rl")
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier", [])


def test_every_requirement_is_pinned_and_torch_exactly() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    assert pins["torch"] == "2.13.0"
    normalised = {_normalise(name) for name in pins}
    requirements = importlib.metadata.requires("robot-rl") or []
    wanted = {_normalise(re.split(r"[ ;<>=!\[]", line)[0]) for line in requirements}
    assert wanted - normalised == set()


def test_committed_files_name_no_machine_and_no_registry() -> None:
    files = ("constraints.txt", "pyproject.toml", "setup.py", "setup.cfg", "Makefile", ".ci/run")
    for file in files:
        text = (ROOT / file).read_text()
        assert not re.search(r"https?://(?!download\.ros\.org)|--index-url|--find-links|--hash|/home/", text), file


def test_console_scripts_point_to_modules_that_have_the_function() -> None:
    scripts = importlib.metadata.distribution("robot-rl").entry_points.select(group="console_scripts")
    assert "robot-rl" in {script.name for script in scripts}
    for script in scripts:
        source = ROOT / (script.module.replace(".", "/") + ".py")
        package = ROOT / script.module.replace(".", "/") / "__init__.py"
        assert source.exists() or package.exists(), script.value
        text = (source if source.exists() else package).read_text()
        assert re.search(rf"^(def {script.attr}\(|from .* import .*\b{script.attr}\b)", text, re.M), script.value


def test_every_command_has_its_module() -> None:
    for name, command in COMMANDS.items():
        module = importlib.import_module(command.module)
        assert callable(module.add_arguments) and callable(module.run), name


def test_every_module_of_the_graphs_exists() -> None:
    for name in graph_names():
        for node in read_graph(graph_path(name)).nodes:
            if node.module:
                path = ROOT / node.module.replace(".", "/")
                assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), (
                    name,
                    node.module,
                )


def test_extras_hold_everything_once() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "project" not in pyproject, "metadata lives in setup.py; two sources would drift apart"
    extras = set(importlib.metadata.metadata("robot-rl").get_all("Provides-Extra", []))
    assert extras == {
        *("sim", "cousins", "twin", "ros", "realsense", "gui", "play", "score", "words"),
        *("export", "bench", "ray", "dev", "all"),
    }


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
