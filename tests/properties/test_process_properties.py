"""Properties of the processes around learning, whatever the timing and the amount of data (bugs 7, 8, 9 and 11).

The eleven bugs are those of other stacks that this one must be free of; `pytest -k test_bug_` runs their tests.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.memory import ExperienceMemory
from hardware.pacing import Pacer
from policies.gaussian import GaussianConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.errors import WireError
from robot_rl.learner import Learner, LearnerConfig
from robot_rl.wire import decode_parameters
from tests.data.episodes import ACTION_SPEC, SPEC, events
from tests.learning import make_networks

ROOT = Path(__file__).parents[2]
PERIOD_S = 0.1
TINY = GaussianConfig(hidden=(8,), image_channels=(2,), image_features=4)


@given(work_s=st.lists(st.floats(0.0, PERIOD_S), min_size=1, max_size=200))
def test_bug_7_inference_and_cameras_do_not_slow_the_loop(work_s: list[float]) -> None:
    """Whatever the work of each period takes, N periods take N periods: nothing sleeps a whole period after it."""
    now_s = 0.0
    pacer = Pacer(lambda: now_s)
    for work in work_s:
        now_s += work
        pacer.schedule(PERIOD_S, max_lag_s=0.0)
        now_s += pacer.remaining_s()
    assert now_s == pytest.approx(PERIOD_S * len(work_s)) and pacer.late_ticks == 0


def make_learner(config: LearnerConfig) -> Learner:
    algorithm = RLPD(RLPDConfig(hidden=(8,), n_step=2), make_networks(SPEC, ACTION_SPEC, config=TINY))
    memory = ExperienceMemory(SPEC, ACTION_SPEC, config.capacity, seed=0, returns=algorithm.returns)
    return Learner(algorithm, memory, config)


@settings(deadline=None, max_examples=20)
@given(
    bursts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=10),
    utd=st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]),
)
def test_bug_8_a_fast_learner_waits_for_data(bursts: list[tuple[int, int]], utd: float) -> None:
    """However data and chances to update interleave, updates per step never exceed what was promised."""
    learner = make_learner(LearnerConfig(batch_size=4, utd=utd, warmup_steps=3, pretrain_updates=0, capacity=500))
    for episode, (length, chances) in enumerate(bursts):
        for event in events(episode + 1, length + 1):
            learner.receive(event)
        for _ in range(chances):
            if learner.due:
                learner.update()
        steps = learner.memory.online_steps
        assert learner.updates <= utd * steps
        assert learner.due == (int(utd * steps) - learner.updates if steps > 3 else 0)
        assert learner.realized_utd == learner.updates / steps


def test_bug_9_a_checkpoint_does_not_contain_the_experience(tmp_path: Path) -> None:
    """It costs the same after an hour as after a minute, and never touches the buffers."""
    sizes = []
    for episodes in (1, 40):
        learner = make_learner(LearnerConfig(batch_size=4, pretrain_updates=0, capacity=2000))
        for episode in range(episodes):
            for event in events(episode + 1, 20):
                learner.receive(event)
        learner.update()
        learner.memory = None  # type: ignore[assignment]  # whoever reads it now fails
        saved = learner.save(tmp_path / str(episodes))
        sizes.append(sum(path.stat().st_size for path in saved.iterdir()))
    assert sizes[0] == sizes[1]


FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def unpickling(tree: ast.Module) -> list[str]:
    """What in a module could run a pickle."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN:
            found.append(str(node.module))
        elif isinstance(node, ast.ImportFrom) and node.module in ("torch", "yaml"):
            found += [name.name for name in node.names if name.name in ("load", "unsafe_load")]
        elif isinstance(node, ast.Constant) and node.value in FORBIDDEN:
            found.append(str(node.value))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found += [] if isinstance(node.value, ast.Constant) and node.value.value is False else ["allow_pickle"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "yaml.load", "yaml.unsafe_load"):
            found.append(ast.unparse(node.func))
    return found


def test_bug_11_nothing_is_unpickled() -> None:
    """Not from the network, not from disk: no module can, and a pickle sent as parameters is refused unread."""
    modules = [
        path for part in ("robot_rl", "data", "policies", "sim", "hardware") for path in (ROOT / part).rglob("*.py")
    ]
    assert len(modules) > 50
    assert {str(path): found for path in modules if (found := unpickling(ast.parse(path.read_text())))} == {}
    for evil in (
        "import pickle", "from pickle import loads", "numpy.load(a, allow_pickle=True)", "torch.load(a)",
        "from torch import load", "importlib.import_module('pickle').loads(a)",
    ):  # fmt: skip
        assert unpickling(ast.parse(evil)), evil
    with pytest.raises(WireError):
        decode_parameters(b"cposix\nsystem\n(S'true'\ntR.")
