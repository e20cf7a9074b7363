"""An identification as one self-contained HTML page: parameters, residuals, what the model class cannot explain."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from robot_rl.files import write_file
from robot_rl.types import FloatArray
from sim.sysid.fit import Fit
from sim.sysid.log import MotionLog
from sim.sysid.parameters import parameters, values
from sim.sysid.residuals import JointResidual, analyse, autocorrelation

UNTOLD = 0.3
"""A parameter whose prior variance fell by less than this share was told by the prior, not by the data."""

POOR = 0.25
"""Share of the nominal model's squared error; a fit that leaves more has failed."""


def write_report(path: Path, log: MotionLog, fit: Fit) -> list[str]:
    """Write the page; returns what it says in words."""
    joints = analyse(log, fit)
    words = verdict(log, fit, joints)
    figures = [_parameters_png(fit), _residuals_png(log, fit), _colours_png(log, fit)]
    write_file(path, _page(log, fit, joints, words, figures))
    return words


def verdict(log: MotionLog, fit: Fit, joints: list[JointResidual]) -> list[str]:
    """The page's sentences."""
    left, before = np.square(fit.residuals_rad).sum(), np.square(fit.nominal_rad).sum()
    labels = [one.label for one in parameters(log.joints)]
    untold = [label for label, share in zip(labels, fit.information, strict=True) if share < UNTOLD]
    words = [f"{100 * (1 - left / before):.1f} % of the nominal model's squared error is explained."]
    if left > POOR * before:
        words.append("The twin does not follow this log: do not use this posterior. Was the arm held or overloaded?")
    if untold:
        words.append(f"Not told by this log (the prior stands): {', '.join(untold)}.")
    found = [sentence for index, one in enumerate(joints) for sentence in one.words(index + 1)]
    return [*words, *(f"{sentence}." for sentence in found or ["What is left looks like noise"])]


def _parameters_png(fit: Fit) -> bytes:
    every = parameters(fit.posterior.joints)
    mean, std = np.array(fit.posterior.mean_z), np.sqrt(np.diag(np.array(fit.posterior.covariance_z)))
    figure, axis = plt.subplots(figsize=(7.5, 0.24 * len(every) + 0.8), constrained_layout=True)
    rows = np.arange(len(every))[::-1]
    axis.barh(rows, np.full(len(every), 3.92), left=-1.96, color="#e6ebf2", height=0.7)
    axis.errorbar(mean, rows, xerr=1.96 * std, fmt="o", color="#2463c2", markersize=4)
    axis.set_yticks(rows, [one.label for one in every], fontsize=8)
    axis.set(title="95 % before (grey) and after", xlabel="prior standard deviations from the prior's median")
    return _png(figure)


def _residuals_png(log: MotionLog, fit: Fit) -> bytes:
    figure, axes = plt.subplots(log.joints, 1, figsize=(7.5, 1.2 * log.joints), sharex=True, constrained_layout=True)
    times = np.arange(len(fit.residuals_rad)) / log.rate_hz
    for joint, axis in enumerate(np.ravel(axes)):
        axis.plot(times, 1e3 * fit.nominal_rad[:, joint], color="#c7d3e3", label="nominal")
        axis.plot(times, 1e3 * fit.residuals_rad[:, joint], color="#2463c2", label="identified")
        axis.set_ylabel(f"{joint + 1} (mrad)", fontsize=8)
        axis.grid(alpha=0.3)
    np.ravel(axes)[0].legend(fontsize=7, loc="upper right")
    np.ravel(axes)[-1].set_xlabel("s, runs one after the other")
    return _png(figure)


def _colours_png(log: MotionLog, fit: Fit) -> bytes:
    """Residual against speed, and autocorrelation, joint by joint."""
    figure, axes = plt.subplots(2, log.joints, figsize=(1.9 * log.joints, 4), constrained_layout=True)
    speed = np.concatenate([np.gradient(run.joints_rad, 1.0 / log.rate_hz, axis=0) for run in log.runs])
    for joint in range(log.joints):
        left = fit.residuals_rad[:, joint]
        axes[0, joint].plot(speed[:, joint], 1e3 * left, ".", markersize=2, color="#2463c2")
        axes[0, joint].set_title(f"joint {joint + 1}", fontsize=8)
        rho: FloatArray = autocorrelation(fit.whitened[:, joint], 20)
        axes[1, joint].bar(np.arange(len(rho)), rho, color="#2463c2")
        axes[1, joint].axhspan(*(np.array([-1.96, 1.96]) / np.sqrt(len(left))), color="#e6ebf2")
    axes[0, 0].set_ylabel("residual (mrad)\nagainst speed (rad/s)", fontsize=8)
    axes[1, 0].set_ylabel("autocorrelation,\nwhitened", fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    return buffer.getvalue()


def _page(log: MotionLog, fit: Fit, joints: list[JointResidual], words: list[str], figures: list[bytes]) -> str:
    every = parameters(log.joints)
    middle = values(np.array(fit.posterior.mean_z), log.joints)
    rows = "".join(
        f"<tr><th>{html.escape(one.label)}</th><td>{value:.4g}</td><td>{low:.4g} – {high:.4g}</td>"
        f"<td>{100 * share:.0f} %</td></tr>"
        for one, value, (low, high), share in zip(every, middle, fit.posterior.interval(), fit.information, strict=True)
    )
    left = "".join(
        f"<tr><th>{index + 1}</th><td>{1e3 * one.nominal_rms_rad:.2f}</td><td>{1e3 * one.rms_rad:.2f}</td>"
        f"<td>{100 * one.explained:.1f} %</td><td>{one.whiteness_p:.2g}</td></tr>"
        for index, one in enumerate(joints)
    )
    images = "".join(f'<img alt="" src="data:image/png;base64,{base64.b64encode(one).decode()}">' for one in figures)
    sentences = "".join(f"<li>{html.escape(one)}</li>" for one in words)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>robot-rl twin identify</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1c2530}}
img{{max-width:100%;display:block;margin:1rem 0}}th{{text-align:left;font-weight:500;color:#566}}
td,th{{padding-right:1.5rem}}</style></head><body><h1>Identification of {html.escape(log.robot)}</h1>
<ul>{sentences}</ul><h2>Parameters</h2><table><tr><th></th><th>estimate</th><th>95 %</th><th>told by the data</th></tr>
{rows}</table><h2>Residuals by joint (rms, mrad)</h2><table><tr><th>joint</th><th>nominal</th><th>identified</th>
<th>explained</th><th>whiteness p</th></tr>{left}</table>{images}</body></html>
"""
