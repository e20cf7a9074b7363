"""What an expert is, and the arithmetic that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot

UP = np.array([0.0, 0.0, 1.0])
REACH_M = 0.5  # about the farthest that the TCP is from what it has to reach


class Expert(Protocol):
    """Solves a task from any state, deciding afresh from every snapshot (no stage counter)."""

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        """Normalised action (A,), at the arm's full speed."""
        ...

    def progress(self, snapshot: Snapshot) -> float:
        """How far along the task is, in [0, 1]; 1 at success."""
        ...


def action_towards(
    snapshot: Snapshot,
    spec: ActionSpec,
    position_base: FloatArray,
    *,
    gripper: float,
    rotvec_tcp: FloatArray | None = None,
    share: float = 1.0,
) -> FloatArray:
    """Action (A,) that moves the TCP straight to a position (3,) in the base frame.

    `rotvec_tcp` (3,) is the remaining rotation in the TCP frame; `gripper`: 1 opens, -1 closes, 0 keeps.
    The translation keeps its direction when it is longer than one step allows. `share` of what remains is asked for:
    less than all of it where an arm answers late, and would overshoot.
    """
    tcp = snapshot.arm.pose_base_tcp
    travel = frames.quat_to_matrix(tcp[3:]).T @ (position_base - tcp[:3]) * (share / spec.translation_m)
    turn = np.zeros(3) if rotvec_tcp is None else rotvec_tcp * (share / spec.rotation_rad)
    wanted = np.concatenate([_shorten(travel), _shorten(turn), [gripper]])
    index = {name: place for place, name in enumerate(("x", "y", "z", "rx", "ry", "rz", "gripper"))}
    return np.array([wanted[index[name]] for name in spec.names])


def yaw_to(snapshot: Snapshot, axis_base: FloatArray, symmetry_rad: float) -> float:
    """Rotation about the TCP's z in rad that turns its x axis (the fingers' line) onto `axis_base` (3,).

    The smallest one among those that differ by `symmetry_rad`.
    """
    seen = frames.quat_to_matrix(snapshot.arm.pose_base_tcp[3:]).T @ axis_base
    angle = float(np.arctan2(seen[1], seen[0]))
    return (angle + symmetry_rad / 2) % symmetry_rad - symmetry_rad / 2


class GripWatch:
    """Tells when the fingers have come to rest, from the last two snapshots that it was shown.

    The one thing an expert has to remember: a single snapshot has no finger speed.
    """

    RESTING = 0.05  # change of gripper position between two snapshots

    def __init__(self, resting: float = RESTING) -> None:
        self._rest = resting
        self._stamp_s, self._position, self._resting = -np.inf, 0.0, False

    def resting(self, snapshot: Snapshot) -> bool:
        """False for the first snapshot after a pause or a reset."""
        stamp_s, position = snapshot.arm.stamp_s, snapshot.arm.gripper_position
        if stamp_s == self._stamp_s:
            return self._resting
        continuous = 0.0 < stamp_s - self._stamp_s < 0.25
        self._resting = continuous and abs(position - self._position) < self._rest
        self._stamp_s, self._position = stamp_s, position
        return self._resting


@dataclass(frozen=True)
class GraspShape:
    """How an object is picked from above."""

    aligned_m: float
    """Sideways error within which the open fingers pass the object."""
    clear_m: float
    """TCP height above the grasp point at which the fingers clear the object and its neighbours."""
    depth_m: float
    """TCP within this height of the grasp point: the pads hold it."""
    holding: tuple[float, float] = (0.06, 0.85)
    """Gripper positions when closed on the object (0 is closed on nothing)."""
    aligned_rad: float = np.inf
    """Error of the fingers' direction within which they pass the object."""
    near_m: float = 0.09
    """Closer than this sideways and too low, the hand rises first: it would sweep the object away."""
    funnel: float = 0.0
    """By how much the allowed errors (sideways, and of direction) grow with the height above the grasp, as a share of
    `clear_m`: the hand corrects while it descends, and a small error near the object is no reason to rise again."""


class Picker:
    """Fetches an object: over it, down with open fingers, close."""

    def __init__(self, shape: GraspShape, share: float = 1.0) -> None:
        self._shape, self._watch, self._share = shape, GripWatch(), share

    def fetch(
        self, snapshot: Snapshot, spec: ActionSpec, point: FloatArray, turn_rad: float = 0.0
    ) -> FloatArray | None:
        """Action (A,) towards holding the object at `point` (3,), or None when it is held.

        `turn_rad` is what remains to turn about the TCP's z.
        """
        shape, tcp, grip = self._shape, snapshot.arm.pose_base_tcp[:3], snapshot.arm.gripper_position
        resting = self._watch.resting(snapshot)
        sideways, height = float(np.linalg.norm((point - tcp)[:2])), float(tcp[2] - point[2])
        turn = np.array([0.0, 0.0, turn_rad])
        closed = shape.holding[0] < grip < shape.holding[1]
        if closed and resting and sideways < 1.5 * shape.aligned_m and abs(height) < 1.5 * shape.depth_m:
            return None
        slack = 1.0 + shape.funnel * max(height - shape.depth_m, 0.0) / shape.clear_m
        aligned = sideways < slack * shape.aligned_m and abs(turn_rad) < slack * shape.aligned_rad
        if aligned and abs(height) < shape.depth_m and grip > shape.holding[0]:
            return action_towards(snapshot, spec, point, gripper=-1.0, share=self._share)
        if aligned and grip > shape.holding[1]:
            return action_towards(snapshot, spec, point, gripper=1.0, rotvec_tcp=turn, share=self._share)
        above = point + shape.clear_m * UP
        if height < shape.clear_m - 0.015 and sideways < shape.near_m:
            above = np.append(tcp[:2], above[2])
        return action_towards(snapshot, spec, above, gripper=1.0, rotvec_tcp=turn, share=self._share)

    def progress(self, snapshot: Snapshot, point: FloatArray) -> float:
        """In [0, 1]: 0.7 for reaching the grasp point, 0.3 for closing there."""
        distance = float(np.linalg.norm(point - snapshot.arm.pose_base_tcp[:3]))
        grip = snapshot.arm.gripper_position
        around = distance < 0.03 and self._shape.holding[0] < grip
        closed = 0.3 * min(1.0, 2.0 * (1.0 - grip)) if around else 0.0
        return 0.7 * max(0.0, 1.0 - distance / REACH_M) + closed


def _shorten(vector: FloatArray) -> FloatArray:
    return vector / max(1.0, float(np.abs(vector).max()))
