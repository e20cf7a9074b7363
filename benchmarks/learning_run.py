"""One learning run in simulation as a process of its own: demonstrate, learn, probe on the way, evaluate.

What `hil_rl.py` and `lift_pixels.py` are made of; started by them, with a `Job` as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stopwatch import Stopwatch

from robot_rl.files import write_file

EVALUATION_SEED_OFFSET = 500
PROBE_EPISODES = 20


@dataclass(frozen=True)
class Plan:
    """How long a task is learned, in environment steps, and probed on the way; settings are those of every arm."""

    task: str
    learn_steps: int
    probe_every: int
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One run of one arm of the comparison."""

    plan: Plan
    mode: str
    seed: int
    episodes: int

    @property
    def name(self) -> str:
        return f"{self.plan.task}_{self.mode}_{self.seed}_{self.plan.learn_steps}"


def run_job(job: Job, directory: Path) -> dict[str, Any]:
    """Run in a process of its own, once; later calls read what it left."""
    path = directory / f"{job.name}.json"
    if not path.exists():
        began_s = time.monotonic()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        described = {"plan": vars(job.plan), "mode": job.mode, "seed": job.seed, "episodes": job.episodes}
        command = [sys.executable, __file__, json.dumps(described)]
        with (directory / f"{job.name}.log").open("w") as log:
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{job.name} failed; see {directory / job.name}.log")
        result = json.loads(done.stdout.splitlines()[-1]) | {"wall_s": time.monotonic() - began_s}
        write_file(path, json.dumps(result))
    result = json.loads(path.read_text())
    print(
        f"{job.name}: success {result['success_rate']:.2f} in {result['wall_s']:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return result


def _job(described: dict[str, Any]) -> Job:
    return Job(**{**described, "plan": Plan(**described["plan"])})


def work(job: Job) -> dict[str, Any]:
    """Demonstrate, learn, evaluate: one arm of the comparison for one seed."""
    import torch

    from robot_rl.actor import Actor
    from robot_rl.apps import wiring
    from robot_rl.apps.evaluate import evaluate
    from robot_rl.records import EpisodeLog, EpisodeRecord, intervention_rate
    from robot_rl.transport import LocalTransport

    torch.set_num_threads(1)
    began_s = time.perf_counter()
    chosen = list(job.plan.overrides)
    if job.mode == "bc":
        chosen = ["algorithm=bc", *(one for one in chosen if not one.startswith("algorithm"))]
    experiment = wiring.load_experiment([f"task={job.plan.task}", f"seed={job.seed}", *chosen])
    schedule = replace(experiment.schedule, learn_steps=job.plan.learn_steps, interventions=job.mode == "hil")
    env, probe_env = wiring.build_env(experiment), wiring.build_env(experiment)
    learner, policy, log = wiring.build_learner(experiment), wiring.build_policy(experiment), EpisodeLog()
    human = wiring.build_person(experiment, env)
    actor = Actor(env, policy, human, LocalTransport(learner), schedule, log)
    watch = Stopwatch()
    for name, owner, method in (
        ("simulation", env, "step"),
        ("acting", policy, "act"),
        ("updates", learner, "update"),
        ("drawing batches", learner.memory, "sample"),
        *(("rendering", env.world.cameras[camera], "read") for camera in experiment.task.env.cameras),
    ):
        watch.attach(name, owner, method)
    while actor.demos_left > 0:
        actor.demonstrate_once()
    curve = []

    def test(episodes: int, seed: int) -> list[EpisodeRecord]:
        actor.finish_learning()
        policy.deterministic = True
        with watch.measure("evaluation"):
            return evaluate(probe_env, policy, episodes, seed)

    def probe() -> None:
        records = test(PROBE_EPISODES, job.seed + 2 * EVALUATION_SEED_OFFSET)
        curve.append({"env_steps": log.env_steps, "updates": learner.updates, "success": _rate(records)})
        recent = log.of("learn")[-20:]
        print(f"{curve[-1]} interventions {intervention_rate(recent):.2f}", file=sys.stderr, flush=True)

    if job.mode == "bc":
        for _ in range(int(experiment.learner.utd * job.plan.learn_steps)):
            learner.update()
    else:
        next_probe = job.plan.probe_every
        while actor.learn_steps_left > 0:
            actor.learn_once()
            if log.env_steps >= next_probe:
                probe()
                next_probe += job.plan.probe_every
    records = test(job.episodes, job.seed + EVALUATION_SEED_OFFSET)
    return {
        "task": job.plan.task,
        "mode": job.mode,
        "seed": job.seed,
        "episodes": len(records),
        "successes": sum(record.success for record in records),
        "success_rate": _rate(records),
        "success_steps": [record.steps for record in records if record.success],
        "demonstration_steps": [record.steps for record in log.of("demo") if record.success],
        "env_steps": log.env_steps,
        "updates": learner.updates,
        "realized_utd": learner.realized_utd,
        "intervention_rate": intervention_rate(log.of("learn")) if log.of("learn") else None,
        "curve": curve,
        "seconds": {**watch.seconds, "all": time.perf_counter() - began_s},
    }


def _rate(records: list[Any]) -> float:
    return sum(record.success for record in records) / len(records)


def steps_to(curve: list[dict[str, Any]], level: float) -> int | None:
    """Environment steps at the first probe from which on no probe is below `level`; None if never."""
    reached = None
    for point in reversed(curve):
        if point["success"] < level:
            break
        reached = point["env_steps"]
    return reached


if __name__ == "__main__":
    print(json.dumps(work(_job(json.loads(sys.argv[1])))))
