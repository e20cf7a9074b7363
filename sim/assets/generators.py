"""The families of generated assets, by name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robot_rl.errors import UnknownNameError
from sim.assets.asset import Asset
from sim.assets.cabinet import Cabinet
from sim.assets.connectors import Connector
from sim.assets.containers import Bottle, Box, Can
from sim.assets.family import Family
from sim.assets.hinged_box import HingedBox
from sim.assets.pegs import Peg, Socket
from sim.assets.shelf import Shelf
from sim.assets.tools import Tool
from sim.assets.vessels import Bowl, Mug

FAMILIES: dict[str, type[Family]] = {
    family.category: family
    for family in (Cabinet, HingedBox, Shelf, Mug, Bowl, Bottle, Can, Box, Tool, Peg, Socket, Connector)
}


def family(category: str) -> type[Family]:
    """The generator of a category."""
    if category not in FAMILIES:
        raise UnknownNameError("asset category", category, FAMILIES)
    return FAMILIES[category]


def generate(category: str, seed: int) -> Asset:
    """A member of a family; the same seed gives the same one."""
    parameters = family(category).sample(np.random.default_rng(seed))
    return parameters.asset(f"generated/{category}_{seed}")


def generate_all(per_category: int, seed: int = 0) -> Iterator[Asset]:
    """So many of each family."""
    for category in FAMILIES:
        for index in range(per_category):
            yield generate(category, seed + index)
