"""Everything that the stages of `robot-rl cousins` depend on (conf/cousins.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_rl.errors import ConfigError
from sim.assets.library import LibraryConfig
from sim.cousins.extraction import ExtractionConfig
from sim.cousins.generate import Recipe
from sim.cousins.looks import Encoder
from sim.cousins.matching import MatchWeights
from sim.cousins.plugins import Perceiver
from sim.cousins.world import CousinWorldConfig


@dataclass(frozen=True)
class CousinsConfig:
    """Everything that the stages depend on; conf/cousins.yaml."""

    depth: Perceiver | None = None
    """Plug-in for scans without depth, such as `sim.cousins.plugins.MetricDepth`."""
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    """Scan to scene."""
    library: LibraryConfig = field(default_factory=LibraryConfig)
    """Which assets there are."""
    weights: MatchWeights = field(default_factory=MatchWeights)
    """What counts when an object is matched."""
    encoder: Encoder | None = None
    """Plug-in for matching by looks, such as `sim.cousins.plugins.Features`; counts by `weights.appearance`."""
    recipe: Recipe = field(default_factory=Recipe)
    """What is generated."""
    starts: CousinWorldConfig = field(default_factory=CousinWorldConfig)
    """How episodes begin."""
    demonstrations: int = 300
    """Episodes, in all scenes together."""
    noise: float = 0.15
    """Of the scripted hand, in the action's units."""
    policy: str = "score"
    """What learns from them, of conf/policy."""
    updates: int = 8000
    """Of it."""
    settings: tuple[str, ...] = ("policy.goal_dropout=0", "actions=proposed")
    """Further overrides of conf/imitate.yaml."""
    evaluations: int = 2
    """Episodes in each scene at the end."""

    def __post_init__(self) -> None:
        if self.demonstrations < 1 or self.evaluations < 1 or not self.noise >= 0.0:
            raise ConfigError(
                "demonstrations and evaluations must be at least 1, noise not negative; got "
                f"{self.demonstrations}, {self.evaluations}, {self.noise}"
            )
        if self.weights.appearance > 0 and self.encoder is None:
            raise ConfigError(
                "weights.appearance needs an image encoder with weights on disk:"
                " 'encoder={_target_: sim.cousins.plugins.Features, weights: FOLDER}' (facebook/dinov2-small, say);"
                " weights.appearance=0 leaves looks out"
            )
        if self.encoder is not None and self.weights.appearance == 0:
            raise ConfigError("an encoder is set but counts for nothing; say weights.appearance=0.5, or encoder=null")
