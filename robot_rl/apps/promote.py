"""Let a policy onto the arm, if its evaluation in twins allows it; or take it off again.

  robot-rl promote runs/imitate/door --evaluation runs/twin/door        checks, then in service
  robot-rl promote runs/imitate/door --evaluation runs/twin/door required_success=0.7 trained_in=[ensemble_00]
  robot-rl promote --status                                             what is in service, and how it fares
  robot-rl promote --list                                               everything that happened
  robot-rl promote --rollback --why "it drops the cup"                  back to the one before, at once

Every check that fails says why. --force REASON promotes nevertheless, and is recorded as such. On a real arm
`robot-rl up graph=deploy use_sim=false` runs what is in service and nothing else; while it runs, a rise of the
person's interventions rolls it back by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from robot_rl.apps.config import compose
from robot_rl.apps.runs import find_checkpoint
from robot_rl.deployment import failures, interventions
from robot_rl.errors import ConfigError
from robot_rl.evaluation_description import Described, is_altered, read_description
from robot_rl.evaluation_table import EPISODES, read_table
from robot_rl.identity import identity_of
from robot_rl.paired import columns
from robot_rl.promotion import Candidate, Check, PromotionConfig, judge, refusals
from robot_rl.registry import Event, Registry

REGISTRY = Path("runs/service")
EXIT_REFUSED = 1
ALTERED = (
    f"{EPISODES} was altered after the evaluation: the same `robot-rl evaluate --twin` again writes it, and runs no "
    "episode twice"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="[RUN] [key=value ...]", help="a run or checkpoint, then limits")
    parser.add_argument("--evaluation", type=Path, help="folder that `robot-rl evaluate --twin` wrote")
    parser.add_argument("--service", type=Path, default=REGISTRY, help=f"the registry (default: {REGISTRY})")
    parser.add_argument("--why", default="", help="a word for the record")
    parser.add_argument("--force", default="", metavar="REASON", help="promote although checks fail; recorded")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="what is in service")
    what.add_argument("--list", action="store_true", help="the whole history")
    what.add_argument("--rollback", action="store_true", help="return to the one before")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False, markup=False, emoji=False)  # what a person or a file says is no markup
    registry = Registry(args.service)
    if (args.status or args.list or args.rollback) and (args.words or args.evaluation or args.force):
        raise ConfigError(
            "--status, --list and --rollback take no run, evaluation or limit: a roll-back returns to the one before, "
            "and `robot-rl promote RUN --evaluation FOLDER` puts any other in service"
        )
    if args.list:
        console.print(_history(registry))
        return 0
    if args.rollback:
        event = registry.roll_back(args.why or "asked for")
        console.print(f"in service again: {_told(registry, event.in_service)}", soft_wrap=True)
        for line in _altered(registry, event.in_service):
            console.print(line, soft_wrap=True)
        return 0
    if args.status:
        console.print(_status(registry), soft_wrap=True)
        return 0
    runs = [word for word in args.words if "=" not in word]
    if len(runs) != 1 or not (args.evaluation or args.force):
        raise ConfigError("robot-rl promote RUN --evaluation FOLDER: one run and its evaluation; or --status, --list")
    config = compose("promote", [word for word in args.words if "=" in word], PromotionConfig)
    return _promote(registry, Path(runs[0]), args, config, console)


def _promote(
    registry: Registry, path: Path, args: argparse.Namespace, config: PromotionConfig, console: Console
) -> int:
    run_dir, checkpoint = find_checkpoint(path)
    table = columns(read_table(args.evaluation / EPISODES)) if args.evaluation else None
    described = read_description(args.evaluation) if args.evaluation else Described()
    event = None
    with registry.changing():  # what it is compared with stays in service until it is replaced
        serving = registry.in_service()
        present = serving[1].identity if serving else None
        candidate, checks = judge(table, described, identity_of(run_dir, checkpoint), present, config)
        if args.evaluation and is_altered(args.evaluation):
            checks.append(Check("table", False, ALTERED))
        refused = refusals(checks)
        if args.force or not refused:
            event = registry.promote(
                run_dir,
                checkpoint,
                name=candidate.name if candidate else run_dir.name,
                why=f"forced: {args.force}" if refused else args.why or "all checks passed",
                evaluation=str(args.evaluation.resolve()) if args.evaluation else "",
                figures=candidate.figures() if candidate else {},
                refusals=refused,
            )
    _tell(console, candidate, checks)
    if event is None:
        console.print(f"refused: {'; '.join(refused)}", soft_wrap=True)
        return EXIT_REFUSED
    console.print(f"in service: {_told(registry, event.number)}", soft_wrap=True)
    return 0


def _tell(console: Console, candidate: Candidate | None, checks: list[Check]) -> None:
    console.print(_checks(checks))
    if candidate is not None:
        console.print(*candidate.ranking, sep="\n", soft_wrap=True)


def _checks(checks: list[Check]) -> Table:
    table = Table("check", "", "finding")
    for one in checks:
        table.add_row(one.name, "passed" if one.passed else Text("refused", "red"), one.reason)
    return table


def _told(registry: Registry, number: int) -> str:
    promoted = registry.promoted(number)
    return f"promotion {number}, {promoted.name} ({promoted.checkpoint[:12]}, from {promoted.source})"


def _status(registry: Registry) -> str:
    newest = registry.newest
    if newest is None:
        return f"nothing is in service; {registry.folder} holds no promotion"
    lines = [f"in service: {_told(registry, newest.in_service)}", f"since {newest.at} by {newest.by}: {newest.why}"]
    if newest.serving[1:]:
        lines.append(f"a roll-back returns to {_told(registry, newest.serving[-2])}")
    for number in newest.serving[-2:]:
        lines += [_fared(registry, number), *_altered(registry, number)]
    return "\n".join(lines)


def _altered(registry: Registry, number: int) -> list[str]:
    altered = registry.altered(registry.promoted(number))
    return [f"promotion {number} cannot act: {altered}; promoting it again mends that"] if altered else []


def _fared(registry: Registry, number: int) -> str:
    episodes = registry.episodes(number)
    share, lost = interventions(episodes), failures(episodes)
    if not share:
        return f"promotion {number}: no episode on the arm yet"
    rejected, clipped = sum(one.guard_rejected for one in episodes), sum(one.guard_clipped for one in episodes)
    return (
        f"promotion {number}: {len(share)} episodes, success {1 - sum(lost) / len(lost):.0%}, the person acts in "
        f"{sum(share) / len(share):.0%} of the steps; the guard refused {rejected} requests and clipped {clipped} ticks"
    )


def _history(registry: Registry) -> Table:
    table = Table("event", "what", "in service then", Column("when", overflow="fold"), "who", "why")
    for event in registry.history():
        table.add_row(*_row(registry, event))
    return table


def _row(registry: Registry, event: Event) -> tuple[str, ...]:
    promoted = registry.promoted(event.in_service)
    kind = f"{event.kind} (forced)" if event.promoted and event.promoted.refusals else event.kind
    now = f"{event.in_service}: {promoted.name} {promoted.checkpoint[:12]}"
    return str(event.number), kind, now, event.at, event.by, event.why
