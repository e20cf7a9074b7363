"""Which policy is better, as far as the episodes can tell: a partial order, with refusals in words.

Two policies are ranked when McNemar's exact test over their paired episodes separates them, Holm-corrected for all the
pairs, and no single world separates them the other way round.

Shape letters: K policies, E paired episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.comparison import holm, mcnemar, paired_rollouts_needed


@dataclass(frozen=True)
class Verdict:
    """Two policies and what the data say of them."""

    better: str
    """The one with more successes (the first one named, where they have as many)."""
    worse: str
    difference: float
    """Of the success rates, not negative."""
    p: float
    """Holm-corrected."""
    against: tuple[str, ...]
    """Worlds that on their own separate them the other way round."""
    episodes_needed: int | None
    """Paired episodes that tell a difference of this size with 80 % power, before correction; None where it is 0."""
    alpha: float

    @property
    def ranked(self) -> bool:
        return self.p < self.alpha and not self.against

    def words(self) -> str:
        """In one sentence."""
        if self.ranked:
            return f"{self.better} is better than {self.worse} by {self.difference:.2f} (p = {self.p:.2g})"
        pair = f"{self.better} and {self.worse} cannot be ranked: "
        if self.against:
            return f"{pair}{', '.join(self.against)} say the opposite of the rest"
        if self.episodes_needed is None:
            return f"{pair}they succeed as often"
        return f"{pair}p = {self.p:.2g} for {self.difference:.2f}; it takes some {self.episodes_needed} paired episodes"


@dataclass(frozen=True)
class Ranking:
    """Policies by success, and which of their neighbours are really apart."""

    names: tuple[str, ...]
    """Best first."""
    verdicts: tuple[Verdict, ...]
    """Of all pairs."""

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Runs of the order within which no pair is ranked, as long as they go; two of them may overlap."""
        ranked = {frozenset((one.better, one.worse)) for one in self.verdicts if one.ranked}

        def alike(first: int, last: int) -> bool:
            pairs = combinations(self.names[first : last + 1], 2)
            return not any(frozenset(pair) in ranked for pair in pairs)

        groups, reached = [], -1
        for first in range(len(self.names)):
            last = max(end for end in range(first, len(self.names)) if alike(first, end))
            if last > reached:
                groups.append(self.names[first : last + 1])
                reached = last
        return groups

    def verdict(self, first: str, second: str) -> Verdict:
        """Of these two, in whichever order."""
        return next(one for one in self.verdicts if {one.better, one.worse} == {first, second})

    def words(self) -> list[str]:
        """The order, then every neighbour that cannot be ranked."""
        if len(self.groups) == 1 and len(self.names) > 1:
            lines = ["no ranking: the episodes do not tell these policies apart"]
        else:
            lines = ["; then ".join(" ~ ".join(group) for group in self.groups)]
        neighbours = [self.verdict(*pair) for pair in zip(self.names, self.names[1:], strict=False)]
        return lines + [one.words() for one in neighbours if not one.ranked]


def rank(outcomes: Mapping[str, ArrayLike], worlds: Sequence[str], alpha: float = 0.05) -> Ranking:
    """Rank policies by `outcomes` (E,) of the same episodes, of which each lies in one of `worlds` (E,)."""
    success = {name: np.asarray(one, bool) for name, one in outcomes.items()}
    if any(one.shape != (len(worlds),) for one in success.values()) or not success or not len(worlds):
        raise ValueError(f"need {len(worlds)} outcomes of each policy; got {[one.shape for one in success.values()]}")
    names = sorted(success, key=lambda name: -success[name].mean())
    pairs = list(combinations(names, 2))
    adjusted = holm([mcnemar(success[a], success[b]) for a, b in pairs])
    place = np.asarray(worlds)
    verdicts = [
        _verdict(a, b, success[a], success[b], place, float(p), alpha)
        for (a, b), p in zip(pairs, adjusted, strict=True)
    ]
    return Ranking(tuple(names), tuple(verdicts))


def _verdict(
    better: str,
    worse: str,
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    worlds: NDArray[np.str_],
    p: float,
    alpha: float,
) -> Verdict:
    against = [
        str(world)
        for world in np.unique(worlds)
        for here in [worlds == world]
        if first[here].mean() < second[here].mean() and mcnemar(first[here], second[here]) < alpha
    ]
    difference = float(first.mean() - second.mean())
    alone = float((first & ~second).mean()), float((second & ~first).mean())
    needed = paired_rollouts_needed(*alone) if difference > 0.0 else None
    return Verdict(better, worse, difference, p, tuple(against), needed, alpha)
