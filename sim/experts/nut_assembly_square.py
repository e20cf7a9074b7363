"""NutAssemblySquare: grasp the nut by its handle, turn it square to the peg, lower it over the peg."""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts.base import Expert, GraspShape, Picker, action_towards, yaw_to

# Geometry of robosuite's square-nut.xml and pegs_arena.xml. The handle lies along the nut's x, from 2.9 to
# 7.9 cm, and is 3.2 cm wide and 2 cm high; the hole leaves 6.7 mm around the peg.
HANDLE_M = 0.060
SHAPE = GraspShape(aligned_m=0.012, clear_m=0.06, depth_m=0.010, aligned_rad=0.15)
PEG_TOP_M = 0.10  # above the peg's origin
CARRY_M = 0.04  # height of the nut's centre above the peg's top when carried (the nut is 2 cm high)
OVER_M = 0.005  # sideways error within which it is lowered
SQUARE_RAD = 0.12


class NutExpert:
    """Stage from the TCP's place relative to the handle, the fingers, and the nut relative to the peg."""

    def __init__(self) -> None:
        self._picker = Picker(SHAPE)

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        tcp, nut, peg = _places(snapshot)
        fetch = self._picker.fetch(snapshot, spec, _handle(snapshot), _turn_to_handle(snapshot))
        if fetch is not None:
            return fetch
        turn = _turn_to_square(snapshot)
        rotvec = np.array([0.0, 0.0, turn])
        gap, above = peg - nut, float(nut[2] - peg[2]) - PEG_TOP_M
        over = float(np.linalg.norm(gap[:2]))
        threaded = over < 0.012 and above < 0.012
        if threaded or (over < OVER_M and abs(turn) < SQUARE_RAD):
            down = np.append(gap[:2], -0.1)
            return action_towards(snapshot, spec, tcp + down, gripper=-1.0, rotvec_tcp=rotvec)
        lift = CARRY_M - above
        across = gap[:2] if lift < 0.03 else np.zeros(2)
        carry = tcp + np.append(across, lift)
        return action_towards(snapshot, spec, carry, gripper=-1.0, rotvec_tcp=rotvec)

    def progress(self, snapshot: Snapshot) -> float:
        """0.5 for grasping, 0.15 for raising, 0.2 for carrying, 0.15 for lowering."""
        if snapshot.task.success:
            return 1.0
        _, nut, peg = _places(snapshot)
        over = float(np.linalg.norm((peg - nut)[:2]))
        raised = float(np.clip(1.0 + (nut[2] - peg[2] - PEG_TOP_M) / 0.12, 0.0, 1.0)) if over > 0.012 else 1.0
        lowered = 0.0 if over > 0.012 else float(np.clip(0.3 - (nut[2] - peg[2] - PEG_TOP_M) / 0.1, 0.0, 1.0))
        grasped = 0.5 * self._picker.progress(snapshot, _handle(snapshot))
        return grasped + 0.15 * raised + 0.2 * max(0.0, 1.0 - over / 0.5) + 0.1 * lowered


def _places(snapshot: Snapshot) -> tuple[FloatArray, FloatArray, FloatArray]:
    """TCP, nut and peg (3,) in the base frame."""
    return snapshot.arm.pose_base_tcp[:3], snapshot.task.poses["nut"][:3], snapshot.task.poses["peg"][:3]


def _handle(snapshot: Snapshot) -> FloatArray:
    """Grasp point (3,) in the base frame."""
    nut = snapshot.task.poses["nut"]
    return nut[:3] + frames.quat_to_matrix(nut[3:])[:, 0] * HANDLE_M


def _turn_to_handle(snapshot: Snapshot) -> float:
    """Turn that puts the fingers across the handle, within a quarter turn of the start (x along base y)."""
    across = frames.quat_to_matrix(snapshot.task.poses["nut"][3:])[:, 1]
    return yaw_to(snapshot, across if across[1] > 0 else -across, 2 * np.pi)


def _turn_to_square(snapshot: Snapshot) -> float:
    """Turn about the TCP's z that squares the nut with the peg, its handle sideways or towards the base.

    With the handle beyond the peg the hand would have to be where the arm does not reach.
    """
    handle = frames.quat_to_matrix(snapshot.task.poses["nut"][3:])[:, 0]
    angle = float(np.arctan2(handle[1], handle[0]))
    errors = [(wanted - angle + np.pi) % (2 * np.pi) - np.pi for wanted in (np.pi / 2, np.pi, -np.pi / 2)]
    return -min(errors, key=abs)  # the TCP's z points down


def expert() -> Expert:
    return NutExpert()
