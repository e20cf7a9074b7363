"""The command line: fast, one clear line for what a user did wrong, and the right exit codes."""

from __future__ import annotations

import errno
import subprocess
import sys
import types
from pathlib import Path

import pytest

from robot_rl.apps import cli
from robot_rl.apps.config import add_overrides
from robot_rl.errors import ConfigError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command `fake` whose `run` can be set."""
    module = types.ModuleType("robot_rl_fake_command", "What fake does.")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command(module.__name__, "a fake command"))

    def add_arguments(parser):
        add_overrides(parser)
        parser.add_argument("--resume", action="store_true")

    vars(module)["add_arguments"] = add_arguments
    return module


def test_help_is_fast_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from robot_rl.apps.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'numpy', 'mujoco', 'hydra', 'rclpy', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for name in cli.COMMANDS:
        assert f"  {name}" in result.stdout


def test_unknown_command_lists_the_valid_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    error = capsys.readouterr().err
    assert "'trian'" in error and "train" in error and error.count("\n") == 1


def test_no_command_shows_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: robot-rl" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["a=1", "--resume", "b.c=2"], ["--resume", "a=1", "b.c=2"], ["a=1", "b.c=2", "--resume"]],
)
def test_overrides_may_stand_anywhere(command: types.ModuleType, arguments: list[str]) -> None:
    seen = []
    vars(command)["run"] = lambda args: seen.append((args.overrides, args.resume)) or 0
    assert cli.main(["fake", *arguments]) == 0
    assert seen == [(["a=1", "b.c=2"], True)]


def test_commands_with_subcommands_parse(command: types.ModuleType) -> None:
    def add_arguments(parser):
        verify = parser.add_subparsers(dest="action", required=True).add_parser("verify")
        verify.add_argument("path")

    seen = []
    vars(command).update(add_arguments=add_arguments, run=lambda a: seen.append((a.action, a.path)) or 0)
    assert cli.main(["fake", "verify", "episodes"]) == 0
    assert seen == [("verify", "episodes")]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("no such robot"), 2, "robot-rl: no such robot\n"),
        (KeyboardInterrupt(), 130, "robot-rl: interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x"),
            2,
            "robot-rl: [Errno 28] No space left on device: 'runs/x'; make room, or name another folder\n",
        ),
    ],
)
def test_errors_become_one_line_and_a_code(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    def run(args):
        raise error

    vars(command)["run"] = run
    assert cli.main(["fake"]) == code
    assert capsys.readouterr().err == text


def test_a_bug_keeps_its_traceback(command: types.ModuleType) -> None:
    def run(args):
        raise ZeroDivisionError

    vars(command)["run"] = run
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])


def test_missing_module_says_how_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command("robot_rl_not_there", ""))
    assert cli.main(["fake"]) == 2
    assert "robot_rl_not_there" in capsys.readouterr().err
