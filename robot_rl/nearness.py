"""How near what a policy would do lies to what was done in similar states.

Shape letters: N steps, S state, D elements of an action (or of a chunk of them), k neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Floats = NDArray[np.floating]
NEIGHBOURS = 10
USUAL = 0.95
"""Share of what was recorded that is near by definition."""
LARGEST = 4000
"""Steps that are looked at; of more, so many drawn at random."""
SMALLEST_STD = 1e-6


def share_near(
    states: Floats, done: Floats, proposed: Floats, episode: NDArray[np.integer], seed: int = 0
) -> float | None:
    """Share of the actions `proposed` (N, D) that lie near those `done` (N, D) in similar states (N, S).

    The distance of an action is that to the nearest of the actions done in the 10 most similar states of other episodes
    (every second one, by `episode` (N,)), states and actions in units of their spread. Near is what is not farther than
    95 % of what was done itself: a policy that does what was done has 0.95. None for less than two episodes.
    """
    known = np.isin(episode, np.unique(episode)[::2])
    asked = np.flatnonzero(~known)
    if not len(asked):
        return None
    if len(asked) > LARGEST:
        asked = np.random.default_rng(seed).choice(asked, LARGEST, replace=False)
    state, scale = _scaled(states), _spread(done)
    tree, actions = KDTree(state[known]), done[known] / scale
    _, index = tree.query(state[asked], min(NEIGHBOURS, len(actions)))
    similar = actions[np.asarray(index).reshape(len(asked), -1)]  # (n, k, D)

    def distance(chosen: Floats) -> Floats:
        return np.linalg.norm(similar - (chosen[asked] / scale)[:, None], axis=-1).min(1)

    return float((distance(proposed) <= np.quantile(distance(done), USUAL)).mean())


def _spread(values: Floats) -> Floats:
    spread = values.std(0)
    return np.where(spread < SMALLEST_STD, 1.0, spread)


def _scaled(values: Floats) -> Floats:
    return (values - values.mean(0)) / _spread(values)
