"""This project's learner as a subject of learner_rate.py; same protocol as the peer's worker."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch

from data.memory import ExperienceMemory
from policies.augmentation import random_crop
from policies.gaussian import GaussianConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.learner import Learner, LearnerConfig
from robot_rl.types import (
    ACTION_NAMES,
    ActionSpec,
    ArraySpec,
    EpisodeEnd,
    EpisodeStart,
    Observation,
    ObservationSpec,
    Transition,
)

EPISODE_STEPS = 50


def make_learner(settings: dict[str, Any]) -> Learner:
    arrays = {"state": ArraySpec((settings["state_dim"],))}
    for camera in settings["cameras"]:
        arrays[f"image/{camera}"] = ArraySpec((*settings["image_hw"], 3), "uint8")
    spec = ObservationSpec(arrays)
    names = (*ACTION_NAMES[: settings["action_dim"] - 1], "gripper")
    action_spec = ActionSpec(names, 0.02, 0.1)
    policy = GaussianConfig(**settings["policy"])
    config = RLPDConfig(seed=settings["seed"], discount=settings["discount"], **settings["algorithm"])
    augment = random_crop if settings["cameras"] else None
    algorithm = RLPD(config, policy.build_networks(spec, action_spec, settings["seed"]), augment)
    memory = ExperienceMemory(spec, action_spec, 2 * settings["transitions"], settings["seed"], algorithm.returns)
    learner = Learner(algorithm, memory, LearnerConfig(batch_size=settings["batch_size"]))
    fill(learner, spec, action_spec, settings)
    return learner


def fill(learner: Learner, spec: ObservationSpec, action_spec: ActionSpec, settings: dict[str, Any]) -> None:
    """As many transitions in each of both buffers."""
    rng = np.random.default_rng(settings["seed"])

    def observe() -> Observation:
        return {
            key: rng.integers(0, 256, one.shape, np.uint8)
            if one.dtype == "uint8"
            else rng.standard_normal(one.shape).astype(np.float32)
            for key, one in spec.arrays.items()
        }

    for phase in ("demo", "learn"):
        for episode in range(settings["transitions"] // EPISODE_STEPS):
            name, seen = f"{phase}-{episode}", observe()
            learner.receive(EpisodeStart(name, phase, seen, 0.0))
            for step in range(EPISODE_STEPS):
                action = rng.uniform(-1, 1, action_spec.dim).astype(np.float32)
                last, following = step == EPISODE_STEPS - 1, observe()
                is_demo = phase == "demo"
                learner.receive(
                    Transition(name, step, seen, action, action, is_demo, float(last), following, last, False, 0.0, 0)
                )
                seen = following
            learner.receive(EpisodeEnd(name, True, EPISODE_STEPS, 5.0, 0))


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    torch.set_num_threads(settings["threads"])
    learner = make_learner(settings)
    for _ in range(settings["warmup"]):
        learner.update()
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            learner.update()
            learner.scalars()  # the peer reads its figures back after every update, so this does too
        print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
