"""Loose objects moved clear, dropped and at rest; how things touch then, and how deep they overlap."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl.errors import DataError
from sim.assets.asset import ROOT
from sim.assets.geometry import collides, geom_mesh, geom_pose, has_surface, join
from sim.cousins.layout import Contact, Relation
from sim.cousins.scan import as_pose
from sim.cousins.scene import Pose, Vector3

SETTLE_S = 2.0
RESTING_M_S = 2e-3
REPORTED_M = 1e-4
CLEAR_M = 1e-3
CLEAR_TRIES = 50
LEVEL = 0.7
"""Vertical part of a contact's normal above which one thing is on the other and not beside it."""
REACH_M = 0.1
"""Wider gaps are not told apart."""


@dataclass(frozen=True)
class Settled:
    """What is left of a scene at rest."""

    poses: Mapping[str, Pose]
    """Of the loose objects."""
    gaps_m: Mapping[tuple[str, str], float]
    """Between those that should touch; negative: they overlap."""
    contacts: tuple[Contact, ...]
    """Residual penetrations."""
    moved_m: float
    """The farthest that an object moved."""


def settle(spec: mujoco.MjSpec, loose: Sequence[str], touching: Sequence[tuple[str, Relation]] = ()) -> Settled:
    """Drop the `loose` objects, of which those that others stand on or against come first.

    `touching`: objects, and what they touch, between which gaps are measured.
    """
    model = spec.compile()
    data = mujoco.MjData(model)
    addresses = {name: int(model.joint(model.body(f"{name}/{ROOT}").jntadr[0]).qposadr[0]) for name in loose}
    _move_clear(model, data, addresses)
    before = {name: data.body(f"{name}/{ROOT}").xpos.copy() for name in loose}
    steps = round(SETTLE_S / model.opt.timestep)
    for step in range(steps):
        mujoco.mj_step(model, data)
        # the slow roll of a bottle is rest enough; checked rarely because numpy costs as much as a step
        if step % 50 == 49 and step > 100 and float(np.abs(data.qvel).max(initial=0.0)) < RESTING_M_S:
            break
    if not np.isfinite(data.qpos).all() or data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number:
        raise DataError("the scene does not settle: its simulation diverges")
    mujoco.mj_forward(model, data)
    after = {name: data.body(f"{name}/{ROOT}").xpos for name in loose}
    moved_m = max((float(np.linalg.norm(after[name] - before[name])) for name in loose), default=0.0)
    poses = {name: as_pose(data.qpos[address : address + 7]) for name, address in addresses.items()}
    gaps = {
        (name, one.other): _gap_m(model, data, name, one.other, one.normal_base or (0.0, 0.0, 1.0))
        for name, one in touching
    }
    return Settled(poses, gaps, _penetrations(model, data, gaps), moved_m)


def _move_clear(model: mujoco.MjModel, data: mujoco.MjData, addresses: Mapping[str, int]) -> None:
    """Move loose objects until none overlaps, by more than a millimetre, what is fixed or comes before it.

    Aside where they overlap sideways, while that helps; else up.
    """
    waiting = {name: int(model.body(f"{name}/{ROOT}").id) for name in addresses}
    for name, address in addresses.items():
        body = waiting.pop(name)
        for attempt in range(2 * CLEAR_TRIES):
            mujoco.mj_forward(model, data)
            pairs = model.body_rootid[model.geom_bodyid[data.contact.geom]]  # (contacts, 2)
            counts = (pairs == body).any(1) & ~np.isin(pairs, list(waiting.values())).any(1)
            depths = np.where(counts, -data.contact.dist, 0.0)
            if not (depths > CLEAR_M).any():
                break
            deepest = int(depths.argmax())
            away = data.contact.frame[deepest, :3] * (1.0 if pairs[deepest, 1] == body else -1.0)
            if abs(away[2]) > LEVEL or attempt >= CLEAR_TRIES:
                away = np.array([0.0, 0.0, 1.0])
            data.qpos[address : address + 3] += depths[deepest] * away
    mujoco.mj_forward(model, data)


def _gap_m(model: mujoco.MjModel, data: mujoco.MjData, first: str, second: str, normal: Vector3) -> float:
    """The least distance of what collides of the two; MuJoCo makes no contacts between things that are both fixed.

    Where faces just meet, MuJoCo may say how deep they are along another axis: never less than the gap along `normal`.
    """
    upper, lower = _geoms(model, first), _geoms(model, second)
    meshes = [join(geom_mesh(model, one).moved(*geom_pose(data, one)) for one in geoms) for geoms in (upper, lower)]
    along = float((meshes[0].vertices_m @ normal).min() - (meshes[1].vertices_m @ normal).max())
    nearest = min(mujoco.mj_geomDistance(model, data, a, b, REACH_M, None) for a in upper for b in lower)
    return max(along, float(nearest))


def _geoms(model: mujoco.MjModel, name: str) -> list[int]:
    """What collides of an object or support."""
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, f"{name}/{ROOT}")
    if body < 0:
        return [int(model.geom(name).id)]
    owners = model.body_rootid[model.geom_bodyid]
    return [
        geom
        for geom in range(model.ngeom)
        if owners[geom] == body and collides(model, geom) and has_surface(model, geom)
    ]


def _penetrations(
    model: mujoco.MjModel, data: mujoco.MjData, gaps_m: Mapping[tuple[str, str], float]
) -> tuple[Contact, ...]:
    """The deepest overlap of every pair of things, by MuJoCo's contacts and by `gaps_m`."""
    deepest = {(min(pair), max(pair)): -gap for pair, gap in gaps_m.items() if -gap > REPORTED_M}
    for (first, second), dist in zip(data.contact.geom, data.contact.dist, strict=True):
        roots = [int(model.body_rootid[model.geom_bodyid[one]]) for one in (first, second)]
        names = [
            model.body(root).name.removesuffix(f"/{ROOT}") if root else model.geom(int(geom)).name
            for root, geom in zip(roots, (first, second), strict=True)
        ]
        if -dist > REPORTED_M and roots[0] != roots[1]:
            pair = (min(names), max(names))
            deepest[pair] = max(deepest.get(pair, 0.0), float(-dist))
    return tuple(Contact(first, second, depth) for (first, second), depth in sorted(deepest.items()))
