"""One simulated world with a memory: it can go back to a moment, take in what was measured then, and come back.

Time is counted in steps of the integrator, so that a second run over the same stretch repeats the first to the bit.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import mujoco
import numpy as np

from robot_rl.types import FloatArray
from sim.twin.correction import STATE, correct, innovation_of, jacobian_of, put
from sim.twin.kalman import ErrorFilter, Gain
from sim.twin.model import Factors, TwinModel, apply_factors, measured_pose

SERVO_STEPS = 2
"""Steps between renewals of the servo targets."""
SNAPSHOT_STEPS = 4
"""Steps between remembered states, a multiple of `SERVO_STEPS`."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A measured pose."""

    step: int  # when it was measured
    index: int  # of the object in the plan
    pose: FloatArray  # (7,) in the world


@dataclass
class History:
    """What all particles share: servo targets by step, sightings in order of time and what they are worth."""

    filters: list[ErrorFilter]
    """One for each object."""
    dt_s: float
    """Of a step."""
    steps: deque[int] = field(default_factory=deque)
    """Steps of the servo samples, ascending."""
    joints: deque[tuple[FloatArray, FloatArray]] = field(default_factory=deque)
    """Reference (N,) and its velocity (N,) at each of them."""
    fingers: FloatArray = field(default_factory=lambda: np.zeros(0))
    """Newest commands of the fingers."""
    sightings: list[Sighting] = field(default_factory=list)
    """In order of time."""
    gains: dict[tuple[int, int], Gain] = field(default_factory=dict)
    """By step and object: made by the first particle that meets the sighting, kept for the others and for replays."""
    seen_steps: dict[int, int] = field(default_factory=dict)
    """When each object was seen last."""

    def servo(self, step: int, lead_s: float) -> FloatArray:
        """Targets (N,) for `step` from the newest sample at that time, moved on with its velocity."""
        index = max(0, bisect_right(self.steps, step) - 1)
        position, velocity = self.joints[index]
        return position + velocity * ((step - self.steps[index]) * self.dt_s + lead_s)

    def forget(self, before_step: int) -> None:
        """Drop what no replay will ask for; one servo sample from before stays."""
        while len(self.steps) > 1 and self.steps[1] <= before_step:
            self.steps.popleft()
            self.joints.popleft()
        self.sightings = [one for one in self.sightings if one.step > before_step]
        self.gains = {key: gain for key, gain in self.gains.items() if key[0] > before_step}

    def put(self, sighting: Sighting, jacobian: FloatArray) -> None:
        """The object was just put where it was seen."""
        self.filters[sighting.index].start(jacobian)
        self.seen_steps[sighting.index] = sighting.step

    def judge(self, sighting: Sighting, innovation: FloatArray, jacobian: FloatArray, worst_nis: float) -> Gain:
        """The gain of a sighting; it narrows the covariance only when it is believed."""
        kalman = self.filters[sighting.index]
        kalman.predict((sighting.step - self.seen_steps[sighting.index]) * self.dt_s, jacobian)
        gain = kalman.gain(jacobian)
        if gain.nis(innovation) <= worst_nis:
            kalman.take(gain.gain, jacobian)
        self.gains[sighting.step, sighting.index] = gain
        self.seen_steps[sighting.index] = sighting.step
        return gain


@dataclass(frozen=True, slots=True)
class Seen:
    """What the newest sighting of one object said to one particle."""

    innovation: FloatArray  # (6,) measured less simulated
    nis: float
    log_likelihood: float
    kick: FloatArray  # (D,) change of velocity


class Timeline:
    """One particle: a world with its own friction and mass. Letters: D degrees of freedom of an object."""

    def __init__(self, twin: TwinModel, memory_s: float) -> None:
        self._twin = twin
        self.model: mujoco.MjModel = mujoco.MjModel.__copy__(twin.model)
        self.data = mujoco.MjData(self.model)
        self.factors = Factors()
        self.seen = [unseen(len(one.dofs)) for one in twin.tracked]
        self.before: list[FloatArray] = []
        """(7,) of each object at the `mark_step` of the last run."""
        remembered = int(np.ceil(memory_s / (SNAPSHOT_STEPS * twin.model.opt.timestep))) + 1
        self._ring: deque[tuple[int, FloatArray]] = deque(maxlen=remembered)
        self.step = 0

    @property
    def oldest_step(self) -> int:
        """Where `rewind` can go back to."""
        return self._ring[0][0] if self._ring else self.step

    def set_factors(self, factors: Factors) -> None:
        self.factors = factors
        apply_factors(self._twin, self.model, factors)

    def start(self, joints: FloatArray, sightings: Iterable[Sighting], history: History) -> None:
        """Begin anew at step 0: the arm as measured (N,), every object of `sightings` where it was seen."""
        self.data.qpos[self._twin.qpos], self.data.qvel[self._twin.dofs] = joints, 0.0
        mujoco.mj_forward(self.model, self.data)
        self.step = 0
        for sighting in sightings:
            self.put(sighting, history)

    def put(self, sighting: Sighting, history: History) -> None:
        """A hard reset of one object: it is put where it was seen, at rest. The past is forgotten."""
        one = self._twin.tracked[sighting.index]
        put(self.model, self.data, one, sighting.pose)
        history.put(sighting, jacobian_of(self.model, self.data, one))
        self.seen[sighting.index] = unseen(len(one.dofs))
        self._ring.clear()
        self._remember()

    def rewind(self, step: int) -> None:
        """Go back to the last remembered state at or before `step`; what came after it is forgotten."""
        while len(self._ring) > 1 and self._ring[-1][0] > step:
            self._ring.pop()
        self.step, state = self._ring[-1]
        mujoco.mj_setState(self.model, self.data, state, STATE)

    def run(self, history: History, mark_step: int, to_step: int, worst_nis: float) -> None:
        """On to `to_step`, with the servo targets and the corrections of `history` at their times.

        On the way it notes where the objects are at `mark_step`.
        """
        pending = deque(one for one in history.sightings if self.step < one.step <= to_step)
        if self.step == mark_step:
            self._mark()
        while self.step < to_step:
            until = min(to_step, (self.step // SERVO_STEPS + 1) * SERVO_STEPS)
            if self.step < mark_step:
                until = min(until, mark_step)
            if pending:
                until = min(until, pending[0].step)
            servo_step = self.step // SERVO_STEPS * SERVO_STEPS
            self.data.ctrl[self._twin.servos] = history.servo(servo_step, self._twin.lead_s)
            self.data.ctrl[self._twin.fingers] = history.fingers
            mujoco.mj_step(self.model, self.data, until - self.step)
            self.step = until
            while pending and pending[0].step == self.step:
                self._take_in(pending.popleft(), history, worst_nis)
            if self.step == mark_step:
                self._mark()
            if self.step % SNAPSHOT_STEPS == 0:
                self._remember()
        self._refresh()

    def copy_from(self, other: Timeline) -> None:
        """Become a copy of another particle, in everything but its factors."""
        self.step = other.step
        self.seen, self.before = list(other.seen), list(other.before)
        self._ring = deque(other._ring, self._ring.maxlen)
        state = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(other.model, other.data, state, STATE)
        mujoco.mj_setState(self.model, self.data, state, STATE)
        self._refresh()

    def _take_in(self, sighting: Sighting, history: History, worst_nis: float) -> None:
        """Correct by one sighting, if it is believed."""
        one = self._twin.tracked[sighting.index]
        mujoco.mj_fwdPosition(self.model, self.data)
        innovation = innovation_of(self.data, one, sighting.pose)
        gain = history.gains.get((sighting.step, sighting.index))
        if gain is None:
            gain = history.judge(sighting, innovation, jacobian_of(self.model, self.data, one), worst_nis)
        nis = gain.nis(innovation)
        change = gain.gain @ innovation if nis <= worst_nis else np.zeros(len(gain.gain))
        likelihood = gain.log_likelihood(min(nis, worst_nis))
        self.seen[sighting.index] = Seen(innovation, nis, likelihood, change[len(one.dofs) :])
        if np.any(change):
            correct(self.model, self.data, one, change)

    def _mark(self) -> None:
        mujoco.mj_kinematics(self.model, self.data)
        self.before = [measured_pose(self.data, one) for one in self._twin.tracked]

    def _refresh(self) -> None:
        """Kinematics and Jacobians of the present state, which a step leaves behind by one."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    def _remember(self) -> None:
        state = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, state, STATE)
        self._ring.append((self.step, state))


def unseen(dofs: int) -> Seen:
    return Seen(np.zeros(6), 0.0, 0.0, np.zeros(dofs))
