"""CPU time of an evaluation in twins: 8 policies x 100 episodes x 200 steps, in state and with one 84 x 84 camera.

  python benchmarks/twin_cost.py --quick
  python benchmarks/twin_cost.py --out benchmarks/results/twin_cost.json

The policies are score policies with weights as drawn, so that no episode ends before its last step; commands pass the
guard's limits. CPU time is of this process and its children, from the call that begins the evaluation to its table, in
one process with one thread; --quick runs a tenth of the episodes of two policies, and scales by the steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figure, add_arguments, write_result
from rich.console import Console

from robot_rl.apps.config import compose
from robot_rl.apps.evaluate_twin import Evaluation, TwinEvaluation, find_candidates
from robot_rl.apps.imitation import ImitationExperiment, build_model
from robot_rl.apps.twin_cells import cells_of
from robot_rl.apps.twins import SCENE, TASK, make_twins
from robot_rl.errors import DataError
from robot_rl.files import write_file
from robot_rl.typed import to_plain
from sim.cousins.extraction import ExtractionConfig, extract
from sim.cousins.family import CousinTask, cousin_task
from sim.cousins.hidden import hidden_world
from sim.cousins.scan import capture_scan, write_scan
from sim.cousins.tasks import OpenPart

POLICIES, EPISODES, STEPS = 8, 100, 200
BARS = {"state": 15.0, "camera": 60.0}
CAMERAS = {"state": (), "camera": ("front",)}
IMAGE_HW = (84, 84)
POLICY = (
    "policy=score", "policy.inputs.goal=false", "policy.goal_dropout=0", "policy.network.width=256",
    "policy.execution.execute=4",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--sights", nargs="+", choices=tuple(BARS), default=list(BARS))
    args = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        work = look(Path(folder) / "bench", args.seed)
        for sight in args.sights:
            figures += measure(work, sight, *((2, EPISODES // 10) if args.quick else (POLICIES, EPISODES)))
    write_result(args, figures)
    return 0 if all(figure.holds is not False for figure in figures) else 1


def look(work: Path, seed: int) -> Path:
    """A drawer of a hidden world as extraction sees it: what `robot-rl cousins scan` and `extract` leave."""
    for number in range(seed, seed + 20):
        world = hidden_world("drawer", number)
        frame, view, joint_pos_rad = world.look(number)
        scan = capture_scan([frame], [np.asarray(view.pose_base_camera)], "panda", [joint_pos_rad])
        write_scan(work / "scan", scan)
        scene = extract(work / "scan", work / "extraction", ExtractionConfig())
        thing = next((one for one in scene.objects if any(part.handle for part in one.parts)), None)
        if thing is not None:
            write_file(work / TASK, json.dumps(to_plain(OpenPart(thing.name, open_m=10.0, max_steps=STEPS))))
            return work
    raise DataError(f"no handle was found in the worlds of seeds {seed} to {seed + 19}; look at {work / SCENE}")


def measure(work: Path, sight: str, policies: int, episodes: int) -> list[Figure]:
    """CPU minutes of the whole job, by this part of it; and the rate of steps."""
    config = compose("evaluate_twin", [f"episodes={episodes}", "twins.kinds=[point]"], TwinEvaluation)
    scenes = make_twins(work, config.twins)
    task = cousin_task(work / "twins" / "point", scenes[0].task)
    task = replace(task, env=replace(task.env, cameras=CAMERAS[sight], image_hw=IMAGE_HW))
    runs = [untrained(work / f"{sight}_{number}", task, number) for number in range(policies)]
    began_s = time.process_time()
    candidates = find_candidates(runs)
    cells = cells_of(candidates, scenes, config.episodes, config.together)
    evaluation = Evaluation(config, candidates, scenes, cells, work / f"out_{sight}")
    console = Console(file=sys.stderr)
    evaluation.begin(console)
    evaluation.run(map, console)
    evaluation.write()
    spent_s = time.process_time() - began_s
    steps = sum(row.steps for row in evaluation.rows())
    whole = POLICIES * EPISODES * STEPS
    return [
        Figure(f"{sight}_cpu_min", spent_s / 60 * whole / steps, "CPU minutes", BARS[sight], steps, None, at_most=True),
        Figure(f"{sight}_steps_per_cpu_s", steps / spent_s, "steps a CPU second", None, steps, None),
    ]


def untrained(run_dir: Path, task: CousinTask, seed: int) -> Path:
    """A run of `robot-rl imitate` as it is before its first update."""
    from safetensors.torch import save_file

    words = ["task=lift", f"seed={seed}", *POLICY]
    experiment = replace(compose("imitate", words, ImitationExperiment), task=task)
    checkpoint = run_dir / "checkpoints" / "step_000000000"
    checkpoint.mkdir(parents=True)
    write_file(run_dir / "experiment.json", json.dumps(to_plain(experiment)))
    weights = build_model(experiment, task.observation_spec, task.action_spec).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, checkpoint / "policy.safetensors")
    return run_dir


if __name__ == "__main__":
    raise SystemExit(main())
