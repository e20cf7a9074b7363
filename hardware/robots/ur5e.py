"""Universal Robots UR5e: kinematics. Its topics, limits and home are in `conf/robot/ur5e.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from pathlib import Path
from typing import Any

import yaml

from hardware.ik import Chain, Link
from robot_rl.errors import ConfigError

LINKS = ("shoulder", "upper_arm", "forearm", "wrist_1", "wrist_2", "wrist_3")

# Denavit-Hartenberg lengths of the UR5e, metres:
# https://www.universal-robots.com/articles/ur/application-installation/dh-parameters-for-calculations-of-kinematics-and-dynamics/
D1, A2, A3, D4, D5, D6 = 0.1625, -0.425, -0.3922, 0.1333, 0.0997, 0.0996

NOMINAL = (
    Link((0.0, 0.0, D1)),
    Link((0.0, 0.0, 0.0), (pi / 2, 0.0, 0.0)),
    Link((A2, 0.0, 0.0)),
    Link((A3, 0.0, D4)),
    Link((0.0, -D5, 0.0), (pi / 2, 0.0, 0.0)),
    Link((0.0, D6, 0.0), (pi / 2, pi, pi)),
)
# ROS's base_link (x forward) is the controller's base frame turned by half a circle about z (REP-199).
BASE = Link((0.0, 0.0, 0.0), (0.0, 0.0, pi))


def chain(options: Mapping[str, Any]) -> Chain:
    """Nominal chain, or the one of `calibration_file`: the YAML that ur_calibration extracts from an arm.

    Each UR is calibrated in the factory; its true TCP is off the nominal one by up to centimetres.
    """
    if unknown := set(options) - {"calibration_file"}:
        raise ConfigError(f"robot model 'ur5e' has no model_options {sorted(unknown)}; valid choices: calibration_file")
    file = options.get("calibration_file")
    return Chain(NOMINAL if not file else _calibrated(Path(file)), BASE)


def _calibrated(path: Path) -> tuple[Link, ...]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        kinematics = content["kinematics"]
        return tuple(
            Link(
                (float(link["x"]), float(link["y"]), float(link["z"])),
                (float(link["roll"]), float(link["pitch"]), float(link["yaw"])),
            )
            for link in (kinematics[name] for name in LINKS)
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"calibration_file {path}: {type(error).__name__} {error}; expected the YAML that "
            f"`ros2 launch ur_calibration calibration_correction.launch.py` writes: "
            f"kinematics with {', '.join(LINKS)}, each x y z roll pitch yaw"
        ) from error
