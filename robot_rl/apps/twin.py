"""The digital twin of a robot and its scene.

robot-rl twin identify OUT          what the arm is like: delay, gains, friction, load, play; with uncertainty
robot-rl twin estimate STORE RUN    success of policies from recorded episodes: FQE, importance sampling
robot-rl twin report FOLDER         one page about an evaluation in twins (robot-rl evaluate --twin)
"""

from __future__ import annotations

import argparse
import importlib

from robot_rl.apps.cli import Command

PARTS: dict[str, Command] = {
    "identify": Command("robot_rl.apps.twin_identify", "excite the arm and fit the twin to it, or fit a recorded log"),
    "estimate": Command("robot_rl.apps.twin_estimate", "success of policies from episodes that others acted in"),
    "report": Command("robot_rl.apps.twin_report", "one page about an evaluation in twins"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        module = importlib.import_module(part.module)
        one = parts.add_parser(
            name,
            help=part.help,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(one)
        one.set_defaults(run_part=module.run)


def run(args: argparse.Namespace) -> int:
    return int(args.run_part(args))
