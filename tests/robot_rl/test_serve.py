"""`robot-rl serve` and `evaluate --remote`: an evaluation cannot tell where the policy ran."""

import json
import signal

import pytest

from robot_rl.apps.cli import main
from tests.untrained import serve, write_critic, write_policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return write_policy(folder / "policy"), write_critic(folder / "critic")


def result(out, *arguments):
    assert main(["evaluate", *map(str, arguments), "--episodes", "1", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    return [{k: v for k, v in one.items() if not k.endswith("_s")} for one in content["episodes"]]


def test_a_remote_policy_is_evaluated_and_steered_as_if_it_were_here(runs, tmp_path, capsys):
    policy, critic = runs
    token = tmp_path / "token"
    token.write_text("a-long-enough-token")
    steered = ("--critic", critic, "--samples", "5")
    with serve(policy, "--token-file", str(token)) as (server, url):
        there = ("--remote", url, "--token-file", token)
        assert result(tmp_path / "a", policy, *there) == result(tmp_path / "b", policy)
        assert result(tmp_path / "c", policy, *there, *steered) == result(tmp_path / "d", policy, *steered)
        assert "samples=5" in capsys.readouterr().out
        assert main(["evaluate", str(policy), "--remote", url]) == 2
        assert "asks for a token" in capsys.readouterr().err
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=10) == 0
    assert main(["evaluate", str(policy), *map(str, there)]) == 2
    assert "robot-rl serve starts one" in capsys.readouterr().err


def test_what_cannot_be_served_is_said(runs, tmp_path, capsys):
    wrong = [
        (["serve", str(runs[0]), "--host", "0.0.0.0"], "give --token-file as well"),  # noqa: S104 - refused
        (["serve", str(tmp_path)], "has no checkpoints"),
        (["serve", str(runs[0]), "--device", "abacus"], "abacus"),
        (["serve", str(runs[0]), "--token-file", str(tmp_path / "none")], "no token can be read"),
        (["evaluate", str(runs[0]), "--remote", "http://127.0.0.1"], "ws://HOST:PORT"),
        (["evaluate", str(runs[0]), "--remote", "ws://127.0.0.1:1", "--bundle", "b"], "one of them can act"),
    ]
    for command, message in wrong:
        assert main(command) == 2
        assert message in capsys.readouterr().err
