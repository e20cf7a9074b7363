"""What the episodes of an evaluation say: success by world, a ranking where there is one, agreement with reality."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from robot_rl import correlation, paired
from robot_rl.betting import betting_interval
from robot_rl.errors import DataError
from robot_rl.evaluation_table import KINDS, REAL, EpisodeRow
from robot_rl.paired import Outcomes, Rate
from robot_rl.prediction_powered import prediction_powered
from robot_rl.ranking import Verdict, rank_policies

TOLD_BY = ("ensemble", "identified", "point")
"""Kinds of twins by what their word is worth: the first that there is ranks, and helps to estimate real success."""


def summarize(rows: Sequence[EpisodeRow], trials: Sequence[EpisodeRow] = ()) -> dict[str, Any]:
    """As plain data; numbers that do not exist are None."""
    policies = sorted({row.policy for row in rows})
    nominal = [row for row in rows if not row.variant]
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in nominal)]
    told_by = next(kind for kind in TOLD_BY if kind in kinds)
    cells = {name: {kind: _cells(nominal, name, kind) for kind in kinds} for name in policies}
    telling = paired.columns([row for row in nominal if row.kind == told_by])
    worlds = np.unique(telling["world"]).tolist()
    ranking = rank_policies(telling, worlds)
    if ranking is None:
        raise DataError(f"no start was given to all of {', '.join(policies)} in the same twin ({told_by})")
    summary: dict[str, Any] = {
        "success": {name: {kind: _rate(one) for kind, one in found.items()} for name, found in cells.items()},
        "variants": _variants(rows),
        "ranking": {
            "by": told_by,
            "worlds": worlds,
            "scenes": np.unique(telling["scene"]).tolist(),
            "order": list(ranking.names),
            "groups": [list(group) for group in ranking.groups],
            "words": ranking.words(),
            "pairs": [_pair(one) for one in ranking.verdicts],
        },
    }
    if real := real_success(nominal, trials):
        summary["real"] = real
    if len(real) > 1:
        rates = [one["alone"]["rate"] for one in real.values()]
        twins = {kind: [summary["success"][name][kind]["rate"] for name in real] for kind in kinds}
        summary["agreement"] = {kind: agreement(rates, simulated) for kind, simulated in twins.items()}
    return summary


def real_success(rows: Sequence[EpisodeRow], trials: Sequence[EpisodeRow]) -> dict[str, dict[str, Any]]:
    """Real success of every policy that was tried in reality and in twins: by `trials` alone, with `rows` of the twins.

    Trials from one start count as one, by their mean.
    """
    nominal = [row for row in rows if not row.variant]
    told_by = next((kind for kind in TOLD_BY if any(row.kind == kind for row in nominal)), None)
    twins = [row for row in nominal if row.kind == told_by]
    names = sorted({row.policy for row in trials} & {row.policy for row in twins})
    return {name: _powered(twins, trials, name) for name in names}


def agreement(real: Sequence[float], simulated: Sequence[float]) -> dict[str, Any]:
    """Every figure of how well success rates (K,) in a simulation follow the real ones."""
    r = correlation.pearson(real, simulated)
    low, high = correlation.drop_one(lambda a, b: correlation.pearson(a, b).value, real, simulated)
    return {
        "policies": len(real),
        "pearson": _number(r.value),
        "pearson_interval_95": [r.low, r.high],
        "pearson_drop_one": [_number(low), _number(high)],
        "spearman": _number(correlation.spearman(real, simulated)),
        "kendall": _number(correlation.kendall(real, simulated)),
        "mmrv": correlation.mmrv(real, simulated),
    }


def paired_with_real(
    rows: Sequence[EpisodeRow], trials: Sequence[EpisodeRow], policy: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean real outcome from each start (n,), the twins' from the same starts (n,), and from the other starts (N,).

    A start is a scene's where the trials name one.
    """
    simulated: dict[tuple[str, int], list[bool]] = {}
    for row in rows:
        if row.policy == policy:
            for scene in {row.scene, ""}:
                simulated.setdefault((scene, row.start), []).append(row.success)
    real: dict[tuple[str, int], list[bool]] = {}
    for one in trials:
        if one.policy == policy and (one.scene, one.start) in simulated:
            real.setdefault((one.scene, one.start), []).append(one.success)
    named = any(scene for scene, _ in real)
    alone = [found for place, found in simulated.items() if bool(place[0]) == named and place not in real]
    return _means(real.values()), _means(simulated[place] for place in real), _means(alone)


def print_ranking(summary: dict[str, Any], console: Console, fitted: Mapping[str, Rate] | None = None) -> None:
    """The table, with off-policy estimates where there are any, and what may be concluded from it."""
    kinds = list(next(iter(summary["success"].values())))
    heads = ["real, with twins"] if "real" in summary else []
    table = Table("policy", *kinds, *heads, *(["FQE"] if fitted else []))
    for name in summary["ranking"]["order"]:
        cells = [told(summary["success"][name][kind]) for kind in kinds]
        if "real" in summary:
            cells.append(told(summary["real"][name]) if name in summary["real"] else "")
        if fitted:
            cells.append(str(fitted.get(name, "")))
        table.add_row(name, *cells)
    console.print(table)
    for line in summary["ranking"]["words"]:
        console.print(f"by {summary['ranking']['by']}: {line}")
    for kind, found in summary.get("agreement", {}).items():
        r = "not defined" if found["pearson"] is None else f"{found['pearson']:.2f}"
        low, high = found["pearson_interval_95"]
        console.print(f"{kind} against real: r {r} [{low:.2f}, {high:.2f}], MMRV {found['mmrv']:.3f}")


def _pair(verdict: Verdict) -> dict[str, Any]:
    """What is known of two policies."""
    told = {"ranked": verdict.ranked, "probability_of_improvement": verdict.probability_of_improvement}
    return asdict(verdict) | told | {"against": list(verdict.against), "words": verdict.words()}


def _cells(rows: Sequence[EpisodeRow], policy: str, kind: str) -> Outcomes:
    own = [row for row in rows if row.policy == policy and row.kind == kind]
    return paired.outcomes(paired.columns(own), policy, sorted({row.world for row in own})) if own else {}


def _rate(cells: Outcomes) -> dict[str, Any]:
    found, wilson = paired.success(cells), paired.wilson(cells)
    return {
        "rate": _number(found.value),
        "interval_95": [found.low, found.high],
        "wilson_interval_95": [wilson.low, wilson.high],
        "n": found.trials,
    }


def _variants(rows: Sequence[EpisodeRow]) -> dict[str, dict[str, Any]]:
    """Variant aggregation: success over all looks, and in each, of policies that were run in several."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({row.policy for row in rows if row.variant}):
        own = [row for row in rows if row.policy == name]
        looks = sorted({row.variant for row in own})
        rates = {look or "nominal": float(np.mean([r.success for r in own if r.variant == look])) for look in looks}
        found[name] = {"mean": float(np.mean(list(rates.values()))), "by_variant": rates}
    return found


def _powered(twins: Sequence[EpisodeRow], trials: Sequence[EpisodeRow], policy: str) -> dict[str, Any]:
    """Real success by real trials and the twins together; by real trials alone where not all starts were simulated."""
    cells = _cells(trials, policy, REAL)
    alone = _rate(cells)
    real, same, others = paired_with_real(twins, trials, policy)
    if len(real) < len(cells) or not len(others):
        return {
            "alone": alone,
            "rate": alone["rate"],
            "interval_95": alone["interval_95"],
            "betting_interval_95": list(betting_interval(list(cells.values()))),
            "trials_saved": 0.0,
        }
    estimate = prediction_powered(real, same, others)
    return {
        "alone": alone,
        "rate": estimate.rate.value,
        "interval_95": list(estimate.rate[1:]),
        "betting_interval_95": list(betting_interval(real, same, others)),
        "trials_saved": estimate.trials_saved,
    }


def _means(outcomes: Iterable[Sequence[bool]]) -> np.ndarray:
    return np.array([np.mean(one) for one in outcomes], float)


def told(found: dict[str, Any]) -> str:
    """A rate with its interval."""
    low, high = found["interval_95"]
    return f"{found['rate']:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
