"""Start a node graph from one YAML file and keep it running; Ctrl-C ends it in order.

robot-rl up graph=demo headless=true
robot-rl up graph=fr3 robot_ip=172.16.0.2
robot-rl up graph=deploy policy=runs/imitate/lift_score_seed0 episodes=20
robot-rl up my_lab.yaml namespace=left
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robot_rl.apps.graph import Graph, graph_names, graph_path, parse_overrides, read_graph, resolve
from robot_rl.apps.namespace_lock import NamespaceLock
from robot_rl.apps.supervisor import Supervisor, describe_exit
from robot_rl.errors import ConfigError

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="graph=NAME | FILE.yaml | key=value",
        help="which graph, and its arguments (namespace, use_sim, robot_ip, headless ...)",
    )
    parser.add_argument("--list", action="store_true", help="list the graphs and their arguments")
    parser.add_argument("--dry-run", action="store_true", help="print the command lines and start nothing")
    parser.add_argument("--run-dir", type=Path, help="where logs go (default: the graph's run_dir, or runs/<graph>)")
    parser.add_argument("--quiet", action="store_true", help="nodes' output only into the log files")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if args.list:
        console.print(_graph_table())
        return 0
    graph = load(args.words)
    if args.dry_run:
        for process in graph.processes:
            console.print(f"{process.node.name}: {' '.join(process.command)}", soft_wrap=True, markup=False)
        return 0
    run_dir = args.run_dir or Path(str(graph.args.get("run_dir") or Path("runs") / graph.name))
    return supervise(graph, run_dir, console, args.quiet)


def load(words: list[str]) -> Graph:
    """The graph that `graph=NAME` or `FILE.yaml` names, with the other words as its arguments."""
    files = [word for word in words if "=" not in word]
    overrides = parse_overrides([word for word in words if "=" in word])
    names = files + ([overrides.pop("graph")] if "graph" in overrides else [])
    if len(names) != 1:
        raise ConfigError(f"name one graph: graph={'|'.join(graph_names())}, or a FILE.yaml; got {names}")
    return resolve(read_graph(graph_path(names[0])), overrides)


def supervise(graph: Graph, run_dir: Path, console: Console, quiet: bool = False) -> int:
    """Run `graph` until it ends, print how each node ended; returns the exit code."""
    say = _printer(graph, console, quiet)
    lock = NamespaceLock(graph.domain_id, graph.namespace, graph.name)
    lock.acquire(lambda text: say("", text))
    supervisor = Supervisor(graph, run_dir / "logs", lock, say)
    try:
        return supervisor.run()
    finally:
        console.print(_exit_table(supervisor))


def _printer(graph: Graph, console: Console, quiet: bool) -> Callable[[str, str], None]:
    names = [process.node.name for process in graph.processes]
    width = max(len(name) for name in [*names, "robot-rl"])

    def say(node: str, text: str) -> None:
        if quiet and node:
            return
        colour = COLOURS[names.index(node) % len(COLOURS)] if node else "bold"
        line = Text.assemble((f"{node or 'robot-rl':>{width}} │ ", colour))
        with contextlib.suppress(OSError):  # a closed pipe or a full disk behind the console does not end the graph
            console.print(line.append_text(Text.from_ansi(text)), soft_wrap=True)

    return say


def _exit_table(supervisor: Supervisor) -> Table:
    table = Table(title=f"{supervisor.graph.name}: how each node ended", title_justify="left")
    for heading in ("node", "state", "last exit", "restarts", "log"):
        table.add_column(heading, overflow="fold")
    for child in supervisor.children:
        cells = (child.name, child.state.value, describe_exit(child.exit_code), str(child.restarts))
        table.add_row(*cells, str(child.log))
    return table


def _graph_table() -> Table:
    table = Table("graph", "what it starts", "arguments")
    for name in graph_names():
        config = read_graph(graph_path(name))
        arguments = " ".join(f"{key}={str(value).lower()}" for key, value in config.args.items())
        table.add_row(name, config.description, arguments)
    return table
