"""The policy in service on an arm: noted episode by episode, and rolled back when the person has to act too often.

The arm is simulated; the node is told that it is not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml
from rclpy.node import Node
from sensor_msgs.msg import Joy

from hardware.ros_messages import header
from robot_rl.apps.graph import graph_path
from robot_rl.apps.runs import find_checkpoint
from robot_rl.records import find_records
from robot_rl.registry import DeployedEpisode, Registry
from tests.hardware.deploy_ear import Heard, diagnostics
from tests.untrained import write_policy, write_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.processes]
EPISODES = 8
PERSON_RATE_HZ = 20.0


def person(domain: int, registry: Registry, suspect: int) -> AbstractContextManager[Heard]:
    """Somebody who takes over all the time as long as `suspect` is in service; yields what /diagnostics says."""

    def prepare(node: Node) -> None:
        hands = node.create_publisher(Joy, "human/joy", 1)

        def steer() -> None:
            serving = registry.in_service()
            engaged = int(serving is not None and serving[0] == suspect)
            now_s = node.get_clock().now().nanoseconds * 1e-9
            hands.publish(Joy(header=header(now_s, "tcp"), axes=[0.0] * 4, buttons=[engaged]))

        node.create_timer(1.0 / PERSON_RATE_HZ, steer)

    return diagnostics(domain, "person", prepare)


def write_graph(path: Path) -> Path:
    """Guard and simulated robot of the graph `deploy`, and its node for a real arm, which begins by itself here."""
    content = yaml.safe_load(graph_path("deploy").read_text())
    nodes = {node["name"]: node for node in reversed(content["nodes"]) if node.get("when") != "use_sim"}
    simulated = next(node for node in content["nodes"] if node["name"] == "sim_robot")
    deploy = nodes["deploy"]
    deploy["params"] |= {"world": {"state_deadline_s": 0.5, "service_timeout_s": 5.0}, "runner": {"paused": False}}
    deploy["depends_on"] = ["guard", "sim_robot"]
    kept = [nodes["guard"], simulated, deploy]
    for node in kept:
        node.pop("when", None)
    content |= {"nodes": kept, "env": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("before", ["alike", "another kind"])
def test_a_rise_of_interventions_rolls_back_between_two_episodes(tmp_path, before):
    registry = Registry(tmp_path / "service")
    small = ["policy.inputs.goal=false", "policy.goal_dropout=0", "policy.network.width=16"]
    first = write_policy(tmp_path / "a") if before == "alike" else write_run(tmp_path / "a", "imitate", *small)
    second = write_policy(tmp_path / "b")
    checkpoint = find_checkpoint(second)[1]
    checkpoint.rename(checkpoint.with_name("step_000000009"))
    for run in (first, second):
        registry.promote(run, find_checkpoint(run)[1], name=run.name, why="a test")
    for _ in range(40):  # it never succeeds, and nobody has to act
        registry.add_episode(1, DeployedEpisode("x", "now", "runs", 30, 0, False, False))
    domain, run_dir = 120 + os.getpid() % 50, tmp_path / "deploy"
    command = [sys.executable, "-m", "robot_rl.apps.cli", "up", str(write_graph(tmp_path / "arm.yaml")), "--quiet"]
    command += ["use_sim=false", f"service={registry.folder}", f"run_dir={run_dir}", f"episodes={EPISODES}"]
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain)}
    with person(domain, registry, suspect=2) as heard:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    log = (run_dir / "logs" / "deploy.log").read_text()
    assert registry.in_service()[0] == 1, result.stdout + log
    bad, good = registry.episodes(2), registry.episodes(1)[40:]
    assert 2 <= len(bad) < EPISODES and all(one.interventions > 15 for one in bad[1:])
    assert "the person acts in" in registry.history()[-1].why and "0% before" in registry.history()[-1].why
    warned = [one for one in heard if "service.rolled_back" in one]
    assert warned and "promotion 2 is worse than the one before" in warned[0]["service.rolled_back"]
    records = find_records(run_dir)
    assert [one.policy_version for one in records] == [9] * len(bad) + [7] * len(good)
    assert {one.run_dir for one in bad} == {str(run_dir)}
    if before == "alike":
        assert result.returncode == 0, log
        assert len(good) == EPISODES - len(bad) and all(one.interventions == 0 for one in good[1:])
        assert json.loads((run_dir / "actor" / "result.json").read_text())
    else:
        assert result.returncode != 0 and not good
        assert "a is in service now, another kind of policy: start again to run it" in log
