"""Runs on disk, whatever learned in them: their configuration, their environment, their policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from data.store import EpisodeStore
from policies.chunking import ChunkPolicy
from robot_rl.apps import imitation, wiring
from robot_rl.apps.config import read_configuration
from robot_rl.apps.imitation import ImitationExperiment
from robot_rl.checkpoints import latest_checkpoint
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.identity import EXPERIMENT
from robot_rl.protocols import Camera, Env, Policy
from robot_rl.spec_difference import difference
from robot_rl.types import Goal, Observation
from sim.ogbench_env import OgbenchEnv
from sim.tasks import TaskConfig

SEARCH_FILE = "search.json"
"""In a composition's run: the weights that were tried."""


def read_run(run_dir: Path, overrides: Sequence[str] = ()) -> Any:
    """The experiment that a run was begun with (`Experiment`, `ImitationExperiment`), with `key=value` overrides."""
    if (run_dir / SEARCH_FILE).exists() and not (run_dir / EXPERIMENT).exists():
        raise DataError(f"{run_dir} holds an unfinished search of weights; robot-rl compose --search goes on with it")
    return read_configuration(run_dir, object, overrides)


def find_checkpoint(path: Path) -> tuple[Path, Path]:
    """(run directory, checkpoint directory) for either; `DataError` says what was looked for."""
    path = path.resolve()
    if (path / "policy.safetensors").exists():
        return path.parents[1] if path.parents[1].name != "learner" else path.parents[2], path
    for directory in (path / "checkpoints", path / "learner" / "checkpoints"):
        found = latest_checkpoint(directory)
        if found is not None:
            return path, found
    raise DataError(f"{path} has no checkpoints/step_*/policy.safetensors; was it written by `robot-rl train`?")


def read_policy(checkpoint: Path) -> dict[str, Tensor]:
    """The acting policy's weights; `DataError` when they cannot be read."""
    try:
        return load_file(checkpoint / "policy.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        others = sorted(one.name for one in checkpoint.parent.glob("step_*") if one != checkpoint)
        mend = f"; name one of its neighbours: {', '.join(others)}" if others else ""
        raise DataError(f"{checkpoint} holds no readable policy: {error}{mend}") from error


def checkpoint_version(checkpoint: Path) -> int:
    """The number of updates in the checkpoint's name."""
    return int(checkpoint.name.removeprefix("step_"))


def build_run_env(experiment: Any) -> Env:
    """The task in simulation, in lockstep."""
    return imitation.build_goal_env(experiment)


def build_run_policy(experiment: Any, goal: Goal | None = None) -> Any:
    """The acting policy, with fresh weights until some are loaded; `goal` of episodes that tell none."""
    if isinstance(experiment, wiring.Experiment):
        if goal is not None:
            raise ConfigError("a policy of `robot-rl train` knows no goals; `robot-rl imitate` learns one that does")
        return wiring.build_policy(experiment)
    return imitation.build_chunk_policy(experiment, goal)


def load_policy(experiment: Any, checkpoint: Path, goal: Goal | None = None) -> Policy:
    """The checkpoint's policy, deterministic where that is a choice; `goal` of episodes that tell none."""
    policy = build_run_policy(experiment, goal)
    try:
        policy.load(checkpoint_version(checkpoint), read_policy(checkpoint))
    except ValueError as error:
        raise DataError(f"{checkpoint} holds no readable policy: {error}") from error
    policy.deterministic = True
    return policy


def load_bundle(experiment: Any, path: Path, goal: Goal | None = None, overrides: Sequence[str] = ()) -> ChunkPolicy:
    """The exported policy at `path`, for the task of `experiment`; `goal` of episodes that tell none.

    `SpecError` for a policy of another task, `ConfigError` for `overrides` of what is part of its graph.
    """
    from policies.bundle import Bundle, BundleError

    if not isinstance(experiment, ImitationExperiment):
        raise ConfigError("bundles are of policies that `robot-rl imitate` learned")
    try:
        bundle = Bundle(path)
    except BundleError as error:
        raise DataError(str(error)) from error
    if fixed := [one for one in overrides if one.startswith("policy") and not one.startswith("policy.execution")]:
        raise ConfigError(f"{' '.join(fixed)}: that is part of a bundle's graph; export again with it")
    task, action = experiment.task, bundle.description["action"]
    shown = {key: (one.shape, one.dtype, one.names) for key, one in task.observation_spec.arrays.items()}
    names = bundle.description.get("elements", {key: one[2] for key, one in shown.items()})  # of old ones unknown
    seen = {key: (*one, tuple(names.get(key, ()))) for key, one in bundle.observation.items()}
    acts, moves = (tuple(action["names"]), action.get("gripper")), (task.action_spec.names, task.action_spec.gripper)
    if seen != shown or acts != moves:
        raise SpecError(f"{path} sees {seen} and acts in {acts}; {task.name} shows {shown} and takes {moves}")
    return imitation.build_acting_policy(experiment, bundle, goal)


def check_words(policy: Policy, text: str) -> None:
    """`ConfigError` unless the policy understands it: said before anything moves."""
    if not isinstance(policy, ChunkPolicy):
        raise ConfigError("this policy knows no goals; `robot-rl imitate` learns one that does")
    try:
        policy.source.tell({}, text, {})
    except ValueError as error:  # of a bundle, which knows nothing of this project's errors
        raise ConfigError(str(error)) from error


def knows_goals(experiment: Any) -> bool:
    """Whether its policy can be told a goal."""
    return isinstance(experiment, ImitationExperiment) and experiment.policy.inputs.goal


def read_goal(experiment: Any, words: str, shown: str, *, steered: bool = False) -> Goal | None:
    """A goal in words, or one shown as STORE#EPISODE (see `read_shown`); none where neither is given.

    What is shown to a `steered` policy that knows no goals is its critic's alone.
    """
    if steered and not knows_goals(experiment):
        shown = ""
    if (words or shown) and not knows_goals(experiment):
        raise ConfigError(
            "this policy is told no goals; `robot-rl imitate` learns one that is (policy.inputs.goal=true), and a "
            "critic of goals can steer this one towards one that is shown (robot-rl offline algorithm=gciql)"
        )
    if not shown:
        return Goal(text=words) if words else None
    return Goal(read_shown(experiment, shown), words)


def read_shown(experiment: Any, shown: str) -> Observation:
    """The last observation of the episode STORE#EPISODE (its number or its id).

    `SpecError` unless the store's observations are those of the task.
    """
    path, hash_sign, which = shown.rpartition("#")
    if not hash_sign:
        raise ConfigError(f"goal {shown!r} is not STORE#EPISODE, as runs/play/lift#12")
    store = EpisodeStore(Path(path))
    if found := difference(store.observation_spec, experiment.task.observation_spec, (path, experiment.task.name)):
        raise SpecError(f"{path} holds other observations than the task shows: {found}")
    episode = store.episode(store.number_of(which))
    if episode.info.synthetic:
        raise ConfigError(f"episode {which} of {path} is synthetic: a goal is something that was seen")
    return episode.observation(episode.info.steps)


def goals_of(experiment: Any, words: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Options of the environment's reset for each evaluation goal, or each of `words`; none for a task without."""
    count = getattr(experiment.task, "goals", 0)
    return [{"words": text} for text in words] if words and count else [{"goal": i + 1} for i in range(count)]


def build_film_env(experiment: Any, image_hw: tuple[int, int]) -> Env:
    """The task with pictures of `image_hw`, or as large as the policy knows them where it sees them."""
    task = experiment.task
    if isinstance(task, TaskConfig) and not task.env.cameras:
        task = replace(task, env=replace(task.env, image_hw=image_hw))
    return imitation.build_goal_env(replace(experiment, task=task))


def front_camera(env: Env) -> Camera:
    """What films are taken with."""
    if isinstance(env, RobotEnv):
        return env.world.cameras["front"]
    if isinstance(env, OgbenchEnv):
        return env.camera
    raise ConfigError(f"{type(env).__name__} has no camera to film with")
