"""Who acts, and in which worlds, for `robot-rl play` and `robot-rl demonstrate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from robot_rl.apps.gathering import Scene
from robot_rl.apps.wiring import build_env, load_experiment
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.intervention import HoldPolicy, Intervention, NoHuman
from robot_rl.protocols import Env, Policy
from sim import ogbench_env, ogbench_play, operators, players
from sim.cousins.demonstrator import Demonstrator, ShakenEnv
from sim.cousins.family import CousinTask

CHOICES = (*ogbench_env.TASKS, *players.PLAYED)
GOLDEN = (5**0.5 - 1) / 2


def usual_steps(task: str) -> int:
    """Of an episode of play with one of `CHOICES`."""
    return ogbench_env.PLAY_STEPS if task in ogbench_env.TASKS else players.PLAY_STEPS


def make_play(task: str, cameras: tuple[str, ...] = (), steps: int | None = None) -> Scene:
    """A world without a task and a player in it. `task`: one of `CHOICES`; `steps` of an episode, if not as usual."""
    if task in ogbench_env.TASKS:
        env = ogbench_env.OgbenchEnv(task, cameras=cameras, play=True, steps=steps)
        alone = _alone(env, ogbench_play.OgbenchPlayer(env))
        # the oracles draw from numpy's global generator, so there is nothing to seed
        return Scene(env, "play", lambda index, seed: (alone, ""), lambda states: ogbench_play.healthy(task, states))
    experiment = load_experiment([f"task={task}"])
    longest = steps or usual_steps(task)
    config = replace(experiment.task.env, ends_at_success=False, max_steps=longest, cameras=cameras)
    robot_env = build_env(replace(experiment, task=replace(experiment.task, env=config)))
    player = players.RobosuitePlayer(task, robot_env)
    control = _alone(robot_env, player)

    def enter(index: int, seed: int) -> tuple[Intervention, str]:
        player.seed(seed)
        return control, ""

    return Scene(robot_env, "play", enter)


def make_demonstrations(task: str, shares: Mapping[str, float], cameras: tuple[str, ...] = ()) -> Scene:
    """The task, demonstrated by the operators of `shares`. `task`: one of `sim.operators.ERRANDS`."""
    experiment = load_experiment([f"task={task}"])
    config = replace(experiment.task.env, cameras=cameras)
    env = build_env(replace(experiment, task=replace(experiment.task, env=config)))
    hold = HoldPolicy(env.action_spec.dim)

    def enter(index: int, seed: int) -> tuple[Intervention, str]:
        name = operator_of(index, shares)
        return Intervention(hold, operators.make_operator(name, task, env, seed), env.action_spec), name

    return Scene(env, "demo", enter)


def make_cousin_demonstrations(task: CousinTask, noise: float) -> Scene:
    """The task in a family of generated scenes, demonstrated by its scripted expert; episode i in scene i."""
    env = RobotEnv(task.build_world(""), task.env)
    shaken = ShakenEnv(env, noise)
    control = _alone(env, Demonstrator(task.name, env))

    def enter(index: int, seed: int) -> tuple[Intervention, str]:
        shaken.seed(seed)
        return control, "expert"

    return Scene(shaken, "demo", enter)


def operator_of(index: int, shares: Mapping[str, float]) -> str:
    """Who demonstrates episode `index`.

    By the golden ratio's multiples, so that the first n episodes hold the shares as well as n allows, for every n, and
    those that are held out (every so-manieth) do as well.
    """
    bounds = np.cumsum(list(shares.values()))
    place = (index + 0.5) * GOLDEN % 1.0 * bounds[-1]
    return list(shares)[min(int(np.searchsorted(bounds, place, side="right")), len(bounds) - 1)]


def read_shares(words: list[str]) -> dict[str, float]:
    """`name=share` words; shares need not add up to 1. `ConfigError` names what is wrong."""
    shares: dict[str, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        if name not in operators.OPERATORS:
            raise UnknownNameError("operator", name, operators.OPERATORS)
        try:
            shares[name] = float(share or "1")
        except ValueError as error:
            raise ConfigError(f"{word!r} is not NAME=SHARE, as expert=0.4") from error
    if not all(0.0 < share < np.inf for share in shares.values()) or len(shares) < len(words):
        raise ConfigError(f"every operator once, with a positive share; got {' '.join(words)}")
    return shares


def _alone(env: Env, policy: Policy) -> Intervention:
    return Intervention(policy, NoHuman(env.action_spec.dim), env.action_spec)
