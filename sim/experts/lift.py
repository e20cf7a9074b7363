"""Lift: grasp the cube, raise it."""

from __future__ import annotations

from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import UP, Expert, GraspShape, Picker, action_towards

# 8 cm stroke, cube 4.4 cm wide (up to 6.2 cm across its corners): 1.2 cm to spare on the flat.
SHAPE = GraspShape(aligned_m=0.012, clear_m=0.06, depth_m=0.012)


class LiftExpert:
    """Stage from the TCP's place relative to the cube and the fingers."""

    def __init__(self, shape: GraspShape = SHAPE) -> None:
        self._picker = Picker(shape)

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        fetch = self._picker.fetch(snapshot, spec, snapshot.task.poses["cube"][:3])
        if fetch is not None:
            return fetch
        return action_towards(snapshot, spec, snapshot.arm.pose_base_tcp[:3] + 0.1 * UP, gripper=-1.0)

    def progress(self, snapshot: Snapshot) -> float:
        """Reaching and grasping; 1 when raised."""
        if snapshot.task.success:
            return 1.0
        return 0.8 * self._picker.progress(snapshot, snapshot.task.poses["cube"][:3])


def expert() -> Expert:
    return LiftExpert()
