"""What can be done with an asset, and where."""

from __future__ import annotations

from robot_rl.errors import ConfigError
from sim.assets.asset import AffordanceKind, Asset
from sim.cousins.layout import PlacedAsset


def affordance_site(thing: PlacedAsset | Asset, kind: AffordanceKind) -> str:
    """The first site of that kind; `ConfigError` names those that there are."""
    for one in thing.affordances:
        if one.kind == kind:
            return one.site
    have = ", ".join(sorted({one.kind for one in thing.affordances})) or "none"
    name = f"{thing.name} ({thing.asset})" if isinstance(thing, PlacedAsset) else thing.name
    raise ConfigError(f"{name} has no {kind}; its affordances: {have}")


def has_affordance(thing: Asset, kind: AffordanceKind) -> bool:
    """Whether there is a site of that kind."""
    return any(one.kind == kind for one in thing.affordances)


def is_liftable(asset: Asset) -> bool:
    """Whether a hand takes it up as a whole."""
    return not asset.joints and has_affordance(asset, "grasp")
