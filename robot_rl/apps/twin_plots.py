"""Plots of an evaluation in twins.

Shape letters: K policies, N episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robot_rl.failures import SCATTERED
from robot_rl.paired import Rate, Table

COLOURS = {"point": "#b0b7c3", "identified": "#e0a030", "ensemble": "#2463c2", "real": "#17713a"}
GREY, RED = "#c4c9d2", "#a02020"
HALF = 0.5


def success_plot(rates: Mapping[str, Mapping[str, Rate]]) -> Figure:
    """`rates[policy][kind]` with intervals."""
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.45 * len(rates)), constrained_layout=True)
    kinds = [kind for kind in COLOURS if any(kind in by_kind for by_kind in rates.values())]
    for number, kind in enumerate(kinds):
        places = [row for row, by_kind in enumerate(rates.values()) if kind in by_kind]
        shown = [by_kind[kind] for by_kind in rates.values() if kind in by_kind]
        values = np.array([rate.value for rate in shown])
        spread = [values - [rate.low for rate in shown], [rate.high for rate in shown] - values]
        heights = np.array(places) + 0.18 * (number - (len(kinds) - 1) * HALF)
        axis.errorbar(values, heights, xerr=np.clip(spread, 0.0, 1.0), fmt="o", color=COLOURS[kind], label=kind)
    axis.set(xlim=(-0.02, 1.02), xlabel="success, 95 % intervals")
    axis.set_yticks(range(len(rates)), _plain(rates))
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    axis.legend(ncols=len(kinds), loc="lower center", bbox_to_anchor=(HALF, 1.0), frameon=False)
    return figure


def agreement_plot(real: Mapping[str, Rate], twins: Mapping[str, Mapping[str, Rate]]) -> Figure:
    """Success in reality (by policy) against that in each kind of twin (by kind, then policy)."""
    figure, axes = plt.subplots(
        1, len(twins), figsize=(4 * len(twins), 4), squeeze=False, sharey=True, constrained_layout=True
    )
    for axis, (kind, simulated) in zip(axes[0], twins.items(), strict=True):
        for name in real:
            x, y = simulated[name], real[name]
            reach = {"xerr": [[x.value - x.low], [x.high - x.value]], "yerr": [[y.value - y.low], [y.high - y.value]]}
            axis.errorbar(x.value, y.value, **reach, fmt="o", color=COLOURS[kind], elinewidth=0.8)
            axis.annotate(*_plain([name]), (x.value, y.value), textcoords="offset points", xytext=(5, 5), fontsize=8)
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, zorder=0)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=f"success, {kind}")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("success, real")
    return figure


def difference_plot(names: Sequence[str], differences: Mapping[tuple[str, str], Rate]) -> Figure:
    """Paired differences, row less column; bold where the interval excludes none."""
    size = 1.6 + 0.9 * len(names)
    figure, axis = plt.subplots(figsize=(size, size * 0.8), constrained_layout=True)
    values = np.array([[differences[a, b].value if a != b else np.nan for b in names] for a in names])
    axis.imshow(values, cmap="RdYlGn", vmin=-1.0, vmax=1.0)
    for (a, b), rate in differences.items():
        sure = rate.low > 0.0 or rate.high < 0.0
        text = f"{rate.value:+.2f}\n{rate.low:+.2f} {rate.high:+.2f}"
        weight = "bold" if sure else "normal"
        axis.text(names.index(b), names.index(a), text, ha="center", va="center", fontsize=8, weight=weight)
    axis.set_xticks(range(len(names)), _plain(names), rotation=30, ha="right")
    axis.set_yticks(range(len(names)), _plain(names))
    return figure


def failure_plot(table: Table, clusters: NDArray[np.int64]) -> Figure:
    """Plan view: where objects began and where the TCP ended. `clusters` (N,) is -2 for successes, -1 for others."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
    shown = (("object_x_m", "object_y_m", "where the object began"), ("tcp_x_m", "tcp_y_m", "where the TCP ended"))
    palette = plt.get_cmap("tab10")
    for axis, (x, y, title) in zip(axes, shown, strict=True):
        for cluster in np.unique(clusters):
            chosen = clusters == cluster
            name = (
                "success" if cluster < SCATTERED else "scattered" if cluster == SCATTERED else f"cluster {cluster + 1}"
            )
            colour = GREY if cluster < SCATTERED else "black" if cluster == SCATTERED else palette(int(cluster) % 10)
            marker = "." if cluster < SCATTERED else "x"
            axis.scatter(table[x][chosen], table[y][chosen], color=[colour], marker=marker, s=22, label=name)
        axis.set(title=title, xlabel="x in the base frame (m)", ylabel="y in the base frame (m)")
        axis.set_aspect("equal", adjustable="datalim")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    return figure


def _plain(names: Iterable[str]) -> list[str]:
    """Names as they are: between two dollars matplotlib would set a formula."""
    return [name.replace("$", r"\$") for name in names]
