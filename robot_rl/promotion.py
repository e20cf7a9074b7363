"""Whether an evaluation in twins lets a policy onto the arm: checks, each with its reason in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.evaluation_description import Described
from robot_rl.evaluation_table import REAL
from robot_rl.identity import Identity
from robot_rl.paired import Rate, Table, difference, gap, outcomes, policies, success
from robot_rl.ranking import rank_policies
from robot_rl.records import without_nan

ENSEMBLE = "ensemble"
NO_ENSEMBLE = "there is no episode of the ensemble (twins.kinds=[point,ensemble] evaluates it as well)"


@dataclass(frozen=True)
class PromotionConfig:
    """What is asked of a policy."""

    required_success: float = 0.5
    """Lower 95 % bound of its success over the ensemble."""
    min_episodes: int = 100
    """Episodes in the ensemble."""
    min_worlds: int = 4
    """Worlds of the ensemble: fewer cannot say how much the result depends on the world."""
    worse_margin: float = 0.1
    """Loss of success against the policy in service that must be ruled out, on paired starts."""
    guard_margin: float = 0.02
    """Rise of the share of commands that the guard changes or refuses, against the policy in service."""
    overfit_gap: float = 0.15
    """Success in a single twin above that over the ensemble that counts as overfitting, if it is significant."""
    trained_in: tuple[str, ...] = ()
    """Worlds that it was trained in besides the point and the identified twin: no part of its ensemble."""

    def __post_init__(self) -> None:
        shares = (self.required_success, self.worse_margin, self.guard_margin, self.overfit_gap)
        if not all(0.0 <= share <= 1.0 for share in shares) or min(self.min_episodes, self.min_worlds) < 1:
            raise ConfigError(f"shares lie in [0, 1], counts are at least 1; got {self}")


@dataclass(frozen=True)
class Check:
    """One thing that was asked."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A policy as the evaluation saw it. Worlds are those of its ensemble."""

    name: str
    checkpoint: str
    worlds: tuple[str, ...]
    success: Rate
    guard_share: float
    """Share of commands that the guard changed or refused; NaN where nobody guarded."""
    alone: dict[str, Rate]
    """Success in every single twin."""
    gaps: dict[str, Rate]
    """By how much that is above success over the ensemble."""
    against: dict[str, Rate]
    """Success less that of every other policy, by name, on paired starts."""
    ranking: tuple[str, ...]
    """Where it stands among all policies, in words."""
    opposed: dict[str, tuple[str, ...]]
    """Worlds that rank it and another policy the other way round than the rest."""

    def figures(self) -> dict[str, Any]:
        """For the record."""
        return without_nan(asdict(self))


def judge(
    table: Table | None, described: Described, policy: Identity, in_service: Identity | None, config: PromotionConfig
) -> tuple[Candidate | None, list[Check]]:
    """What the evaluation says of a policy, and whether it is enough; `in_service` is what it would replace."""
    name = None if table is None else _name(table, described, policy)
    if table is None or name is None:
        return None, [_uncovered(table, described, policy)]
    candidate = look_at(table, name, described, config)
    other = None if in_service is None else _name(table, described, in_service)
    checks = [
        *_configured(described, candidate),
        *_enough(candidate, config),
        _succeeds(candidate, config),
        *_transfers(candidate, config),
        *_compares(candidate, in_service, other, config),
        *_guards(table, described, candidate, other, config),
    ]
    return candidate, checks


def look_at(table: Table, mine: str, described: Described, config: PromotionConfig) -> Candidate:
    """What the table says of the policy with that name; `ConfigError` for worlds that it does not have."""
    kinds = dict(zip(table["world"].tolist(), table["kind"].tolist(), strict=True))
    trained = {world for world, kind in kinds.items() if kind not in (ENSEMBLE, REAL)} | set(config.trained_in)
    if unknown := trained - set(kinds):
        raise ConfigError(f"trained_in: the evaluation has no world {sorted(unknown)}, but {sorted(kinds)}")
    worlds = tuple(sorted(world for world, kind in kinds.items() if kind == ENSEMBLE and world not in trained))
    found = outcomes(table, mine, worlds)
    alone = {world: outcomes(table, mine, [world]) for world in sorted(trained)}
    ranking = rank_policies(table, worlds)
    verdicts = {} if ranking is None else {name: ranking.verdict(mine, name) for name in ranking.names if name != mine}
    return Candidate(
        mine,
        policies(table)[mine],
        worlds,
        success(found),
        _guard_share(table, mine, worlds) if described.guarded else math.nan,
        {world: success(one) for world, one in alone.items() if one},
        {world: gap(one, found) for world, one in alone.items() if one},
        {name: difference(found, outcomes(table, name, worlds)) for name in policies(table) if name != mine},
        tuple(ranking.words()) if ranking and verdicts else ("evaluated alone",),
        {name: verdict.against for name, verdict in verdicts.items() if verdict.against},
    )


def _uncovered(table: Table | None, described: Described, policy: Identity) -> Check:
    covered = {} if table is None else policies(table)
    others = [name for name, digest in covered.items() if digest == policy.checkpoint]
    if others:
        was = ", ".join(f"{name} ({described.experiment(name, policy.checkpoint)[:12]})" for name in others)
        reason = (
            f"these weights were evaluated as {was}, but this run's experiment.json is another one "
            f"({policy.experiment[:12]}), so that they act otherwise: evaluate this run"
        )
        return Check("coverage", False, reason)
    told = ", ".join(f"{name} ({digest[:12]})" for name, digest in covered.items()) or "nothing"
    return Check("coverage", False, f"the evaluation covers {told}, not this checkpoint, {policy.checkpoint[:12]}")


def _configured(described: Described, candidate: Candidate) -> Iterator[Check]:
    if not described.experiment(candidate.name, candidate.checkpoint):
        reason = (
            f"the evaluation does not say with which experiment.json {candidate.name} was evaluated (an older version "
            "wrote it): the same `robot-rl evaluate --twin` again says it, and runs no episode twice"
        )
        yield Check("configuration", False, reason)


def _enough(candidate: Candidate, config: PromotionConfig) -> Iterator[Check]:
    worlds, trials = len(candidate.worlds), candidate.success.trials
    enough = worlds >= config.min_worlds and trials >= config.min_episodes
    needed = "" if enough else f"; {config.min_episodes} in {config.min_worlds} are needed to rank anything"
    yield Check("enough episodes", enough, f"{trials} episodes in {worlds} worlds of the ensemble{needed}")


def _succeeds(candidate: Candidate, config: PromotionConfig) -> Check:
    if not candidate.success.trials:
        return Check("success", False, "no episode of the ensemble: success over it is not known")
    passed = candidate.success.low >= config.required_success
    beyond = "at least" if passed else "below"
    reason = f"success over the ensemble {candidate.success}: its lower bound is {beyond} {config.required_success:.2f}"
    return Check("success", passed, reason)


def _transfers(candidate: Candidate, config: PromotionConfig) -> Iterator[Check]:
    """A policy that exploits one world's errors does well there alone."""
    if not candidate.gaps:
        yield Check("transfer", False, "no single twin was evaluated: overfitting to one cannot be ruled out")
    for world, above in candidate.gaps.items():
        there, over = candidate.alone[world].value, candidate.success.value
        if not above.trials:
            lacks = "none of its starts was tried in the ensemble" if candidate.success.trials else NO_ENSEMBLE
            reason = f"{there:.2f} in the {world} twin, but {lacks}: overfitting to it cannot be ruled out"
            yield Check(f"transfer: {world}", False, reason)
            continue
        overfitted = above.value > config.overfit_gap and above.low > 0.0
        told = f"{there:.2f} in the {world} twin, {over:.2f} over the ensemble"
        gap_told = f" (paired difference {above}, {config.overfit_gap:.2f} allowed)"
        yield Check(f"transfer: {world}", not overfitted, "overfitted to the twin: " * overfitted + told + gap_told)


def _compares(
    candidate: Candidate, in_service: Identity | None, name: str | None, config: PromotionConfig
) -> Iterator[Check]:
    if in_service is None:
        yield Check("comparison", True, "nothing is in service yet")
        return
    if name == candidate.name:
        yield Check("comparison", False, "this very policy is in service already")
        return
    if name is None:
        digest = in_service.checkpoint[:12]
        reason = f"the evaluation does not cover the policy in service ({digest}): evaluate both together"
        yield Check("comparison", False, reason)
        return
    yield _no_worse(name, candidate.against[name], config)
    if name in candidate.opposed:
        worlds = ", ".join(candidate.opposed[name])
        yield Check("ranking", False, f"this policy and {name} cannot be ranked: {worlds} say the opposite of the rest")


def _guards(
    table: Table, described: Described, candidate: Candidate, name: str | None, config: PromotionConfig
) -> Iterator[Check]:
    """Without a guard in the evaluation nothing is known of what it would do."""
    if not described.guarded:
        who = "nobody guarded this evaluation (guarded=false)"
        told = who if described.guarded is False else "the evaluation does not say whether anybody guarded it"
        reason = f"{told}: how the policy fares within the guard's limits is not known; evaluate it with guarded=true"
        yield Check("guard", False, reason)
        return
    if name not in candidate.against or not candidate.against[name].trials:
        return
    other = _guard_share(table, name, candidate.worlds)
    told = f"the guard changes or refuses {candidate.guard_share:.1%} of the commands, {other:.1%} of those of {name}"
    passed = candidate.guard_share <= other + config.guard_margin
    yield Check("guard", passed, told + f" ({config.guard_margin:.0%} more are allowed)")


def _no_worse(name: str, delta: Rate, config: PromotionConfig) -> Check:
    told = f"success less that of {name}, in service: {delta} on {delta.trials} paired starts"
    if delta.trials == 0:
        return Check("comparison", False, f"no start was given to both this policy and {name}")
    if delta.high < 0.0:
        return Check("comparison", False, f"significantly worse: {told}")
    if delta.low < -config.worse_margin:
        reason = (
            f"may be worse by up to {-delta.low:.2f}, {config.worse_margin:.2f} is the margin: {told}; more are needed"
        )
        return Check("comparison", False, reason)
    return Check("comparison", True, told)


def _guard_share(table: Table, policy: str, worlds: Sequence[str]) -> float:
    rows = (table["policy"] == policy) & np.isin(table["world"], list(worlds))
    commands = table["steps"][rows].sum()
    held = table["limited_steps"][rows].sum() + table["refused_steps"][rows].sum()
    return float(held / commands) if commands else float("nan")


def _name(table: Table, described: Described, policy: Identity) -> str | None:
    """What the evaluation calls it: the same weights, configured alike as far as both sides say."""
    same = [name for name, digest in policies(table).items() if digest == policy.checkpoint]
    said = {name: described.experiment(name, policy.checkpoint) for name in same}
    alike = [name for name in same if said[name] and said[name] == policy.experiment]
    unsaid = [name for name in same if not (said[name] and policy.experiment)]
    return next(iter(alike + unsaid), None)


def refusals(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(f"{one.name}: {one.reason}" for one in checks if not one.passed)
