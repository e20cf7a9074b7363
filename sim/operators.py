"""Operators of different skill for demonstrations of mixed quality: an expert, a clumsy one, a wrong one.

Each is the scripted person (`robot_rl.person`: reaction, speed, shake, pauses) with another mind behind the hand, so
that from the same states they do different things. Nobody gives up: a failure lasts until the episode is truncated.
An operator is made for one episode; the seed says all that it draws. Rules:

expert  The task's expert, with the scripted person's usual limits.
clumsy  Reacts later, moves slower, shakes more and waits longer than the expert. Aims beside the object and too high
        (so the hand closes beside it, or too early) by an error that is drawn anew for each try, and in some tries
        lets go of what it holds. A try ends when the fingers have opened again, or after `TRY_S`.
wrong   As sure and as steady as the expert, but with one bad habit, drawn for the episode, that it never gives up:
        beside    reaches for a place between the object and the robot, and closes on nothing;
        push      closes the hand, comes down before the object and pushes it away;
        let go    grasps it well, and opens the hand again (in the air, where the task is more than lifting);
        misplace  carries it to the wrong place (tasks with a goal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from robot_rl.env import RobotEnv
from robot_rl.errors import UnknownNameError
from robot_rl.person import PersonConfig, ScriptedHuman, ScriptedPerson
from robot_rl.types import ActionSpec, FloatArray, Snapshot
from sim.experts import make_expert
from sim.experts.base import UP, Expert, GripWatch, action_towards

AWAY = np.array([1.0, 0.0, 0.0])  # from the robot, in the base frame
OPEN, SHUT = 0.85, 0.06  # gripper positions: above open, below closed on nothing

STEADY = PersonConfig(give_up_s=np.inf)
SHAKY = PersonConfig(
    reaction_s=0.35, hand_speed=0.3, approach_steps=2.0, hand_noise=0.04, grip_pause_s=0.4, give_up_s=np.inf
)

AIM_M = 0.013  # standard deviation of a clumsy try's aim, per axis; upwards only
SLIP = 0.3  # probability that a clumsy try lets go of what it holds
TRY_S = 8.0
BESIDE_M = 0.055  # fingers and cube are 2 and 4.4 cm wide: they do not touch
PUSH_M = 0.12
LET_GO_S = 1.0  # for so long the hand stays open and rises


@dataclass(frozen=True)
class Errand:
    """What a task asks to be done, as far as it can be done wrong."""

    thing: str
    """The object to fetch."""
    let_go_m: float
    """Height above its first place at which the object is let go of."""
    goal: str = ""
    """Where it belongs, if that is shown."""
    elsewhere_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """From there to the place that is taken for it."""


ERRANDS = {
    # Raised by 2 cm it is a success: let go of at once.
    "lift": Errand("cube", 0.0),
    # robosuite's bins_arena.xml: the compartments are 24.5 cm apart along y; the can's is the last one.
    "pick_place_can": Errand("can", 0.06, "goal", (0.0, -0.245, 0.0)),
    # pegs_arena.xml: the round peg is 20 cm from the square one.
    "nut_assembly_square": Errand("nut", 0.06, "peg", (0.0, -0.2, 0.0)),
}


class Misled:
    """The expert, who takes an object to be elsewhere."""

    def __init__(self, expert: Expert, name: str, offset_m: FloatArray) -> None:
        self._expert, self._name, self._offset = expert, name, np.append(offset_m, np.zeros(4))

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        poses = {**snapshot.task.poses, self._name: snapshot.task.poses[self._name] + self._offset}
        return self._expert.action(replace(snapshot, task=replace(snapshot.task, poses=poses)), spec)

    def progress(self, snapshot: Snapshot) -> float:
        return self._expert.progress(snapshot)


class LettingGo:
    """Acts as `expert` until the object is held `height_m` above its first place, then opens the hand and rises."""

    def __init__(self, expert: Expert, thing: str, height_m: float) -> None:
        self._expert, self._thing, self._height = expert, thing, height_m
        self._watch = GripWatch()
        self._rest_m: float | None = None
        self._let_go_s = -np.inf

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        height = float(snapshot.task.poses[self._thing][2])
        self._rest_m = height if self._rest_m is None else self._rest_m
        holds = self._watch.resting(snapshot) and SHUT < snapshot.arm.gripper_position < OPEN
        now_s = snapshot.arm.stamp_s
        wish = self._expert.action(snapshot, spec)
        if (
            now_s - self._let_go_s > LET_GO_S
            and holds
            and wish[-1] < 0
            and max(0.0, height - self._rest_m) >= self._height
        ):
            self._let_go_s = now_s
        if now_s - self._let_go_s <= LET_GO_S:
            rise = 0.1 * UP * (snapshot.arm.gripper_position > OPEN)  # not before: the object would come along
            return action_towards(snapshot, spec, snapshot.arm.pose_base_tcp[:3] + rise, gripper=1.0)
        return wish

    def progress(self, snapshot: Snapshot) -> float:
        return self._expert.progress(snapshot)


class Pusher:
    """Comes down before the object with a closed hand and pushes it `PUSH_M` away."""

    def __init__(self, expert: Expert, thing: str) -> None:
        self._expert, self._thing = expert, thing
        self._first: FloatArray | None = None

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        thing, tcp = snapshot.task.poses[self._thing][:3], snapshot.arm.pose_base_tcp[:3]
        self._first = thing if self._first is None else self._first
        to_thing = thing - tcp
        beyond = float(np.linalg.norm((thing - self._first)[:2])) > PUSH_M
        in_line = to_thing @ AWAY > 0.0 and abs(to_thing[1]) < 0.03
        low = -to_thing[2] < 0.02
        before = thing - 0.08 * AWAY
        if beyond or not (in_line or not low):
            target = tcp + max(0.0, 0.1 + to_thing[2]) * UP
        elif low:
            target = tcp + 0.1 * AWAY
        elif np.linalg.norm((before - tcp)[:2]) < 0.02:
            target = before
        else:
            target = before + max(0.08, -to_thing[2] - 0.1) * UP
        return action_towards(snapshot, spec, target, gripper=-1.0)

    def progress(self, snapshot: Snapshot) -> float:
        return self._expert.progress(snapshot)


class Clumsy:
    """Tries again and again, each time with another error."""

    def __init__(self, expert: Expert, errand: Errand, rng: np.random.Generator) -> None:
        self._expert, self._errand, self._rng = expert, errand, rng
        self._was_open = True
        self._until_s = -np.inf

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        is_open = snapshot.arm.gripper_position > OPEN
        if snapshot.arm.stamp_s >= self._until_s or (is_open and not self._was_open):
            self._until_s = snapshot.arm.stamp_s + TRY_S
            self._try = self._next_try()
        self._was_open = is_open
        return self._try.action(snapshot, spec)

    def progress(self, snapshot: Snapshot) -> float:
        return self._expert.progress(snapshot)

    def _next_try(self) -> Expert:
        error = self._rng.normal(0.0, AIM_M, 3)
        aimed = Misled(self._expert, self._errand.thing, np.append(error[:2], abs(error[2])))
        slips = self._rng.random() < SLIP
        return LettingGo(aimed, self._errand.thing, self._errand.let_go_m) if slips else aimed


def _wrong(expert: Expert, errand: Errand, rng: np.random.Generator) -> Expert:
    habits: list[Callable[[], Expert]] = [
        lambda: Misled(expert, errand.thing, -BESIDE_M * AWAY),
        lambda: Pusher(expert, errand.thing),
        lambda: LettingGo(expert, errand.thing, errand.let_go_m),
    ]
    if errand.goal:
        habits.append(lambda: Misled(expert, errand.goal, np.array(errand.elsewhere_m)))
    return habits[rng.integers(len(habits))]()


Mind = Callable[[Expert, Errand, np.random.Generator], Expert]
OPERATORS: dict[str, tuple[PersonConfig, Mind]] = {
    "expert": (STEADY, lambda expert, errand, rng: expert),
    "clumsy": (SHAKY, Clumsy),
    "wrong": (STEADY, _wrong),
}


def make_operator(name: str, task: str, env: RobotEnv, seed: int) -> ScriptedHuman:
    """The operator `name` at the intervention input of `env`, for one episode of `task`."""
    if name not in OPERATORS:
        raise UnknownNameError("operator", name, OPERATORS)
    if task not in ERRANDS:
        raise UnknownNameError("task with operators", task, ERRANDS)
    config, mind = OPERATORS[name]
    draws, shake = np.random.SeedSequence(seed).spawn(2)
    expert = mind(make_expert(task), ERRANDS[task], np.random.default_rng(draws))
    person = ScriptedPerson(expert, env.action_spec, config, int(shake.generate_state(1)[0]))
    return ScriptedHuman(person, env.snapshot)
