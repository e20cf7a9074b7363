"""The same asset in another size, or lying."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.assets.asset import ROOT, Asset
from sim.assets.family import Vector3
from sim.assets.recast import Recast, mass_densities, recast

SCALE_LIMIT = 1.5
"""Stretch per axis, up or down, beyond which an asset is no longer what it was."""
IDENTITY: tuple[Vector3, Vector3, Vector3] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Variant:
    """An asset that is turned first and scaled then."""

    asset: Asset
    """As it is in the library."""
    rotation: tuple[Vector3, Vector3, Vector3] = IDENTITY
    """From its axes to the variant's."""
    scale: Vector3 = (1.0, 1.0, 1.0)
    """Along the variant's axes."""

    def build(self) -> mujoco.MjSpec:
        return self._recast()[0]

    def _recast(self) -> tuple[mujoco.MjSpec, FloatArray]:
        spec = self.asset.build()
        model = spec.compile()
        what = Recast((ROOT,), np.array(self.rotation), np.array(self.scale))
        return recast(model, mass_densities(model, spec, {}), what)

    def entry(self) -> Asset:
        """As an asset; how far drawers come out is scaled with the rest."""
        spec, half = self._recast()
        joints = tuple(replace(one, open_at=float(spec.joint(one.name).range[1])) for one in self.asset.joints)
        x, y, z = map(float, half)
        return replace(self.asset, half_extents_m=(x, y, z), build=self.build, joints=joints)


def scaled_to(asset: Asset, half_extents_m: Vector3, limit: float = SCALE_LIMIT) -> Asset:
    """The asset with this bounding box; `ConfigError` when an axis would stretch or shrink by more than `limit`."""
    x, y, z = (float(wanted / has) for wanted, has in zip(half_extents_m, asset.half_extents_m, strict=True))
    if max(max(s, 1 / s) for s in (x, y, z)) > limit * (1 + 1e-9):
        raise ConfigError(
            f"{asset.name}: scale ({x:.2f}, {y:.2f}, {z:.2f}) is beyond the limit of {limit:.2f} per axis"
        )
    return asset if np.allclose((x, y, z), 1.0, atol=1e-6) else Variant(asset, scale=(x, y, z)).entry()


def turned(asset: Asset, rotation: FloatArray) -> Asset:
    """The asset with its axes turned by `rotation` (3, 3)."""
    first, second, third = ((float(a), float(b), float(c)) for a, b, c in rotation)
    return Variant(asset, (first, second, third)).entry()
