"""`kill -9` of each node while the graph learns: no unsafe command, nothing acknowledged is lost, all resume.

Twice each here, over real DDS with a stand-in for the physics; `benchmarks/faults.py` does it twenty
times each with the simulated arm.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.faults.campaign import FAKE_WORLD, Campaign, free_port, learning_graph, running


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_graph_survives_kills_of_every_node(tmp_path: Path) -> None:
    run_dir, port, seed = tmp_path / "run", free_port(), 0
    victims = ["learner", "actor", "gui", "sim_robot"] * 2
    np.random.default_rng(seed).shuffle(victims)
    nodes = learning_graph(run_dir, FAKE_WORLD, port=port, seed=seed)
    with running(nodes, tmp_path / "logs", 1 + os.getpid() % 49) as (rig, recorder):
        campaign = Campaign(rig, recorder, seed, port)
        kills = [campaign.kill(victim, longest_wait_s=1.0) for victim in victims]
    assert [problem for kill in kills for problem in kill.problems] == []
    assert campaign.problems(run_dir / "learner" / "journal") == []
    assert len(campaign.record.targets) > 300
    assert campaign.record.metrics[-1][1]["updates"] > 0
    assert len(campaign.record.acks) == 3  # one session of the actor per life
