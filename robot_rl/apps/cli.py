"""`robot-rl <command>`: looks the command up, imports its module, runs it.

Each command module has `add_arguments(parser)` and `run(args) -> exit code`. Modules are imported only
when they are asked for, so that `robot-rl --help` does not wait for torch.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from robot_rl import __version__
from robot_rl.errors import RobotRlError, UnknownNameError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""What a user can mend; other errors of the system are defects, and keep their traceback."""


@dataclass(frozen=True)
class Command:
    """One subcommand: the module that runs it and the line that `--help` shows."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "demo": Command("robot_rl.apps.demo", "a simulated arm learns to lift a cube while a person helps"),
    "up": Command("robot_rl.apps.up", "start a node graph from one YAML file, and keep it running"),
    "train": Command("robot_rl.apps.train", "learn a task in simulation, in one process"),
    "play": Command("robot_rl.apps.play", "gather play in simulation: a scripted player moves things about"),
    "demonstrate": Command("robot_rl.apps.demonstrate", "gather demonstrations of mixed quality in simulation"),
    "imitate": Command("robot_rl.apps.imitate", "learn from recorded episodes: BESO, flow matching, ACT, cloning"),
    "synthesize": Command("robot_rl.apps.synthesize", "sample synthetic episodes, guided towards a policy"),
    "offline": Command("robot_rl.apps.offline", "learn a critic and a policy from recorded episodes: IQL, Cal-QL"),
    "steer": Command("robot_rl.apps.steer", "find out how well a critic steers a policy, on held-out episodes"),
    "subgoals": Command("robot_rl.apps.subgoals", "learn in which order to change things, one change at a time"),
    "compose": Command("robot_rl.apps.compose", "combine score policies that were learned apart into one"),
    "evaluate": Command("robot_rl.apps.evaluate", "run a checkpoint without a person and report its success"),
    "twin": Command("robot_rl.apps.twin", "the digital twin: identify the arm, report evaluations"),
    "promote": Command(
        "robot_rl.apps.promote", "let a policy onto the arm, or take it off: checks, history, roll-back"
    ),
    "serve": Command("robot_rl.apps.serve", "let a robot act by a policy that runs on this machine"),
    "cousins": Command("robot_rl.apps.cousins", "from one RGB-D look at a scene to a policy that works in it"),
    "export": Command("robot_rl.apps.export", "write a policy as a bundle that runs with onnxruntime alone"),
    "data": Command("robot_rl.apps.data", "inspect, verify and repair recorded episodes"),
    "doctor": Command("robot_rl.apps.doctor", "check this machine and say how to mend what is missing"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Controllers invert 7x7 matrices, for which numpy's threads (not torch's) only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return _dispatch(arguments)
    except RobotRlError as error:
        print(f"robot-rl: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        print(f"robot-rl: {error}; make room, or name another folder", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("robot-rl: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else EXIT_USER_ERROR
    if arguments[0] == "--version":
        print(f"robot-rl {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    module = _import(name)
    parser = argparse.ArgumentParser(
        prog=f"robot-rl {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return int(module.run(_parse(parser, rest)))


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Let `key=value` overrides stand before, between or after the options, where argparse can."""
    try:
        return parser.parse_intermixed_args(arguments)
    except TypeError:  # a parser with subcommands cannot mix
        return parser.parse_args(arguments)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(COMMANDS[name].module)
    except ModuleNotFoundError as error:
        raise RobotRlError(
            f"`robot-rl {name}` needs the module {error.name!r}, which is not installed; "
            "run `make setup`, or `pip install -e '.[all]'`"
        ) from error


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: robot-rl <command> [options] [key=value ...]",
            "",
            *lines,
            "",
            "`robot-rl <command> --help` explains one command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
