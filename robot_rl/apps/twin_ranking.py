"""What the episodes of an evaluation say: success by world, a ranking where there is one, agreement with reality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from robot_rl import correlation
from robot_rl.evaluation_table import KINDS, REAL, EpisodeRow, outcomes
from robot_rl.paired import Rate
from robot_rl.prediction_powered import prediction_powered
from robot_rl.ranking import rank
from robot_rl.statistics import wilson_interval

TOLD_BY = ("ensemble", "identified", "point")
"""Kinds of twins by what their word is worth: the first that there is ranks, and helps to estimate real success."""


def summarize(rows: Sequence[EpisodeRow], trials: Sequence[EpisodeRow] = ()) -> dict[str, Any]:
    """As plain data; numbers that do not exist are None."""
    policies = sorted({row.policy for row in rows})
    nominal = [row for row in rows if not row.variant]
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in nominal)]
    told_by = next(kind for kind in TOLD_BY if kind in kinds)
    ranking = rank(*outcomes([row for row in nominal if row.kind == told_by], policies))
    summary: dict[str, Any] = {
        "success": {name: {kind: _rate(nominal, name, kind) for kind in kinds} for name in policies},
        "variants": _variants(rows),
        "ranking": {
            "by": told_by,
            "order": list(ranking.names),
            "groups": [list(group) for group in ranking.groups],
            "words": ranking.words(),
        },
    }
    real = sorted({row.policy for row in trials} & set(policies))
    if real:
        summary["real"] = {name: _powered(nominal, trials, name, told_by) for name in real}
    if len(real) > 1:
        summary["agreement"] = {kind: _agreement(nominal, trials, real, kind) for kind in kinds}
    return summary


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
    """Real outcomes (n,), the twins' mean outcome from the same starts (n,), and from the other starts (N,).

    A start is a scene's where the trials name one.
    """
    simulated: dict[tuple[str, int], list[bool]] = {}
    for row in rows:
        if row.policy == policy:
            for scene in {row.scene, ""}:
                simulated.setdefault((scene, row.start), []).append(row.success)
    own = [one for one in trials if one.policy == policy and (one.scene, one.start) in simulated]
    used = {(one.scene, one.start) for one in own}
    place = own[0].scene if own else ""
    alone = [
        np.mean(found)
        for (scene, start), found in simulated.items()
        if (scene == "") == (place == "") and (scene, start) not in used
    ]
    paired = [np.mean(simulated[one.scene, one.start]) for one in own]
    return np.array([one.success for one in own], float), np.array(paired), np.array(alone)


def print_ranking(summary: dict[str, Any], console: Console, fitted: Mapping[str, Rate] | None = None) -> None:
    """The table, with off-policy estimates where there are any, and what may be concluded from it."""
    kinds = list(next(iter(summary["success"].values())))
    table = Table("policy", *kinds, *(["real"] if "real" in summary else []), *(["FQE"] if fitted else []))
    for name in summary["ranking"]["order"]:
        cells = [_told(summary["success"][name][kind]) for kind in kinds]
        if "real" in summary:
            cells.append(_told(summary["real"].get(name)))
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


def _rate(rows: Sequence[EpisodeRow], policy: str, kind: str) -> dict[str, Any]:
    own = [row.success for row in rows if row.policy == policy and row.kind == kind]
    return {
        "rate": sum(own) / max(len(own), 1),
        "interval_95": list(wilson_interval(sum(own), len(own))),
        "n": len(own),
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


def _powered(rows: Sequence[EpisodeRow], trials: Sequence[EpisodeRow], policy: str, kind: str) -> dict[str, Any]:
    """Real success by real trials and the twins together."""
    own = [one.success for one in trials if one.policy == policy]
    found: dict[str, Any] = {"alone": {"rate": sum(own) / len(own), "interval_95": list(_wilson(own)), "n": len(own)}}
    y, paired, alone = paired_with_real([row for row in rows if row.kind == kind], trials, policy)
    if len(y) < len(own) or not len(alone):
        return found | {
            "rate": found["alone"]["rate"],
            "interval_95": found["alone"]["interval_95"],
            "trials_saved": 0.0,
        }
    estimate = prediction_powered(y, paired, alone)
    value, low, high = estimate.rate
    return found | {"rate": value, "interval_95": [low, high], "trials_saved": estimate.trials_saved}


def _wilson(successes: Sequence[bool]) -> tuple[float, float]:
    return wilson_interval(sum(successes), len(successes))


def _agreement(
    rows: Sequence[EpisodeRow], trials: Sequence[EpisodeRow], policies: Sequence[str], kind: str
) -> dict[str, Any]:
    def rates(among: Sequence[EpisodeRow]) -> list[float]:
        return [float(np.mean([row.success for row in among if row.policy == name])) for name in policies]

    return agreement(rates([one for one in trials if one.kind == REAL]), rates([r for r in rows if r.kind == kind]))


def _told(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["interval_95"]
    return f"{found['rate']:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
