"""A run as a person wants to see it: `summary.json`, and one self-contained HTML page with curves and video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from robot_rl.actor import learning_time_s
from robot_rl.apps.evaluate import film
from robot_rl.apps.page import heading, movie, page, png, render, table
from robot_rl.apps.runs import find_checkpoint, load_policy
from robot_rl.apps.wiring import read_experiment
from robot_rl.errors import RobotRlError
from robot_rl.records import (
    EpisodeRecord,
    duty_cycle,
    find_records,
    intervention_rate,
    success_rate,
    without_nan,
)
from robot_rl.statistics import wilson_interval

SMOOTHING_EPISODES = 20
FILM_EPISODES = 5


def summarize(records: Sequence[EpisodeRecord], rate_hz: float | None, learner_updates: int) -> dict[str, Any]:
    """The figures of a run; docs/learning.md says what each means.

    `rate_hz` of the control loop; none where it runs as fast as it can, in which no share of the clock means anything.
    """
    learned = [record for record in records if record.phase == "learn"]
    evaluated = [record for record in records if record.phase == "evaluate" and not record.discarded]
    successes = sum(record.success for record in evaluated)
    low, high = wilson_interval(successes, len(evaluated))
    return {
        "success_rate": success_rate(evaluated),
        "success_interval_95": [low, high],
        "episodes": len(evaluated),
        "demonstrations": sum(record.success for record in records if record.phase == "demo"),
        "learn_episodes": len(learned),
        "learn_minutes": learning_time_s(records) / 60.0,
        "duty_cycle": float("nan") if rate_hz is None else duty_cycle(records, rate_hz),
        "reset_minutes": sum(record.reset_s for record in learned) / 60.0,
        "intervention_rate": _rate_by_minute(learned),
        "intervention_rate_overall": intervention_rate(learned),
        "env_steps": sum(record.steps for record in learned),
        "learner_updates": learner_updates,
        "mean_success_steps": _mean_success_steps(evaluated),
        "mean_demonstration_steps": _mean_success_steps([record for record in records if record.phase == "demo"]),
    }


def film_and_report(run_dir: Path, command: str, console: Console, *, in_real_time: bool) -> dict[str, Any]:
    """Film the final policy and write summary and page; a machine that cannot render gets no film."""
    experiment = read_experiment(run_dir)
    _, checkpoint = find_checkpoint(run_dir)
    updates = json.loads((checkpoint / "learner.json").read_text())["updates"]
    try:
        policy = load_policy(experiment, checkpoint)
        with console.status("filming the final policy"):
            film(experiment, policy, run_dir / "videos" / "evaluation.mp4", FILM_EPISODES, experiment.seed)
    except RobotRlError as error:
        console.print(f"no film: {error}")
    title = f"robot-rl {command}: {experiment.task.name}"
    return write_report(run_dir, experiment.task.env.rate_hz if in_real_time else None, updates, title)


def write_report(run_dir: Path, rate_hz: float | None, learner_updates: int, title: str) -> dict[str, Any]:
    """Write `summary.json`, `curves.png` and `report.html` into `run_dir`; returns the summary."""
    records = find_records(run_dir)
    summary = summarize(records, rate_hz, learner_updates)
    (run_dir / "summary.json").write_text(json.dumps(without_nan(summary), indent=2) + "\n")
    curves = _curves_png(records)
    (run_dir / "curves.png").write_bytes(curves)
    video = next(iter(sorted((run_dir / "videos").glob("*.mp4"))), None)
    (run_dir / "report.html").write_text(_page(title, summary, curves, video))
    return summary


def _mean_success_steps(records: Sequence[EpisodeRecord]) -> float:
    steps = [record.steps for record in records if record.success]
    return float(np.mean(steps)) if steps else float("nan")


def _rate_by_minute(learned: Sequence[EpisodeRecord]) -> list[dict[str, float]]:
    """Intervention rate per minute of learning, by the minute in which an episode ended."""
    if not learned:
        return []
    began_s = learned[0].wall_s - learned[0].duration_s
    minutes: dict[int, list[EpisodeRecord]] = {}
    for record in learned:
        minutes.setdefault(int((record.wall_s - began_s) // 60), []).append(record)
    return [
        {"minute": minute + 1, "rate": intervention_rate(group), "success_rate": success_rate(group)}
        for minute, group in sorted(minutes.items())
    ]


def _smooth(values: Sequence[float]) -> np.ndarray:
    window = min(SMOOTHING_EPISODES, len(values))
    padded = np.concatenate([np.full(window - 1, np.nan), np.asarray(values, float)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)
    return np.nanmean(frames, axis=1)


def _curves_png(records: Sequence[EpisodeRecord]) -> bytes:
    learned = [record for record in records if record.phase == "learn" and record.steps]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), constrained_layout=True)
    series = (
        ("success rate", [float(record.success) for record in learned], (-0.02, 1.02)),
        ("intervention rate", [record.interventions / record.steps for record in learned], (-0.02, 1.02)),
        ("episode length (steps)", [float(record.steps) for record in learned], None),
    )
    steps = [record.env_steps for record in learned]
    for axis, (name, values, limits) in zip(axes, series, strict=True):
        if learned:
            axis.plot(steps, values, ".", color="#c7d3e3", markersize=3)
            axis.plot(steps, _smooth(values), color="#2463c2", linewidth=2)
        axis.set(title=f"{name}, mean of {SMOOTHING_EPISODES} episodes", xlabel="environment steps")
        axis.grid(alpha=0.3)
        if limits:
            axis.set_ylim(*limits)
    return render(figure)


def _page(title: str, summary: dict[str, Any], curves_png: bytes, video: Path | None) -> str:
    figures = [
        (name.replace("_", " "), _shown(value))
        for name, value in summary.items()
        if not (isinstance(value, list) and value and isinstance(value[0], dict))
    ]
    shown = "<p>No video: rendering is not available here; see <code>robot-rl doctor</code>.</p>"
    if video is not None:
        shown = movie(video, "controls autoplay loop muted")
    columns = f"<div class='columns'>{table((), figures)}<div>{heading('Evaluation')}{shown}</div></div>"
    return page(title, [heading(title, 1), png(curves_png, "learning curves"), columns])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "not measured" if not np.isfinite(value) else f"{value:.3g}"
    if isinstance(value, list):
        return " – ".join(_shown(item) for item in value)
    return str(value)
