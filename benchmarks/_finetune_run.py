"""One learning run of `cousins_finetune.py` as a process of its own, started with a `Job` as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from _hidden import STARTS, World, make_scenes

from sim.cousins.geometry import Cousins, Mixture, RandomisedTwin

EVALUATION_SEED_OFFSET = 500
COUSINS = "cousins"
LEVEL, WINDOW = 0.95, 20
"""A policy has learned the task when that share of so many learning episodes in a row succeeded without the person."""
ARMS: dict[str, tuple[str, ...]] = {
    "scratch": ("algorithm=rlpd",),
    "finetune": ("algorithm=rlpd", "init={run}"),
    "finetune_mixing": ("algorithm=rlpd", "init={run}", "sim_data={run}/episodes"),
    "mixing": ("algorithm=rlpd", "sim_data={run}/episodes"),
    "h2o": ("algorithm=h2o", "sim_data={run}/episodes"),
}
"""What learns in the hidden world, by overrides; `run` is what was learned in the cousins."""


@dataclass(frozen=True)
class Job:
    """One arm in one world; or, with the arm `cousins`, what is learned before."""

    arm: str
    family: str
    seed: int
    steps: int
    episodes: int
    scenes: int
    work: str
    run: str = ""
    """What was learned in the cousins; "" for an arm that does not know of them."""

    @property
    def name(self) -> str:
        scenes = f"_{self.scenes}" if self.arm == COUSINS else ""
        return f"{self.family}_{self.seed}_{self.arm}{scenes}_{self.steps}"

    @property
    def world(self) -> World:
        """The hidden world, with what was seen of it."""
        return World(self.family, self.seed, Path(self.work) / "worlds")


def run_job(job: Job) -> dict[str, Any]:
    """Run in a process of its own, once; later calls read what it left."""
    work = Path(job.work)
    path = work / f"{job.name}.json"
    if not path.exists():
        began_s = time.monotonic()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, json.dumps(asdict(job))]
        with (work / f"{job.name}.log").open("w") as log:
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{job.name} failed; see {work / job.name}.log")
        result = json.loads(done.stdout.splitlines()[-1]) | {"wall_s": time.monotonic() - began_s}
        path.write_text(json.dumps(result))
    result = json.loads(path.read_text())
    print(f"{job.name}: success {result['success_rate']:.2f} in {result['wall_s']:.0f} s", file=sys.stderr, flush=True)
    return result


def learn_in_cousins(job: Job) -> dict[str, Any]:
    """Generate a family from one look at the world, and learn in it; the run stays in the work folder."""
    from rich.console import Console

    from robot_rl.apps.train import TrainingRun, prepare_run_dir
    from robot_rl.apps.wiring import load_experiment
    from sim.cousins.family import cousin_task

    folder = Path(job.work) / f"{job.family}_{job.seed}_scenes"
    geometry = Mixture((RandomisedTwin(), Cousins(8)))
    asks = make_scenes(job.world, geometry, "posterior", job.scenes, job.seed, folder)
    words = [f"seed={job.seed}", f"schedule.learn_steps={job.steps}", f"schedule.evaluate_episodes={job.episodes}"]
    experiment = replace(load_experiment(words), task=cousin_task(folder.resolve(), asks, STARTS))
    run_dir = Path(job.work) / job.name
    prepare_run_dir(run_dir, experiment, resume=True, overwrite=False)
    with TrainingRun(experiment, run_dir) as training:
        training.run(Console(stderr=True))
        return {**_outcome(job, training.log.of("evaluate")), "episodes": _episodes(training.log.of("learn"))}


def learn_in_reality(job: Job) -> dict[str, Any]:
    """Demonstrate, learn and evaluate in the hidden world, which is reached through `Env` alone."""
    from robot_rl.actor import Actor
    from robot_rl.apps import wiring
    from robot_rl.apps.evaluate import evaluate
    from robot_rl.records import EpisodeLog
    from robot_rl.transport import LocalTransport
    from sim.cousins.hidden import draw_truth
    from sim.tasks import TaskConfig

    asks = draw_truth(job.family, job.seed).task
    task = TaskConfig(asks.expert, asks.env)
    words = [f"seed={job.seed}", f"schedule.learn_steps={job.steps}", *ARMS[job.arm]]
    experiment = replace(wiring.load_experiment([one.format(run=job.run) for one in words]), task=task)
    env: Any = job.world.env()
    learner, policy, log = wiring.build_learner(experiment), wiring.build_policy(experiment), EpisodeLog()
    human = wiring.build_person(experiment, env)
    actor = Actor(env, policy, human, LocalTransport(learner), experiment.schedule, log)
    try:
        while actor.demos_left > 0:
            actor.demonstrate_once()
        while actor.learn_steps_left > 0 and steps_to(_episodes(log.of("learn"))) is None:
            record = actor.learn_once()
            print(f"{record} {_weights(learner)}", file=sys.stderr, flush=True)
        actor.finish_learning()
        policy.deterministic = True
        tested = evaluate(env, policy, job.episodes, job.seed + EVALUATION_SEED_OFFSET)
    finally:
        env.close()
    told = {"updates": learner.updates, "metrics": learner.scalars()}
    return {**_outcome(job, tested), "episodes": _episodes(log.of("learn")), **told}


def _weights(learner: Any) -> dict[str, float]:
    names = ("weight", "accuracy_sa", "accuracy_sas")
    return {name: round(float(learner.metrics[name]), 3) for name in names if name in learner.metrics}


def _outcome(job: Job, records: list[Any]) -> dict[str, Any]:
    successes = sum(record.success for record in records)
    return {
        "arm": job.arm,
        "family": job.family,
        "seed": job.seed,
        "tested": len(records),
        "successes": successes,
        "success_rate": successes / max(len(records), 1),
    }


def _episodes(records: list[Any]) -> list[dict[str, Any]]:
    """Of learning: steps so far, and whether the policy succeeded alone."""
    return [{"env_steps": one.env_steps, "alone": bool(one.success and not one.interventions)} for one in records]


def steps_to(episodes: list[dict[str, Any]]) -> int | None:
    """Environment steps after which the task was learned (`LEVEL`, `WINDOW`)."""
    alone = [one["alone"] for one in episodes]
    for end in range(WINDOW, len(alone) + 1):
        if sum(alone[end - WINDOW : end]) >= LEVEL * WINDOW:
            return int(episodes[end - 1]["env_steps"])
    return None


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    asked = Job(**json.loads(sys.argv[1]))
    print(json.dumps((learn_in_cousins if asked.arm == COUSINS else learn_in_reality)(asked)))
