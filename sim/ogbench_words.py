"""Words for what can be done in OGBench's worlds: whether it was done, and in hindsight what was done in play.

An `Instruction` is a kind of change of one object, as "open the drawer": it is judged by two states, before and
after. `label` finds such changes in an episode of play and words them; `OgbenchEnv.reset` takes the same words and
ends with success once the change has come about. Left and right are the robot's own, which looks along x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import UnknownNameError
from robot_rl.types import FloatArray, Label

# scaling of compute_observation in OGBench's manipspace environments
PER_M = {"block": 10.0, "drawer": 18.0, "window": 15.0}
AT_REST = {"block": 0.005, "drawer": 0.009, "window": 0.0075}  # half a millimetre per step, scaled
PAUSE_STEPS = 10  # shorter rests are part of one movement
APPROACH_STEPS = 100  # before a movement, at most
MOVED_M = 0.05
ON_TOP_M = 0.03
END_M = 0.04  # of drawer and window: OGBench's own tolerance
DRAWER_OPEN_M, WINDOW_OPEN_M = -0.16, 0.2
COLORS = ("red", "blue")  # of blocks

View = Mapping[str, FloatArray]
"""Elements of one state, or of many, by name; lengths in m."""
Judge = Callable[[View, View], bool]


@dataclass(frozen=True)
class Instruction:
    """A change of one object."""

    name: str
    """Object and change, as drawer.open."""
    phrases: tuple[str, ...]
    """Ways to say it."""
    done: Judge = field(repr=False)
    """From a state before and one after."""
    possible: Callable[[View], bool] = field(repr=False)
    """Whether it can be brought about at once from a state."""

    @property
    def object(self) -> str:
        return self.name.split(".")[0]


def view(names: tuple[str, ...], states: FloatArray) -> View:
    """`states` (..., S) by element, in m."""
    return {name: states[..., index] / _per_m(name) for index, name in enumerate(names)}


def _per_m(name: str) -> float:
    thing, element = name.split(".")
    return PER_M.get(thing.split("_")[0], 1.0) if element in ("x", "y", "z", "pos") else 1.0


def instructions(names: tuple[str, ...]) -> tuple[Instruction, ...]:
    """All that can be asked for in the world whose state has these elements."""
    objects = list(dict.fromkeys(name.split(".")[0] for name in names))
    blocks = [one for one in objects if one.startswith("block_")]
    buttons = [one for one in objects if one.startswith("button_")]
    drawer = "drawer" in objects
    found: list[Instruction] = []
    for index, block in enumerate(blocks):
        found += _block(block, f"the {COLORS[index]} cube" if len(blocks) > 1 else "the cube", drawer)
        found += [_stack(block, other, COLORS[index], COLORS[1 - index]) for other in blocks if other != block]
    found += [one for button in buttons for one in (_scene_button(button) if drawer else [_puzzle_button(button)])]
    if drawer:
        found += _slide("drawer", DRAWER_OPEN_M, "button_0", ("open the drawer", "pull the drawer open"))
        found += _slide("window", WINDOW_OPEN_M, "button_1", ("open the window", "slide the window open"))
    return tuple(found)


def find_instruction(names: tuple[str, ...], text: str) -> Instruction:
    """The one that `text` is a phrase of."""
    known = instructions(names)
    for one in known:
        if text.strip().lower() in one.phrases:
            return one
    raise UnknownNameError("instruction of this world", text, [one.phrases[0] for one in known])


def label(names: tuple[str, ...], states: FloatArray, seed: int = 0) -> list[Label]:
    """What was done in an episode of play of `states` (T + 1, S), in the order of its ends; `seed` chooses phrases."""
    rng, whole = np.random.default_rng(seed), view(names, states)
    known = instructions(names)
    moves = sorted(_movements(whole), key=lambda move: move[2])
    labels = []
    for name, begin, end in moves:
        before, after = ({key: value[at] for key, value in whole.items()} for at in (begin, end))
        for one in known:
            if one.object == name and one.done(before, after):
                earlier = max((stop for _, _, stop in moves if stop <= begin), default=0)
                phrase = one.phrases[rng.integers(len(one.phrases))]
                labels.append(Label(max(earlier, begin - APPROACH_STEPS), end, phrase))
                break
    return labels


def _movements(whole: View) -> Iterator[tuple[str, int, int]]:
    """(object, row before, row after) of every movement that came to rest."""
    slid: NDArray[np.bool_] = np.zeros(len(next(iter(whole.values()))) - 1, bool)
    for name in ("drawer", "window"):
        if f"{name}.pos" in whole:
            moving = np.abs(np.diff(whole[f"{name}.pos"])) * PER_M[name] > AT_REST[name]
            slid |= moving if name == "drawer" else False
            yield from ((name, *span) for span in _joined(moving))
    for name in dict.fromkeys(key.split(".")[0] for key in whole):
        if name.startswith("button_"):
            yield from ((name, at, at + 1) for at in np.flatnonzero(np.diff(whole[f"{name}.on"])).tolist())
        elif name.startswith("block_"):
            place = np.stack([whole[f"{name}.{axis}"] for axis in "xyz"], -1)
            moving = np.linalg.norm(np.diff(place, axis=0), axis=-1) * PER_M["block"] > AT_REST["block"]
            # what rides in the drawer was not moved itself
            yield from ((name, *span) for span in _joined(moving) if slid[slice(*span)].mean() < 0.5)


def _joined(moving: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Maximal spans (begin, end) of True, with rests of up to `PAUSE_STEPS`; one that lasts to the end is left out."""
    steps = np.flatnonzero(moving)
    if not len(steps):
        return []
    cuts = np.flatnonzero(np.diff(steps) > PAUSE_STEPS)
    begins, ends = steps[np.concatenate([[0], cuts + 1])], steps[np.concatenate([cuts, [len(steps) - 1]])] + 1
    return [(int(b), int(e)) for b, e in zip(begins, ends, strict=True) if e + PAUSE_STEPS <= len(moving)]


def _block(block: str, called: str, drawer: bool) -> list[Instruction]:
    def moved(axis: str, sign: float) -> Judge:
        def done(before: View, after: View) -> bool:
            way = {one: float(after[f"{block}.{one}"] - before[f"{block}.{one}"]) for one in "xyz"}
            across = abs(way["y" if axis == "x" else "x"])
            level = abs(way["z"]) < ON_TOP_M and float(after[f"{block}.z"]) < ON_TOP_M
            return level and sign * way[axis] > MOVED_M and abs(way[axis]) > across

        return done

    def always(before: View) -> bool:
        return True

    ways = (("left", "y", 1.0), ("right", "y", -1.0), ("away", "x", 1.0), ("closer", "x", -1.0))
    found = [
        Instruction(f"{block}.{way}", (f"move {called} {to}", f"push {called} {to}"), moved(axis, sign), always)
        for way, axis, sign in ways
        for to in [f"to the {way}" if axis == "y" else way]
    ]
    if not drawer:
        return found

    def inside(state: View) -> bool:  # as `sim.ogbench_play.healthy` has it
        return bool(state[f"{block}.y"] < -0.15 and 0.05 < state[f"{block}.z"] < 0.09)

    def reachable(state: View) -> bool:
        return _is_at("drawer", DRAWER_OPEN_M)(state)

    into = (f"put {called} into the drawer", f"place {called} in the drawer")
    out = (f"take {called} out of the drawer", f"get {called} from the drawer")
    return [
        _reached(f"{block}.in", into, inside, reachable),
        _reached(f"{block}.out", out, lambda state: not inside(state), reachable),
        *found,
    ]


def _reached(
    name: str,
    phrases: tuple[str, ...],
    there: Callable[[View], bool],
    free: Callable[[View], bool] = lambda state: True,
) -> Instruction:
    """A state that was not, and now is; it can be brought about where `free`."""
    return Instruction(
        name,
        phrases,
        lambda before, after: there(after) and not there(before),
        lambda before: not there(before) and free(before),
    )


def _stack(block: str, other: str, color: str, other_color: str) -> Instruction:
    def on(state: View) -> bool:
        x, y, z = (float(state[f"{block}.{axis}"] - state[f"{other}.{axis}"]) for axis in "xyz")
        return math.hypot(x, y) < MOVED_M and z > ON_TOP_M

    phrases = (f"put the {color} cube on the {other_color} cube", f"stack the {color} cube on the {other_color} one")
    return _reached(f"{block}.on", phrases, on)


def _scene_button(button: str) -> list[Instruction]:
    what = "drawer" if button == "button_0" else "window"
    return [
        _reached(f"{button}.{verb}", (f"{verb} the {what}", f"press the button that {verb}s the {what}"), there)
        for verb, there in (
            ("unlock", lambda state: bool(state[f"{button}.on"])),
            ("lock", lambda state: not state[f"{button}.on"]),
        )
    ]


def _puzzle_button(button: str) -> Instruction:
    row, column = divmod(int(button.removeprefix("button_")), 3)
    place = f"row {row + 1} and column {column + 1}"
    on = f"{button}.on"
    phrases = (f"press the button in {place}", f"push the button of {place}")
    return Instruction(f"{button}.press", phrases, lambda b, a: bool(b[on] != a[on]), lambda b: True)


def _slide(name: str, open_m: float, lock: str, opening: tuple[str, str]) -> list[Instruction]:
    """Opening and closing of drawer or window, both possible only while unlocked."""
    closing = (f"close the {name}", f"shut the {name}")

    def unlocked(state: View) -> bool:
        return bool(state[f"{lock}.on"])

    return [
        _reached(f"{name}.open", opening, _is_at(name, open_m), unlocked),
        _reached(f"{name}.close", closing, _is_at(name, 0.0), unlocked),
    ]


def _is_at(name: str, place_m: float) -> Callable[[View], bool]:
    return lambda state: bool(abs(state[f"{name}.pos"] - place_m) <= END_M)
