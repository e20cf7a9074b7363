"""Whether the twin keeps 60 Hz in real time beside the control loop of a simulated arm, on two cores."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import mujoco
import numpy as np
from _twin_scenes import JOINT_LATENCY_S, LATENCY_S, RATE_HZ, SCENES, Truth, scene_xml
from figures import Figure

from hardware.pacing import Pacer
from robot_rl.statistics import wilson_interval
from sim.twin.model import make_twin
from sim.twin.pace import PaceKeeper
from sim.twin.sync import TwinSync

ON_TIME_BAR = 0.99
BUDGET = 0.8
"""As the node's."""
SETTLE_S = 10.0
"""In which particles are left out until a tick fits; not counted."""
LOOP = Path(__file__).with_name("_twin_control_loop.py")


def rate_figures(length_s: float) -> list[Figure]:
    """A T-block episode, told at its own pace: share of ticks done before the next is due, of twin and loop."""
    told, sync = _recorded(length_s + SETTLE_S), _sync()
    loop = subprocess.Popen(
        [sys.executable, str(LOOP), str(length_s + SETTLE_S + 4.0)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert loop.stdout is not None
    loop.stdout.readline()  # it runs
    done_s, began_s = (one[round(SETTLE_S * RATE_HZ) :] for one in _play(sync, told))
    answer = json.loads(loop.stdout.readline())
    loop.wait()
    assert sync.newest is not None
    particles = len(sync.newest.weights)
    sync.close()
    n, period_s = len(done_s), 1.0 / RATE_HZ
    on_time = int((done_s <= period_s).sum())
    rate_hz = (n - 1) / (began_s[-1] - began_s[0])
    return [
        Figure("rate_hz", rate_hz, "ticks per second", None, n, None),
        Figure("rate.on_time", on_time / n, "share of ticks", ON_TIME_BAR, n, wilson_interval(on_time, n)),
        Figure("rate.particles", particles, "left of 8", None, 1, None),
        Figure("rate.p99_ms", 1e3 * float(np.quantile(done_s, 0.99)), "ms from due to done", None, n, None),
        Figure("rate.loop_on_time", answer["on_time"], "share of slices of 20 ms", None, answer["n"], None),
    ]


def _sync() -> TwinSync:
    kind = SCENES["push_t"]
    return TwinSync(make_twin(mujoco.MjSpec.from_string(scene_xml(kind.content)), kind.plan))


def _recorded(length_s: float) -> list[tuple[dict[str, float], np.ndarray]]:
    truth, told = Truth(SCENES["push_t"], 0), []
    for _ in range(round(length_s * RATE_HZ)):
        told.append((truth.measured_joints(), truth.measured_pose()))
        truth.advance(1.0 / RATE_HZ)
    return told


def _play(sync: TwinSync, told: list[tuple[dict[str, float], np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds from when each tick was due until it was done, and when it began."""
    pacer, period_s, done_s, began_s = Pacer(), 1.0 / RATE_HZ, [], []
    pace, late = PaceKeeper(sync, BUDGET), round(LATENCY_S * RATE_HZ + 0.5)
    for tick in range(len(told)):
        remaining_s = pacer.remaining_s()
        if remaining_s > 0.0:
            time.sleep(remaining_s)
        due_s = time.monotonic() + min(0.0, pacer.remaining_s())
        began_s.append(time.monotonic())
        now_s = time.time()
        sync.joints(now_s - JOINT_LATENCY_S, told[tick][0], now_s)
        sync.pose("object", now_s - late / RATE_HZ, told[max(0, tick - late)][1], now_s)
        sync.tick(now_s)
        pace.took(time.monotonic() - began_s[-1])
        done_s.append(time.monotonic() - due_s)
        pacer.schedule(period_s, period_s)
    return np.array(done_s), np.array(began_s)
