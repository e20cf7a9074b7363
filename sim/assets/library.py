"""All assets that there are: generated ones, those of installed packages, and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from robot_rl.errors import ConfigError, UnknownNameError
from sim.assets.asset import CATEGORIES, Asset
from sim.assets.decompose import silent
from sim.assets.generators import generate_all
from sim.assets.importing import ImportConfig, import_asset
from sim.assets.packages import PACKAGED, package_folder


@dataclass(frozen=True)
class LibraryConfig:
    """What is indexed."""

    per_category: int = 8
    """Generated assets of each category."""
    seed: int = 0
    """Of their parameters."""
    packages: bool = True
    """Whether assets of installed packages are indexed."""
    user: tuple[ImportConfig, ...] = ()
    """A user's own files."""


@dataclass(frozen=True)
class Row:
    """One line of the library's listing."""

    name: str
    """The asset's."""
    category: str
    """One of `CATEGORIES`."""
    source: str
    """Where it is from."""
    size_m: tuple[float, float, float]
    """Full sizes along x, y, z."""
    joints: tuple[str, ...]
    """Kinds of what opens."""
    affordances: tuple[str, ...]
    """Kinds."""


class Library:
    """Assets by name and by category."""

    def __init__(self, assets: Iterable[Asset], absent: Sequence[str] = ()) -> None:
        """`absent` are packages that could be indexed but are not installed."""
        self._assets: dict[str, Asset] = {}
        self.absent = tuple(absent)
        for asset in assets:
            if asset.name in self._assets:
                raise ConfigError(f"two assets are called {asset.name!r}; give one of them another name")
            self._assets[asset.name] = asset

    @classmethod
    def index(cls, config: LibraryConfig | None = None, say: Callable[[str], None] = silent) -> Library:
        """Everything that `config` asks for and that is installed; `say` is told of what takes long."""
        config = config or LibraryConfig()
        assets = list(generate_all(config.per_category, config.seed))
        folders: Mapping[str, object] = {}
        if config.packages:
            folders = {name: package_folder(name) for name in sorted({one.package for one in PACKAGED})}
            assets += [one.asset() for one in PACKAGED if folders[one.package] is not None]
        assets += [import_asset(one, say) for one in config.user]
        return cls(assets, [name for name, folder in folders.items() if folder is None])

    def __len__(self) -> int:
        return len(self._assets)

    @property
    def assets(self) -> tuple[Asset, ...]:
        return tuple(self._assets.values())

    def get(self, name: str) -> Asset:
        """`UnknownNameError` lists all names."""
        if name not in self._assets:
            raise UnknownNameError("asset", name, self._assets)
        return self._assets[name]

    def category(self, category: str) -> tuple[Asset, ...]:
        """All of one category, which may be none."""
        if category not in CATEGORIES:
            raise UnknownNameError("asset category", category, CATEGORIES)
        return tuple(asset for asset in self._assets.values() if asset.category == category)

    def rows(self) -> list[Row]:
        """A line for each asset, by category and name."""
        ordered = sorted(self._assets.values(), key=lambda asset: (CATEGORIES.index(asset.category), asset.name))
        return [_row(asset) for asset in ordered]

    def notes(self) -> list[str]:
        """What is not in the listing, and why."""
        return [f"{one} is not installed: its assets are not indexed" for one in self.absent]


def _row(asset: Asset) -> Row:
    x, y, z = (2 * half for half in asset.half_extents_m)
    joints = tuple(joint.kind for joint in asset.joints)
    return Row(asset.name, asset.category, asset.source, (x, y, z), joints, tuple(a.kind for a in asset.affordances))
