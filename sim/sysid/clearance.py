"""Whether an arm keeps clear of itself and of the ends of its joints on its way.

A guard that limits the TCP knows nothing of elbows, and the twin that is fitted cannot touch anything: what collides
here would look like friction there.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco

from robot_rl.types import FloatArray
from sim.robosuite_arm import robot_spec

APART_M = 0.02
"""Links that begin farther apart stay so."""
JOINT_MARGIN_RAD = 0.05
"""From the ends of a joint's range."""


class Clearance:
    """An arm of `sim.robosuite_arm.ROBOTS`, with its links' shapes."""

    def __init__(self, robot: str) -> None:
        spec, arm = robot_spec(robot)
        self._model = spec.compile()
        self._model.geom_margin[:] = APART_M
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(name) for name in arm.joints]
        self._qpos = [int(joint.qposadr[0]) for joint in joints]
        self._ranges = {joint.name: tuple(map(float, joint.range)) for joint in joints if joint.limited[0]}
        self._names = arm.joints

    def obstacles(self, joints_rad: FloatArray) -> list[str]:
        """What is in the way along joints (T, N), in words; what is near already at the start does not count."""
        found = []
        for index, name in enumerate(self._names):
            low, high = self._ranges.get(name, (-float("inf"), float("inf")))
            least, most = float(joints_rad[:, index].min()), float(joints_rad[:, index].max())
            if least < low + JOINT_MARGIN_RAD or most > high - JOINT_MARGIN_RAD:
                found.append(f"{name} runs from {least:.2f} to {most:.2f} rad; its range is [{low:.2f}, {high:.2f}]")
        begun = self._near(joints_rad[0])
        pairs = set().union(*(self._near(row) for row in joints_rad[1:])) - begun
        return found + [f"{first} comes near {second}" for first, second in sorted(pairs)]

    def _near(self, joints_rad: FloatArray) -> set[tuple[str, str]]:
        """Pairs of bodies less than `APART_M` apart."""
        model, data = self._model, self._data
        data.qpos[self._qpos] = joints_rad
        mujoco.mj_fwdPosition(model, data)
        bodies = model.geom_bodyid[data.contact.geom[: data.ncon]]
        return {tuple(sorted(model.body(int(one)).name for one in pair)) for pair in bodies}  # type: ignore[misc]
