"""Franka Research 3: kinematics. Its topics, limits and home are in `conf/robot/fr3.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

from hardware.ik import Chain, Link
from hardware.robots import no_options

CHAIN = Chain(
    # Denavit-Hartenberg parameters (Craig's convention) of the Panda and the FR3, which share them:
    # https://frankarobotics.github.io/docs/control_parameters.html#denavit-hartenberg-parameters
    joints=(
        Link((0.0, 0.0, 0.333)),
        Link((0.0, 0.0, 0.0), (-pi / 2, 0.0, 0.0)),
        Link((0.0, -0.316, 0.0), (pi / 2, 0.0, 0.0)),
        Link((0.0825, 0.0, 0.0), (pi / 2, 0.0, 0.0)),
        Link((-0.0825, 0.384, 0.0), (-pi / 2, 0.0, 0.0)),
        Link((0.0, 0.0, 0.0), (pi / 2, 0.0, 0.0)),
        Link((0.088, 0.0, 0.0), (pi / 2, 0.0, 0.0)),
    ),
    flange=Link((0.0, 0.0, 0.107)),
)


def chain(options: Mapping[str, Any]) -> Chain:
    """The FR3 is calibrated in its controller; there is nothing to choose."""
    no_options("fr3", options)
    return CHAIN
