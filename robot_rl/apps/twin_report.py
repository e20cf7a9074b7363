"""One page about an evaluation in twins: success, agreement with reality, ranking, films, failures, raw data.

  robot-rl twin report runs/twin/door                          writes runs/twin/door/report.html
  robot-rl twin report runs/twin/door --real trials.csv        with real trials of the same policies beside it

Real trials: a table with the columns of the evaluation's, or a .csv with policy, start, success. The page needs nothing
but itself; links lead to the evaluation's files beside it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from rich.console import Console

from robot_rl.apps import page, twin_films
from robot_rl.apps.config import make_folder
from robot_rl.apps.estimates import ESTIMATES, fitted_values
from robot_rl.apps.twin_plots import COLOURS, agreement_plot, difference_plot, failure_plot, success_plot
from robot_rl.apps.twin_ranking import TOLD_BY, real_success, told
from robot_rl.apps.twins import ranked_by
from robot_rl.correlation import drop_one, mmrv, pearson, spearman
from robot_rl.evaluation_description import RANKING, read_description
from robot_rl.evaluation_table import DESCRIPTION, EPISODES, FILMS, REAL, EpisodeRow, read_table, trials_of
from robot_rl.failures import SCATTERED, ClusterConfig, failure_clusters
from robot_rl.files import write_file
from robot_rl.paired import Rate, Table, columns, difference, outcomes, policies, success
from robot_rl.ranking import rank_policies

SHOWN_FAILURES = 4000
"""Failures that are grouped; of more, as many drawn at random."""
CLUSTERS = ClusterConfig()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="what `robot-rl evaluate --twin` wrote")
    parser.add_argument(
        "--real", type=Path, metavar="TABLE", help="real trials: .parquet, or .csv with policy, start, success"
    )
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the folder)")


def run(args: argparse.Namespace) -> int:
    out = args.out or args.folder / "report.html"
    console = Console(markup=False, emoji=False)  # names may hold square brackets
    if note := write_report(args.folder, args.real, out):
        console.print(note, style="yellow", soft_wrap=True)
    console.print(f"report: {out}", soft_wrap=True)
    return 0


def write_report(folder: Path, real: Path | None, out: Path) -> str:
    """Write the page to `out`; returns what must be said of real trials that it leaves out, or ""."""
    evaluated = read_table(folder / EPISODES)
    trials, note = trials_of(real, policies(columns(evaluated))) if real is not None else ([], "")
    rows = [*evaluated, *trials]
    table = columns(rows)
    rates = success_by_kind(table)
    title = f"Evaluation in twins: {folder.resolve().name}"
    sections = [
        page.heading(title, 1),
        *([page.listing([note])] if note else []),
        *_success(rates, fitted_values(folder, policies(table))),
        *_reality(rows),
        *_agreement(rates),
        *_ranking(table, list(rates)),
        *_guard(table, read_description(folder).guarded),
        *_failures(table, folder, out),
        *twin_films.section(table, folder),
        *_raw(folder, real, out),
    ]
    make_folder(out.parent)
    write_file(out, page.page(title, sections))
    return note


def success_by_kind(table: Table) -> dict[str, dict[str, Rate]]:
    """Success by policy, the best first in the twins that rank, and kind of world."""
    worlds = {kind: np.unique(table["world"][table["kind"] == kind]).tolist() for kind in COLOURS}
    rates: dict[str, dict[str, Rate]] = {}
    for name in policies(table):
        found = {kind: outcomes(table, name, of_kind) for kind, of_kind in worlds.items()}
        rates[name] = {kind: success(one) for kind, one in found.items() if one}
    kind = _told_by(table)
    best = sorted(rates, key=lambda name: -rates[name][kind].value if kind in rates[name] else 1.0)
    return {name: rates[name] for name in best}


def _told_by(table: Table) -> str:
    """The kind of twins that ranks, as in `robot-rl evaluate`."""
    return next((kind for kind in TOLD_BY if (table["kind"] == kind).any()), TOLD_BY[0])


def _success(rates: dict[str, dict[str, Rate]], fitted: dict[str, Rate]) -> Iterator[str]:
    kinds = [kind for kind in COLOURS if any(kind in one for one in rates.values())]
    yield page.heading("Success")
    yield page.plot(success_plot(rates), "success by policy and kind of world")
    shown = [[name, *(one.get(kind, "") for kind in kinds)] for name, one in rates.items()]
    if fitted:
        shown = [[*row, fitted.get(row[0], "")] for row in shown]
    yield page.table(("policy", *kinds, *(["FQE"] if fitted else [])), shown)
    yield (
        "<p>Intervals hold 95 %. In one world they are Wilson's; of several worlds or scenes these and starts are "
        "resampled, and none is narrower than Wilson's.</p>"
    )
    if fitted:
        yield "<p>FQE: from recorded episodes that others acted in (robot-rl twin estimate).</p>"


def _reality(rows: Sequence[EpisodeRow]) -> Iterator[str]:
    found = real_success(rows, [row for row in rows if row.kind == REAL])
    if not found:
        return
    yield page.heading("Success in reality, with the help of twins", 3)
    head = ("policy", "starts", "real trials alone", "with twins", "with twins, any number of trials", "trials saved")
    yield page.table(head, [(name, one["alone"]["n"], *_told(one)) for name, one in found.items()])
    yield (
        "<p>Real trials alone: Wilson's interval. With twins: PPI++ (2311.01453), about 95 % from some 20 trials on, "
        "which also tells the trials saved. Any number: by betting (after SureSim, 2510.04354), at least 95 % however "
        "few the trials, and wider.</p>"
    )


def _told(real: dict[str, Any]) -> tuple[str, ...]:
    """The intervals of one policy's real success, and the share of trials that twins save."""
    low, high = real["betting_interval_95"]
    return told(real["alone"]), told(real), f"[{low:.2f}, {high:.2f}]", f"{real['trials_saved']:.0%}"


def _agreement(rates: dict[str, dict[str, Rate]]) -> Iterator[str]:
    yield page.heading("Real against twin")
    tried = {name: one for name, one in rates.items() if REAL in one}
    kinds = [kind for kind in COLOURS if kind != REAL and tried and all(kind in one for one in tried.values())]
    if len(tried) < 2 or not kinds:
        yield "<p>No agreement can be told: it takes real trials of at least two of these policies.</p>"
        return
    real = {name: one[REAL] for name, one in tried.items()}
    twins = {kind: {name: one[kind] for name, one in tried.items()} for kind in kinds}
    yield page.plot(agreement_plot(real, twins), "success in reality against success in twins")
    rows = []
    for kind in kinds:
        pair = ([one.value for one in real.values()], [one.value for one in twins[kind].values()])
        r = pearson(*pair)
        low, high = drop_one(lambda a, b: pearson(a, b).value, *pair) if len(real) > 2 else (np.nan, np.nan)
        shown = f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]", f"{low:.2f} to {high:.2f}"
        rows.append((kind, *shown, f"{spearman(*pair):.2f}", f"{mmrv(*pair):.3f}"))
    yield page.table(("twin", "Pearson's r (Fisher)", "r, any one left out", "rank correlation", "MMRV"), rows)
    yield f"<p>{len(real)} policies. MMRV as in SIMPLER (2405.05941), gaps in real success.</p>"


def _ranking(table: Table, names: list[str]) -> Iterator[str]:
    kind = _told_by(table)
    yield page.heading("Ranking over the ensemble" if kind == TOLD_BY[0] else f"Ranking by the {kind} twin")
    table = {name: column[table["kind"] == kind] for name, column in table.items()}
    worlds, tried = np.unique(table["world"]).tolist(), list(policies(table))
    ranking = rank_policies(table, worlds) if tried else None
    if ranking is None or len(tried) < 2:
        yield page.listing([f"No ranking: {_alone(kind, tried)}."])
        return
    if fallback := ranked_by(kind, len(worlds)):
        yield f"<p>{fallback.capitalize()}.</p>"
    yield page.listing(ranking.words())
    found = {name: outcomes(table, name, worlds) for name in policies(table)}
    shown = [name for name in names if name in found]
    pairs = {(a, b): difference(found[a], found[b]) for a in shown for b in shown if a != b}
    yield page.heading("Paired differences of success, row less column", 3)
    yield page.plot(difference_plot(shown, pairs), "paired differences")


def _alone(kind: str, tried: Sequence[str]) -> str:
    """Why these policies, with episodes in this kind of twins, cannot be compared."""
    if not tried:
        return "nothing was evaluated in twins"
    if len(tried) < 2:
        return f"{tried[0]} alone was evaluated ({kind})"
    return f"no start was given to all of {', '.join(tried)} in the same twin ({kind})"


def _guard(table: Table, guarded: bool | None) -> Iterator[str]:
    yield page.heading("Guard")
    if guarded is False:
        yield (
            "<p>Nobody guarded the twins of this evaluation (guarded=false): what the guard would change or refuse is "
            "not known.</p>"
        )
    elif guarded is None:
        yield "<p>The evaluation does not say whether its twins were guarded.</p>"
    rows = []
    for name in policies(table):
        for kind in (REAL,) if guarded is False else COLOURS:
            chosen = (table["policy"] == name) & (table["kind"] == kind)
            if steps := int(table["steps"][chosen].sum()):
                shares = [f"{table[held][chosen].sum() / steps:.2%}" for held in ("limited_steps", "refused_steps")]
                rows.append((name, kind, int(chosen.sum()), steps, *shares))
    if rows:
        yield page.table(("policy", "world", "episodes", "commands", "changed", "refused"), rows)


def _failures(table: Table, folder: Path, out: Path) -> Iterator[str]:
    yield page.heading("Failures")
    scenes = np.unique(table["scene"][table["kind"] != REAL]).tolist()
    for scene in scenes:
        here = (table["kind"] != REAL) & (table["scene"] == scene)
        if len(scenes) > 1:
            yield page.heading(scene, 3)
        yield from _failures_in({name: column[here] for name, column in table.items()}, folder, out)


def _failures_in(simulated: Table, folder: Path, out: Path) -> Iterator[str]:
    """Of one scene: the same place in another one is another place."""
    failed = np.flatnonzero(~simulated["success"])
    if not len(failed):
        yield "<p>None.</p>"
        return
    if len(failed) > SHOWN_FAILURES:
        failed = np.sort(np.random.default_rng(0).choice(failed, SHOWN_FAILURES, replace=False))
    labels = failure_clusters({name: column[failed] for name, column in simulated.items()}, CLUSTERS)
    shown = np.concatenate([failed, np.flatnonzero(simulated["success"])[:SHOWN_FAILURES]])
    marks = np.concatenate([labels, np.full(len(shown) - len(failed), SCATTERED - 1)])
    yield page.plot(failure_plot({name: column[shown] for name, column in simulated.items()}, marks), "failures")
    yield (
        f"<p>Two failures are neighbours when the object's start, the TCP's end and their lengths differ little: by "
        f"{100 * CLUSTERS.reach_m:.0f} cm, by {CLUSTERS.reach_steps:.0f} steps, or by less of each (Euclidean). Where "
        f"{CLUSTERS.share:.0%} of the failures, at least {CLUSTERS.least}, are neighbours, a cluster is (DBSCAN).</p>"
    )
    head = ("cluster", "failures", "object began at (m)", "TCP ended at (m)", "steps", "policies", "worlds")
    groups = [*np.unique(labels[labels != SCATTERED]), *([SCATTERED] if SCATTERED in labels else [])]
    chosen = [(number, failed[labels == number]) for number in groups]
    yield page.table(head, [_named(int(number), members, simulated) for number, members in chosen])
    for number, members in chosen:
        films = [film for film in simulated["film"][members] if film and twin_films.film_of(folder, film)][:5]
        if films and number != SCATTERED:
            links = ", ".join(page.link(_beside(folder / film, out), Path(film).stem) for film in films)
            yield f"<p>films of cluster {number + 1}: {links}</p>"


def _named(number: int, members: np.ndarray, table: Table) -> tuple[object, ...]:
    def place(*columns: str) -> str:
        return ", ".join(f"{np.mean(table[one][members]):.2f} ± {np.std(table[one][members]):.2f}" for one in columns)

    def counted(column: str) -> str:
        names, counts = np.unique(table[column][members], return_counts=True)
        return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))

    name = "scattered" if number == SCATTERED else f"cluster {number + 1}"
    begin, end = place("object_x_m", "object_y_m"), place("tcp_x_m", "tcp_y_m", "tcp_z_m")
    low, middle, high = np.quantile(table["steps"][members], (0.1, 0.5, 0.9))
    steps = f"{middle:.0f} ({low:.0f} to {high:.0f})"
    return name, len(members), begin, end, steps, counted("policy"), counted("world")


def _raw(folder: Path, real: Path | None, out: Path) -> Iterator[str]:
    yield page.heading("Raw data")
    files = [
        folder / EPISODES,
        folder / DESCRIPTION,
        folder / RANKING,
        folder / ESTIMATES,
        folder / FILMS,
        *([real] if real else []),
    ]
    for path in (path for path in files if path.exists()):
        yield f"<p>{page.link(_beside(path, out), path.name)}</p>"


def _beside(path: Path, out: Path) -> str:
    """The way to `path` from the page, as an address."""
    return quote(Path(os.path.relpath(path, out.parent)).as_posix())
