"""The direction of dependencies: import-linter's contracts hold, and can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("robot_rl", "sim", "hardware", "policies", "data")

# What each contract must catch: a file to add to a small copy of the layout, and the line in it.
VIOLATIONS = {
    "core": ("robot_rl/bad.py", "import sim"),
    "core-through-apps": ("robot_rl/bad.py", "import robot_rl.apps"),
    "siblings": ("policies/bad.py", "from data import x"),
    "siblings-hardware": ("hardware/bad.py", "import sim"),
    "siblings-through-apps": ("hardware/bad.py", "import robot_rl.apps.wiring"),
    "ros-in-core": ("robot_rl/bad.py", "import rclpy"),
    "ros-in-apps": ("robot_rl/apps/bad.py", "from std_msgs.msg import String"),
    "ros-in-hardware": ("hardware/bad.py", "import rclpy"),
    "ros-in-sim": ("sim/bad.py", "import rclpy.node"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # The folder itself comes first on the path, so that a copy of the layout is linted and not this tree.
    code = "import sys; sys.path.insert(0, '.'); import importlinter.cli as c; c.lint_imports_command()"
    command = [sys.executable, "-c", code, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def skeleton(folder: Path) -> Path:
    """The layout with allowed imports only."""
    for package in (*PACKAGES, "robot_rl/apps", "hardware/nodes"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("x = 1\n")
    (folder / "robot_rl/apps/train.py").write_text("import sim, hardware.nodes.good, policies, data\n")
    (folder / "robot_rl/apps/wiring.py").write_text("import sim, policies, data\n")
    (folder / "hardware/nodes/good.py").write_text("import rclpy, sim, policies, data\nimport robot_rl.apps.wiring\n")
    (folder / "hardware/ros_world.py").write_text("import rclpy\nfrom sensor_msgs.msg import JointState\n")
    (folder / "sim/good.py").write_text("import robot_rl\n")
    return folder


def test_contracts_hold_in_this_tree() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


def test_contracts_allow_what_the_design_allows(tmp_path: Path) -> None:
    result = lint(skeleton(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", VIOLATIONS)
def test_contracts_catch(name: str, tmp_path: Path) -> None:
    file, line = VIOLATIONS[name]
    (skeleton(tmp_path) / file).write_text(line + "\n")
    result = lint(tmp_path)
    assert result.returncode != 0 and "BROKEN" in result.stdout, result.stdout + result.stderr
