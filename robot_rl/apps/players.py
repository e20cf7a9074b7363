"""The worlds in which `robot-rl play` plays, and their players."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from robot_rl.apps.wiring import build_env, load_experiment
from robot_rl.protocols import Env, Policy
from robot_rl.types import FloatArray
from sim import ogbench_env, ogbench_play, players

CHOICES = (*ogbench_env.TASKS, *players.PLAYED)


@dataclass(frozen=True)
class Playground:
    """An environment without a task and who plays in it."""

    env: Env
    player: Policy
    seed: Callable[[int], None]
    """Makes the player's next episode repeatable."""
    healthy: Callable[[FloatArray], bool]
    """Whether an episode of these states (T, S) may be kept."""


def make_playground(task: str, cameras: tuple[str, ...] = ()) -> Playground:
    """`task`: one of `CHOICES`."""
    if task in ogbench_env.TASKS:
        env = ogbench_env.OgbenchEnv(task, cameras=cameras, play=True)
        return Playground(
            env,
            ogbench_play.OgbenchPlayer(env),
            lambda seed: None,  # the oracles draw from numpy's global generator
            lambda states: ogbench_play.healthy(task, states),
        )
    experiment = load_experiment([f"task={task}"])
    config = replace(experiment.task.env, ends_at_success=False, max_steps=players.PLAY_STEPS, cameras=cameras)
    robot_env = build_env(replace(experiment, task=replace(experiment.task, env=config)))
    player = players.RobosuitePlayer(task, robot_env)
    return Playground(robot_env, player, player.seed, lambda states: True)
