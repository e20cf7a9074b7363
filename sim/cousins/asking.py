"""Tasks in words of a command line, and those that a scene's affordances suggest.

open:object_0      the door or drawer with a handle of that object (open:object_0:1 its second part)
put:object_1:object_2      object_1 into object_2
stack:object_1:object_2    object_1 onto object_2
insert:object_1:object_2   object_1's tip into object_2's hole
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from robot_rl.errors import ConfigError, UnknownNameError
from sim.cousins.scene import Part, Scene, SceneObject
from sim.cousins.scene_task import SceneTask
from sim.cousins.tasks import Insert, OpenPart, PutIn, Stack

PAYLOAD_HALF_M = 0.037
"""Half of the widest that a hand of 8 cm takes hold of."""
CONTAINERS = ("bowl", "mug", "hinged_box", "shelf")
LIFTED = ("can", "box", "bottle", "peg", "tool", "connector", "unknown")


def read_task(words: str, scene: Scene) -> SceneTask:
    """The task that `words` ask for; `ConfigError` says what there is to choose from."""
    kind, *names = words.split(":")
    if kind not in KINDS:
        raise UnknownNameError("task", kind, KINDS)
    objects = {one.name: one for one in scene.objects}
    for name in names[:1] if kind == "open" else names:
        if name not in objects:
            raise UnknownNameError("object", name, objects)
    if kind != "open" and any(_hangs(scene, name) for name in names[:1]):
        raise ConfigError(f"{names[0]} hangs on a wall and is not carried; if it stands, correct its `support` by hand")
    try:
        return KINDS[kind](objects, names)
    except ValueError as error:
        hint = "; ".join(suggestions(scene)) or "nothing in this scene"
        raise ConfigError(f"cannot read the task {words!r} ({error}); there is: {hint}") from error


def suggestions(scene: Scene) -> Iterator[str]:
    """What could be done here, surest first."""
    for one in scene.objects:
        for number, part in enumerate(one.parts):
            if part.handle is not None:
                yield f"open:{one.name}:{number}" if len(one.parts) > 1 else f"open:{one.name}"
    lifted = [one for one in scene.objects if is_liftable(one) and not _hangs(scene, one.name)]
    for item in lifted:
        for container in scene.objects:
            if container.category in CONTAINERS and container.name not in (item.name, item.support):
                yield f"put:{item.name}:{container.name}"
    for item in lifted:
        for socket in scene.objects:
            if item.category == "peg" and socket.category == "socket":
                yield f"insert:{item.name}:{socket.name}"
    for item in lifted:
        for base in lifted:
            if base.name not in (item.name, item.support) and base.category == "box":
                yield f"stack:{item.name}:{base.name}"


def is_liftable(seen: SceneObject) -> bool:
    """Whether a hand could take hold of it."""
    return seen.category in LIFTED and not seen.parts and min(seen.box.half_extents_m[:2]) < PAYLOAD_HALF_M


def _hangs(scene: Scene, name: str) -> bool:
    return any(kind == "hanging" for kind, _ in scene.relations(name))


def _open(objects: dict[str, SceneObject], names: Sequence[str]) -> SceneTask:
    if not 1 <= len(names) <= 2:
        raise ValueError("open:OBJECT or open:OBJECT:PART")
    seen = objects[names[0]]
    part = _numbered(seen, names[1]) if names[1:] else _first_with_handle(seen)
    handle = None if part.handle is None else part.handle.pose_base[:3]
    return OpenPart(seen.name, handle_base=handle, kind=part.kind)


def _numbered(seen: SceneObject, number: str) -> Part:
    if number not in map(str, range(len(seen.parts))):
        raise ValueError(f"{seen.name} has {len(seen.parts)} part(s), counted from 0; got {number!r}")
    return seen.parts[int(number)]


def _first_with_handle(seen: SceneObject) -> Part:
    for part in seen.parts:
        if part.handle is not None:
            return part
    raise ValueError(f"no part of {seen.name} has a handle; give its parts in parts.json or by --parts")


def _pair(make: Callable[[str, str], SceneTask]) -> Callable[[dict[str, SceneObject], Sequence[str]], SceneTask]:
    def read(objects: dict[str, SceneObject], names: Sequence[str]) -> SceneTask:
        if len(names) != 2 or names[0] == names[1]:
            raise ValueError("two different objects")
        return make(names[0], names[1])

    return read


KINDS: dict[str, Callable[[dict[str, SceneObject], Sequence[str]], SceneTask]] = {
    "open": _open,
    "put": _pair(PutIn),
    "stack": _pair(Stack),
    "insert": _pair(Insert),
}
