"""The learner keeps its update-to-data promise, and resumes where it stopped."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.batch import Batch, Returns
from robot_rl.checkpoints import latest_checkpoint, load_newest, resume
from robot_rl.errors import DataError
from robot_rl.learner import Learner, LearnerConfig
from robot_rl.transport import LocalTransport
from robot_rl.types import EpisodeStart


class CountingAlgorithm:
    returns = Returns()
    imitation_updates = 0

    def __init__(self):
        self.weight = torch.zeros(1)

    def update(self, batch):
        self.weight += 1
        return {"loss": self.weight[0].clone()}

    def policy_state(self):
        return {"weight": self.weight.clone()}

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, state):
        self.weight = state["weight"].clone()


class CountingMemory:
    def __init__(self):
        self.online_steps = self.demo_steps = 0

    def add(self, event):
        self.online_steps += event is None  # stands for a transition

    def sample(self, batch_size):
        empty = np.zeros(batch_size, np.float32)
        return Batch({}, empty, empty, {}, empty, empty, empty, empty, empty)


def make(**config):
    return Learner(CountingAlgorithm(), CountingMemory(), LearnerConfig(**{"pretrain_updates": 0, **config}))


def test_updates_never_run_ahead_of_the_data():
    learner = make(utd=2.0, warmup_steps=10)
    transport = LocalTransport(learner)
    realized = []
    for step in range(1, 101):
        transport.send(None)
        transport.parameters()
        assert learner.updates == (2 * step if step > 10 else 0)
        realized.append(learner.realized_utd)
    assert realized[-1] == 2.0


def test_figures_that_only_some_updates_tell_stay_until_the_next():
    """The policy is updated less often than the critics; its figures were lost whenever they were read in between."""

    class EverySecond(CountingAlgorithm):
        def update(self, batch):
            told = super().update(batch)
            return told | ({"actor_loss": -told["loss"]} if self.weight % 2 == 0 else {})

    learner = Learner(EverySecond(), CountingMemory(), LearnerConfig(pretrain_updates=0))
    for _ in range(3):
        learner.update()
    assert (learner.scalars()["loss"], learner.scalars()["actor_loss"]) == (3.0, -2.0)


def test_fractional_ratio_and_pretraining_are_accounted_apart():
    learner = make(utd=0.25, warmup_steps=0, pretrain_updates=7)
    learner.memory.demo_steps = 100
    learner.receive(EpisodeStart("a", "demo", {}, 0.0))
    assert learner.due == 0  # all demonstrations first
    learner.receive(EpisodeStart("b", "learn", {}, 0.0))
    assert learner.due == 7
    transport = LocalTransport(learner)
    for _ in range(40):
        transport.send(None)
    transport.flush()
    assert learner.updates == 17 and learner.realized_utd == 0.25


def test_imitation_comes_before_the_updates_on_demonstrations_and_counts_beside_them():
    class Imitator(CountingAlgorithm):
        imitation_updates = 5

    learner = Learner(Imitator(), CountingMemory(), LearnerConfig(pretrain_updates=2, utd=1.0, warmup_steps=0))
    learner.memory.demo_steps = 3
    assert learner.due == 0
    learner.receive(EpisodeStart("a", "learn", {}, 0.0))
    while learner.due:
        learner.update()
    assert learner.updates == 7 and learner.realized_utd == 0.0
    learner.memory.online_steps = 4
    while learner.due:
        learner.update()
    assert learner.updates == 11 and learner.realized_utd == 1.0


def test_parameters_come_every_so_many_updates_with_their_version():
    transport = LocalTransport(make(utd=1.0, warmup_steps=0, publish_every=5))
    versions = []
    for _ in range(21):
        transport.send(None)
        if (news := transport.parameters()) is not None:
            versions.append((news[0], float(news[1]["weight"])))
    assert versions == [(1, 1.0), (6, 6.0), (11, 11.0), (16, 16.0), (21, 21.0)]


def test_checkpoint_round_trip_and_a_partial_one_is_not_seen(tmp_path):
    learner = make(utd=1.0, warmup_steps=0)
    for _ in range(5):
        learner.receive(None)
        learner.update()
    learner.save(tmp_path)
    learner.save(tmp_path)  # an existing one is replaced, not an error
    (tmp_path / ".partial_000000009_1").mkdir()
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint.name == "step_000000005"
    resumed = make()
    resumed.load(checkpoint)
    assert resumed.updates == 5 and float(resumed.algorithm.weight) == 5.0


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    learner = make(keep_checkpoints=2)
    learner.receive(None)
    (tmp_path / ".partial_000000001_1").mkdir()  # of a writer that was killed
    for _ in range(4):
        learner.update()
        learner.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000003", "step_000000004"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_is_named_and_leaves_no_part_of_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("robot_rl.checkpoints.save_file", lambda tensors, path: Path("/dev/full").write_text("x"))
    with pytest.raises(DataError, match=r"cannot write .*step_000000000: .*No space left"):
        make().save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named(tmp_path):
    learner = make()
    learner.update()
    path = learner.save(tmp_path)
    (path / "algorithm.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="step_000000001"):
        make().load(path)


def test_the_newest_sound_checkpoint_is_loaded_and_damaged_ones_are_put_aside(tmp_path):
    """As a power cut leaves them: a run could not be resumed any more."""
    learner, warnings = make(), []
    for _ in range(3):
        learner.update()
        newest = learner.save(tmp_path)
    (newest / "algorithm.safetensors").write_bytes(b"")
    resumed = make()
    loaded = load_newest(tmp_path, resumed.load, warnings.append)
    assert loaded is not None and loaded.name == "step_000000002" and resumed.updates == 2
    assert "step_000000003 is not a usable checkpoint" in warnings[0]
    assert latest_checkpoint(tmp_path) == loaded and len(list(tmp_path.glob("unusable_step_000000003_*"))) == 1
    resume(tmp_path / "none", resumed.load, warnings.append)
    for path in tmp_path.glob("step_*/algorithm.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no checkpoint in .* is usable"):
        resume(tmp_path, resumed.load, warnings.append)


def test_an_interrupt_in_the_midst_of_an_update_waits_for_its_end(tmp_path, monkeypatch):
    learner = make(utd=3.0, warmup_steps=0)
    learner.receive(None)
    update = learner.algorithm.update

    def interrupted(batch):
        metrics = update(batch)
        signal.raise_signal(signal.SIGINT)  # learned, not counted yet
        return metrics

    monkeypatch.setattr(learner.algorithm, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LocalTransport(learner).parameters()
    resumed = make()
    resumed.load(learner.save(tmp_path))
    assert resumed.updates == float(resumed.algorithm.weight) == 1
