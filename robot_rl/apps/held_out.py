"""Which episodes of a store are learned from, and which are held out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from data.cache import Cache
from data.episode import EpisodeInfo
from robot_rl.errors import DataError

Outcomes = Literal["success", "all"]
OUTCOMES = ("success", "all")


class Choice(Protocol):
    """Which episodes an experiment learns from: see `ImitationExperiment`."""

    @property
    def data(self) -> Path: ...

    @property
    def phases(self) -> tuple[str, ...]: ...

    @property
    def outcomes(self) -> Outcomes: ...

    @property
    def synthetic(self) -> bool: ...

    @property
    def held_out(self) -> float: ...


def choose_episodes(cache: Cache, choice: Choice) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which episodes (E,) are learned from, and which are held out: every `1 / held_out`-th recorded one.

    Counted over all of them, so that a policy of the successes and a critic of everything hold out the same; over those
    that are wanted where that leaves none, or nothing else.
    """
    kept = np.array([_is_wanted(info, choice) for info in cache.infos], bool)
    recorded = np.array([info.usable and info.steps > 0 and not info.synthetic for info in cache.infos], bool)
    usable, out = np.flatnonzero(kept), np.zeros_like(kept)
    if not len(usable):
        raise DataError(
            f"{choice.data} has no episode to learn from: phases {', '.join(choice.phases)}, "
            f"outcomes {choice.outcomes}, synthetic {choice.synthetic}"
        )
    if choice.held_out and len(usable) > 1:
        every = max(round(1.0 / choice.held_out), 2)
        out[np.flatnonzero(recorded)[::every]] = True
        out &= kept
        if not 0 < out.sum() < len(usable):
            wanted = np.flatnonzero(kept & recorded)
            out[:] = False
            out[(wanted if len(wanted) else usable)[::every]] = True
    return kept & ~out, out


def _is_wanted(info: EpisodeInfo, experiment: Choice) -> bool:
    """A failed demonstration shows the wrong thing, an episode without a step nothing; play has no success."""
    good = info.success or info.phase == "play" or experiment.outcomes == "all"
    wanted = info.phase in experiment.phases and (experiment.synthetic or not info.synthetic)
    return info.usable and info.steps > 0 and wanted and good
