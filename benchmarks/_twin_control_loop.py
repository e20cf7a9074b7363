"""A control loop to keep company: an arm in MuJoCo under its pose controller, in slices of 20 ms of real time."""

from __future__ import annotations

import json
import sys
import time

from hardware.pacing import Pacer
from robot_rl.types import ArmTarget
from sim.tasks import make_world

PERIOD_S = 0.02


def main() -> None:
    world = make_world("lift")
    world.reset(0)
    start = world.arm.state().pose_base_tcp
    print("running", flush=True)
    pacer, late, ticks, end_s = Pacer(), 0, 0, time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end_s:
        time.sleep(max(0.0, pacer.remaining_s()))
        due_s = time.monotonic() + min(0.0, pacer.remaining_s())
        target = start.copy()
        target[1] += 0.05 * (ticks // 50 % 2)
        world.arm.command(ArmTarget(world.time_s, target, 1.0))
        world.advance(PERIOD_S)
        late += time.monotonic() - due_s > PERIOD_S
        ticks += 1
        pacer.schedule(PERIOD_S, PERIOD_S)
    print(json.dumps({"on_time": 1.0 - late / ticks, "n": ticks}), flush=True)


if __name__ == "__main__":
    main()
