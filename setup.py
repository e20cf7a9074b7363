"""Packaging for pip and for colcon (ament_python) alike; DESIGN.md explains why it is spelled out."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
NAME = "robot_rl"
TOP_LEVEL = ("robot_rl", "sim", "hardware", "policies", "data")
NODES = ("sim_robot", "guard", "gui", "person", "learner", "actor", "hand", "deploy", "realsense", "arm", "twin")

VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / NAME / "__init__.py").read_text())
assert VERSION, "robot_rl/__init__.py lost its __version__"

EXTRAS = {
    "sim": ["mujoco", "robosuite", "imageio", "imageio-ffmpeg", "matplotlib", "trimesh"],
    # On a sourced ROS 2 install leave this one out: the system's rclpy is used.
    "ros": ["ros-rclpy", "ros-rmw-fastrtps-cpp", "ros-common-interfaces"],
    "cousins": ["coacd", "fast-simplification", "trimesh"],
    "twin": ["pyarrow"],
    "realsense": ["pyrealsense2"],
    "gui": ["viser", "trimesh"],
    "play": ["ogbench", "dm_control"],
    "score": ["diffusers"],
    "words": ["sentence-transformers"],
    "export": ["onnx", "onnxruntime", "onnxscript"],
    "ray": ["ray"],
    "bench": ["rliable", "matplotlib"],
    "dev": [
        "hypothesis",
        "import-linter",
        "playwright",
        "pyright",
        "pytest",
        "pytest-timeout",
        "pytest-rerunfailures",
        "pytest-xdist",
        "ruff",
    ],
}
EXTRAS["all"] = sorted({requirement for group in EXTRAS.values() for requirement in group})


def files_below(folder: str, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern))


setup(
    name="robot-rl",
    version=VERSION[1],
    description="Real-robot learning: record, learn with a person in the loop, rank in a twin, deploy",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="robot-rl developers",
    maintainer="robot-rl developers",
    maintainer_email="robot-rl@example.org",
    license="Apache-2.0",
    classifiers=["Private :: Do Not Upload"],
    python_requires=">=3.11",
    # "" = "." makes an editable install one plain path entry, which pyright and a stray `data/` folder in
    # the working directory both handle, where an import hook would not.
    package_dir={"": "."},
    packages=sorted({*TOP_LEVEL, *find_packages(include=[f"{name}.*" for name in TOP_LEVEL])}),
    package_data={
        "robot_rl": ["conf/**/*.yaml", "hidden.c", "py.typed"],
        "sim": ["assets/**/*"],
        "hardware": ["robots/*.yaml", "gui/assets/**/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", files_below("launch", "*.launch.py")),
    ],
    zip_safe=False,
    install_requires=[
        "gymnasium",
        "hydra-core",
        "msgpack",
        "numpy",
        "omegaconf",
        "opencv-python-headless",
        "PyYAML",
        "rich",
        "safetensors",
        "scipy",
        "tensorboard",
        "torch",
        "websockets",
        "zarr",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "robot-rl = robot_rl.apps.cli:main",
            *(f"{node} = hardware.nodes.{node}:main" for node in NODES),
        ],
    },
)
