"""Which policy is better, as far as the episodes can tell: a partial order, with refusals in words.

Two policies are ranked when their paired episodes separate them (McNemar's exact test), their differences in the worlds
and scenes do as well (min F' over both, where there are several: episodes of one world or scene are alike, and a policy
that is better in those at hand need not be in the next one), and no single world of a scene separates them the other
way round. The larger of both p counts, Holm-corrected for all the pairs.

Shape letters: K policies, E paired episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl import paired
from robot_rl.comparison import holm, mcnemar, p_over_factors, paired_rollouts_needed

FACTORS = ("worlds", "scenes")
UNRANKED = "no ranking: the episodes do not tell these policies apart"


@dataclass(frozen=True)
class Verdict:
    """Two policies and what the data say of them."""

    better: str
    """The one with more successes (the first one named, where they have as many)."""
    worse: str
    difference: float
    """Of the success rates, not negative."""
    p: float
    """The larger of `by_episodes` and what the worlds give, Holm-corrected."""
    by_episodes: float
    """McNemar's p, of the paired episodes as if all were independent; not corrected."""
    over_worlds: float
    """p of the differences in the worlds and scenes; not corrected, 0 where there is one world."""
    differ: str
    """Of "worlds" and "scenes" those among which the difference varies more."""
    against: tuple[str, ...]
    """Worlds (of several scenes: scene/world) that on their own separate them the other way round."""
    episodes_needed: int | None
    """Paired episodes that tell a difference of this size with 80 % power among all pairs; None where it is 0."""
    alpha: float

    @property
    def ranked(self) -> bool:
        return self.p < self.alpha and not self.against

    @property
    def probability_of_improvement(self) -> float:
        """That an episode of the better goes better than one of the worse, half where both end alike (2108.13264)."""
        return (1.0 + self.difference) / 2.0

    def words(self) -> str:
        """In one sentence."""
        if self.ranked:
            return f"{self.better} is better than {self.worse} by {self.difference:.2f} (p = {self.p:.2g})"
        pair = f"{self.better} and {self.worse} cannot be ranked: "
        if self.against:
            return f"{pair}{', '.join(self.against)} say the opposite of the rest"
        if self.episodes_needed is None:
            return f"{pair}they succeed as often"
        told = f"{pair}p = {self.p:.2g} for {self.difference:.2f}"
        if self.over_worlds > self.by_episodes:
            return (
                f"{told}, by which the {self.differ} differ too much: more {self.differ} can tell, more episodes in "
                "these cannot"
            )
        return f"{told}; it takes some {self.episodes_needed} paired episodes"


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
        """The order as far as it goes, then every neighbour that cannot be ranked."""
        return self._order() + [one.words() for one in self._neighbours() if not one.ranked]

    def _order(self) -> list[str]:
        """One line where the groups say it all; else a line for each policy that is better than another."""
        if not any(one.ranked for one in self.verdicts):
            return list(self.names) if len(self.names) == 1 else [UNRANKED]
        together = {frozenset(pair) for group in self.groups for pair in combinations(group, 2)}
        apart = [one for one in self.verdicts if frozenset((one.better, one.worse)) not in together]
        if all(one.ranked for one in apart):
            return ["; then ".join(" ~ ".join(group) for group in self.groups)]
        better = {
            name: [one.worse for one in self.verdicts if one.ranked and one.better == name] for name in self.names
        }
        return [f"{name} is better than {', '.join(worse)}" for name, worse in better.items() if worse]

    def _neighbours(self) -> list[Verdict]:
        return [self.verdict(*pair) for pair in pairwise(self.names)]


def rank_policies(table: paired.Table, worlds: Sequence[str]) -> Ranking | None:
    """All policies over the episodes in the nominal look that they have in common; None where there are none.

    Other looks of the same start are no further episodes.
    """
    found = {name: paired.outcomes(table, name, worlds) for name in paired.policies(table)}
    common = sorted(set.intersection(*({cell for cell in one if not cell[2]} for one in found.values())))
    if not common:
        return None
    success = {name: [one[cell] > 0.5 for cell in common] for name, one in found.items()}
    return rank(success, [cell[0] for cell in common], [cell[1] for cell in common])


def rank(
    outcomes: Mapping[str, ArrayLike], worlds: Sequence[str], scenes: Sequence[str] = (), alpha: float = 0.05
) -> Ranking:
    """Rank policies by `outcomes` (E,) of the same episodes, each in one of `worlds` (E,) of one of `scenes` (E,).

    Worlds and scenes are crossed: a member of the ensemble has one name, and is drawn from one seed, in every scene.
    Without `scenes` there is one.
    """
    success = {name: np.asarray(one, bool) for name, one in outcomes.items()}
    if any(one.shape != (len(worlds),) for one in success.values()) or not success or not len(worlds):
        raise ValueError(f"need {len(worlds)} outcomes of each policy; got {[one.shape for one in success.values()]}")
    names = sorted(success, key=lambda name: -success[name].mean())
    pairs = list(combinations(names, 2))
    factors = np.asarray(worlds), np.asarray(scenes or [""] * len(worlds))
    twins = factors[0] if len(set(scenes)) < 2 else np.array([f"{b}/{a}" for a, b in zip(*factors, strict=True)])
    found = [(mcnemar(success[a], success[b]), *p_over_factors(success[a], success[b], factors)) for a, b in pairs]
    adjusted = holm([max(by_episodes, over_worlds) for by_episodes, over_worlds, _ in found])
    verdicts = [
        _verdict(
            pair, (success[pair[0]], success[pair[1]]), twins, (float(p), a, b), FACTORS[widest], alpha, len(pairs)
        )
        for pair, p, (a, b, widest) in zip(pairs, adjusted, found, strict=True)
    ]
    return Ranking(tuple(names), tuple(verdicts))


def _verdict(
    names: tuple[str, str],
    found: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    twins: NDArray[np.str_],
    p: tuple[float, float, float],
    differ: str,
    alpha: float,
    pairs: int,
) -> Verdict:
    """Of two policies, one of `pairs` pairs, with outcomes (E,) each; `p`: corrected, by episodes, over worlds."""
    first, second = found
    against = [
        str(twin)
        for twin in np.unique(twins)
        for here in [twins == twin]
        if first[here].mean() < second[here].mean() and mcnemar(first[here], second[here]) < alpha
    ]
    difference = float(first.mean() - second.mean())
    alone = float((first & ~second).mean()), float((second & ~first).mean())
    needed = paired_rollouts_needed(*alone, alpha=alpha / pairs) if difference > 0.0 else None
    return Verdict(*names, difference, *p, differ, tuple(against), needed, alpha)
