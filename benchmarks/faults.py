"""`kill -9` of learner, actor, GUI and simulated robot at random moments while the graph learns Lift over DDS.

  python benchmarks/faults.py --quick                 # 4 kills each
  python benchmarks/faults.py --seed 0 --out benchmarks/results/faults.json     # 20 each

Every command that the guard publishes and every measured pose is recorded; what the learner acknowledges is
compared with what it has on disk at the end. The physics is MuJoCo's, in real time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # tests/ is not installed

from figures import Figure, add_arguments, write_result  # noqa: E402

from robot_rl.statistics import wilson_interval  # noqa: E402
from tests.faults import checks  # noqa: E402
from tests.faults.campaign import (  # noqa: E402
    FAKE_WORLD,
    Campaign,
    Kill,
    free_port,
    guard_limits,
    learning_graph,
    running,
)
from tests.faults.recorder import Record  # noqa: E402

SLOW_S = 15.0
"""A return that takes longer is worth a look at what the actor was waiting for."""
VICTIMS = ("learner", "actor", "gui", "sim_robot")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--kills", type=int, help="kills of each node (default: 20, quick: 4)")
    parser.add_argument("--domain", type=int, default=77, help="ROS_DOMAIN_ID to run in")
    parser.add_argument("--fake", action="store_true", help="a stand-in for the physics: to try the benchmark")
    args = parser.parse_args()
    victims = list(VICTIMS) * (args.kills or (4 if args.quick else 20))
    np.random.default_rng(args.seed).shuffle(victims)
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        run_dir, port = Path(folder) / "run", free_port()
        nodes = learning_graph(run_dir, FAKE_WORLD if args.fake else {}, port=port, seed=args.seed)
        with running(nodes, Path(folder) / "logs", args.domain) as (rig, recorder):
            campaign = Campaign(rig, recorder, args.seed, port)
            kills = [_kill(campaign, victim, f"{i}/{len(victims)}") for i, victim in enumerate(victims, 1)]
        record, journal = campaign.record, run_dir / "learner" / "journal"
        problems = {
            "kills": [problem for kill in kills for problem in kill.problems],
            "commands": checks.unsafe_targets(record, guard_limits()),
            "disarmed": checks.targets_while_disarmed(record),
            "messages": checks.lost_messages(record, journal),
            "progress": checks.broken_progress(record),
        }
    for found in problems.values():
        for problem in found:
            print(problem, file=sys.stderr)
    write_result(args, figures(kills, record, problems), extra={"problems": problems})
    return 1 if any(problems.values()) else 0


def figures(kills: Sequence[Kill], record: Record, problems: dict[str, list[str]]) -> list[Figure]:
    """Shares that must be 1, and how long each node took to be back at work."""
    result = []
    for victim in VICTIMS:
        mine = [kill for kill in kills if kill.victim == victim]
        resumed = sum(kill.resumed for kill in mine)
        interval = wilson_interval(resumed, len(mine))
        result.append(Figure(f"{victim}.resumed", resumed / len(mine), "share", 1.0, len(mine), interval))
        times_s = [kill.resume_s for kill in mine]
        span = (min(times_s), max(times_s))
        result.append(
            Figure(f"{victim}.back_after", float(np.median(times_s)), "s, median and range", None, len(mine), span)
        )
    unsafe = len(problems["commands"]) + len(problems["disarmed"])
    lost = len(problems["messages"])
    targets, acked = len(record.targets), record.acked
    held = 1.0 - sum("moved" in problem for problem in problems["kills"]) / max(
        sum(kill.victim == "actor" for kill in kills), 1
    )
    return [
        *result,
        Figure("safe_commands", 1.0 - unsafe / max(targets, 1), "share", 1.0, targets, None),
        Figure("held_without_actor", held, "share", 1.0, len(kills) // len(VICTIMS), None),
        Figure("acknowledged_kept", 1.0 if lost == 0 else 0.0, "all or not", 1.0, acked, None),
        Figure("progress_kept", float(not problems["progress"]), "all or not", 1.0, len(record.metrics), None),
    ]


def _kill(campaign: Campaign, victim: str, place: str) -> Kill:
    kill = campaign.kill(victim)
    print(f"{place}: {victim} {'back' if kill.resumed else 'NOT back'} after {kill.resume_s:.1f} s", flush=True)
    if kill.resume_s > SLOW_S:
        print(f"the actor meanwhile:\n{campaign.rig.log('actor')[-2000:]}", file=sys.stderr)
    return kill


if __name__ == "__main__":
    os.environ.setdefault("MUJOCO_GL", "egl")
    raise SystemExit(main())
