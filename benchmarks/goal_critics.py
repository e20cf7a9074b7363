"""Goals on OGBench's play: BESO alone and steered by a goal-conditioned critic, GCIQL and HIQL on the same data.

  python benchmarks/goal_critics.py --quick                                      # cube-single, one seed
  python benchmarks/goal_critics.py --seed 0 --out benchmarks/results/goal_critics.json
  python benchmarks/goal_critics.py --tasks puzzle-3x3 --arms beso --seeds 3

Play and BESO are those of `score_policy.py`, whose finished runs in --work are used again. Arms:

  beso       policy=score, three steps, as there
  subgoals   policy=score told one change at a time, which `robot-rl subgoals` chooses by value (scene, puzzle-3x3: what
             has several kinds of things, or goals several changes away)
  steered    the same weights; of several chunks the one that the critic values most, by the number of chunks and the
             temperature that `robot-rl steer` finds on held-out episodes
  chunks     the policy that is extracted beside this critic: GCIQL on chunks of `CHUNK` actions, as many as BESO plays
  gciql      the same on single actions, as published: implicit Q-learning of goals, DDPG+BC (2410.20092)
  hiql       two levels (2307.11949)

For two cores, critics have layers of 256 instead of OGBench's 512, and there are far fewer updates. All see of goals
what BESO sees. The best of BESO alone, steered, and with subgoals is held against the best published figure. What is
special to subgoals was chosen with networks of seed 100 and start states of seed 1000 and on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import score_policy
from figures import Figure, add_arguments, write_result
from score_policy import (
    ACTING,
    COLD,
    FULL,
    QUICK,
    UPDATES_FACTOR,
    Job,
    add_run_arguments,
    elements,
    evaluate,
    gather,
    pool,
    robot_rl,
    train,
)

from robot_rl.apps.subgoals import SUBGOALS

BARS = {"cube-single": 0.68, "cube-double": 0.40, "scene": 0.51, "puzzle-3x3": 0.95}
"""Task -> the best published success (2410.20092, table 2, and what followed)."""
CHUNK = 8
SMALL = "critic.hidden=[256,256,256]"
GCIQL = ("algorithm=gciql", "critic=goal", SMALL)
LEARNERS = {
    "chunks": (*GCIQL, f"critic.horizon={CHUNK}", "critic.members=4"),
    "gciql": GCIQL,
    "hiql": ("algorithm=hiql", "critic=hiql", "policy=hiql", SMALL, "policy.hidden=[256,256,256]"),
}
"""Arm -> what `robot-rl offline` learns."""
STACK = ("beso", "steered", "subgoals")
ARMS = (*STACK, *LEARNERS)
ONE_CHANGE = ("goals.next_change=1", "goals.future=0")
WITH_SUBGOALS = ("scene", "puzzle-3x3")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    add_run_arguments(parser, BARS, ARMS)
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    size = replace(size, seeds=args.seeds or size.seeds, updates=args.updates or size.updates)
    tasks = args.tasks or (("cube-single",) if args.quick else tuple(BARS))
    seeds = range(args.seed, args.seed + size.seeds)
    make = partial(Job, size=size, device=args.device, work=args.work)
    for task in tasks:
        gather(make(task, "beso", (), 0, 0), args.jobs)
    with ThreadPoolExecutor(args.jobs) as threads:
        cells = [(make, task, seed, args.arms) for task in tasks for seed in seeds]
        results = [one for group in threads.map(lambda cell: run_seed(*cell), cells) for one in group]
    figures = [figure for task in tasks for figure in summarize(task, results)]
    write_result(args, figures, {"runs": results, "size": vars(size)})
    return 0 if all(figure.holds is not False for figure in figures) else 1


def run_seed(make: Any, task: str, seed: int, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Train what is wanted of one task and seed, and evaluate it."""
    size, results = make.keywords["size"], []
    acting = (COLD, *ACTING.get(task, ()))
    updates = size.updates * UPDATES_FACTOR.get(task, 1)
    beso = make(task, "beso", score_policy.arms(task, size.width)["beso"], seed, updates)
    if "subgoals" in wanted and task in WITH_SUBGOALS:
        results.append(run_subgoals(make(task, "subgoals", one_change(task, size.width), seed, updates)))
    if {"beso", "steered"} & set(wanted):
        train(beso)
    if "beso" in wanted:
        results.append(evaluate(beso, "beso", acting))
    for arm, overrides in LEARNERS.items():
        needed = arm in wanted or (arm == "chunks" and "steered" in wanted)
        job = make(task, arm, (*overrides, *elements(task), *elements(task, "critic")), seed, size.updates)
        if needed:
            train(job, "offline")
        if arm in wanted:
            results.append(evaluate(job, arm, ()))
        if arm == "chunks" and "steered" in wanted:
            robot_rl("steer", str(beso.run_dir), str(job.run_dir), "--seed", str(seed), *acting)
            results.append(evaluate(beso, "steered", (*acting, "--critic", str(job.run_dir))))
    return results


def one_change(task: str, width: int) -> tuple[str, ...]:
    """Overrides of BESO that is told one change at a time, and nothing of the order of things."""
    one_by_one, steps = "policy.inputs.goal_one_by_one=", "goals.max_steps="
    kept = [one for one in score_policy.arms(task, width)["beso"] if not one.startswith((one_by_one, steps))]
    return (*kept, *ONE_CHANGE)


def run_subgoals(job: Job) -> dict[str, Any]:
    """Train the policy and the values over changes, and evaluate both together."""
    train(job)
    if not (job.run_dir / SUBGOALS).exists():
        robot_rl("subgoals", str(job.run_dir), f"seed={job.seed}", "--threads", "1")
    return evaluate(job, "subgoals", (COLD, "--subgoals"))


def summarize(task: str, results: Sequence[dict[str, Any]]) -> list[Figure]:
    """Pooled success of each arm, and the best of the stack against the best published one."""
    pooled = pool(task, results, {})
    stack = [one for arm, one in pooled.items() if arm in STACK]
    if not stack:
        return list(pooled.values())
    best = max(stack, key=lambda one: one.value)
    return [*pooled.values(), replace(best, name=f"{task}.best", bar=BARS[task])]


if __name__ == "__main__":
    raise SystemExit(main())
