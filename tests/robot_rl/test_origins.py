"""What a run begins with: given demonstrations, simulated experience, another run's networks; also when it goes on."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.memory import ExperienceMemory
from data.recorder import EpisodeRecorder
from data.store import EpisodeStore
from robot_rl.algorithms.off_policy import OffPolicy
from robot_rl.apps.cli import main
from robot_rl.apps.train import TrainingRun, prepare_run_dir
from robot_rl.apps.wiring import Experiment, build_learner, load_experiment
from robot_rl.checkpoints import save_checkpoint
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.transport import LocalTransport
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from tests.untrained import write_policy

SMALL = ("policy.hidden=[8]", "algorithm.hidden=[8]", "learner.batch_size=8", "learner.capacity=500")
TINY = (
    *SMALL,
    "learner.pretrain_updates=2",
    "learner.warmup_steps=5",
    "schedule.demos=1",
    "schedule.learn_steps=30",
    "schedule.evaluate_episodes=1",
    "task.env.max_steps=80",
)


def write_store(path: Path, experiment: Experiment, phase: str = "learn", outcomes=(True, False), steps=6) -> Path:
    """Episodes of that task's specs; states say which one."""
    spec, action = experiment.task.observation_spec, experiment.task.action_spec
    rng = np.random.default_rng(0)

    def seen(number: int, step: int):
        state = np.full(spec.state_dim, step / 10, np.float32)
        state[0] = number
        return {"state": state}

    with closing(EpisodeRecorder(path, spec, action)) as recorder:
        for number, success in enumerate(outcomes):
            name = f"{path.name}-{number}"
            recorder.on_start(EpisodeStart(name, phase, seen(number, 0), 0.0, number))
            for step in range(steps):
                last, acted = step == steps - 1, rng.uniform(-1, 1, action.dim).astype(np.float32)
                recorder.on_step(
                    Transition(
                        name, step, seen(number, step), acted, acted, phase == "demo", float(last and success),
                        seen(number, step + 1), last and success, last and not success, 0.1 * step, 0,
                    )
                )  # fmt: skip
            recorder.on_end(EpisodeEnd(name, success, steps, 1.0, 0))
    return path


def write_run(run_dir: Path, *words: str, updates: int = 0) -> Path:
    """A run of `robot-rl train` as it is after no episode."""
    experiment = load_experiment([*SMALL, "seed=5", *words])
    prepare_run_dir(run_dir, experiment, resume=False, overwrite=False)
    learner = build_learner(experiment)
    save_checkpoint(run_dir / "checkpoints", 7, learner.algorithm)
    return run_dir


def memory_of(experiment: Experiment) -> ExperienceMemory:
    memory: Any = build_learner(experiment).memory
    return memory


def test_given_episodes_become_demonstrations_the_successful_ones(tmp_path: Path) -> None:
    own = write_store(tmp_path / "own", load_experiment(SMALL), "learn", (True, False, True))
    shown = write_store(tmp_path / "shown", load_experiment(SMALL), "demo", (True, False), steps=4)
    one = memory_of(load_experiment([*SMALL, f"demos={own}"]))
    assert one.demo_steps == 12 and one.online_steps == 0
    batch = one.demos.sample(200)
    assert set(batch.observation["state"][:, 0]) == {0.0, 2.0} and batch.is_demonstration.all()
    both = memory_of(load_experiment([*SMALL, f"demos=[{own},{shown}]"]))
    assert both.demo_steps == 16


@pytest.mark.parametrize("algorithm", ["h2o", "rlpd"])
def test_simulated_experience_is_a_share_of_every_batch(tmp_path: Path, algorithm: str) -> None:
    """Weighed by H2O; by any other algorithm it is plain mixing."""
    store = write_store(tmp_path / "cousins", load_experiment(SMALL))
    shown = write_store(tmp_path / "real", load_experiment(SMALL), "demo")
    words = [*SMALL, f"algorithm={algorithm}", f"sim_data={store}", f"demos={shown}", "sim_fraction=0.25"]
    learner = build_learner(load_experiment(words))
    memory: Any = learner.memory
    assert len(memory.simulated) == 12 and memory.demo_steps == 6  # failures are experience, too
    assert memory.sample(8).simulated == 2
    learner.update()
    assert ("weight" in learner.metrics) == (algorithm == "h2o")


def test_the_simulation_alone_makes_no_update_due(tmp_path: Path) -> None:
    store = write_store(tmp_path / "cousins", load_experiment(SMALL))
    learner = build_learner(load_experiment([*SMALL, "algorithm=h2o", f"sim_data={store}"]))
    start = EpisodeStart("one", "learn", {"state": np.zeros(learner.memory.online.observation_spec.state_dim, "f4")}, 0)  # type: ignore[attr-defined]
    learner.receive(start)
    assert learner.due == 0


def named(algorithm: Any, part: str) -> dict[str, torch.Tensor]:
    state = algorithm.state_dict()
    return {name: value for name, value in state.items() if name.startswith(part)}


@pytest.mark.parametrize("mine", ["rlpd", "h2o"])
def test_policy_and_critics_are_those_of_the_other_run_and_the_rest_is_new(tmp_path: Path, mine: str) -> None:
    run_dir = write_run(tmp_path / "cousins")
    store = write_store(tmp_path / "store", load_experiment(SMALL))
    words = [*SMALL, f"algorithm={mine}", f"sim_data={store}"]
    source: Any = build_learner(load_experiment([*SMALL, "seed=5"])).algorithm
    fresh: Any = build_learner(load_experiment(words)).algorithm
    experiment = load_experiment([*words, f"init={run_dir}"])
    learner = build_learner(experiment)
    algorithm: Any = learner.algorithm
    for part in ("acting", "critics", "targets", "networks"):
        got, wanted = named(algorithm, part), named(source, part)
        assert set(got) == set(wanted) and all(torch.equal(got[name], wanted[name]) for name in got), part
        assert any(not torch.equal(value, named(fresh, part)[name]) for name, value in got.items())
    for part in ("value_adam", "actor_adam", "temperature", "discriminators"):
        assert all(torch.equal(value, named(fresh, part)[name]) for name, value in named(algorithm, part).items())
    assert learner.updates == 0 and experiment.init == run_dir / "checkpoints" / "step_000000007"
    version, tensors = LocalTransport(learner).parameters() or (None, {})
    assert version == 0 and all(torch.equal(tensors[name], value) for name, value in source.policy_state().items())


def test_of_a_cloned_policy_the_critics_are_new_and_their_targets_agree_with_them(tmp_path: Path) -> None:
    run_dir = tmp_path / "clone"
    words = [word for word in SMALL if not word.startswith("algorithm.")]
    experiment = load_experiment([*words, "algorithm=bc", "seed=5"])
    prepare_run_dir(run_dir, experiment, resume=False, overwrite=False)
    source = build_learner(experiment).algorithm
    save_checkpoint(run_dir / "checkpoints", 7, source)
    algorithm: Any = build_learner(load_experiment([*SMALL, f"init={run_dir}"])).algorithm
    for name, value in source.policy_state().items():
        assert torch.equal(algorithm.policy_state()[name], value)
    assert isinstance(algorithm, OffPolicy)
    for target, value in zip(algorithm._targets.parameters(), algorithm._values.parameters(), strict=True):
        assert torch.equal(target, value)


def test_learning_goes_on_in_the_networks_that_were_taken_over(tmp_path: Path) -> None:
    """The flat tensors that optimisers and averages work on still are the networks'."""
    run_dir = write_run(tmp_path / "cousins")
    store = write_store(tmp_path / "real", load_experiment(SMALL), "demo")
    learner = build_learner(load_experiment([*SMALL, f"init={run_dir}", f"demos={store}"]))
    before = named(learner.algorithm, "")
    for _ in range(2):
        learner.update()
    after = named(learner.algorithm, "")
    for part in ("networks.actor", "critics", "targets.1", "acting.actor"):
        moved = [name for name in before if name.startswith(part) and not torch.equal(before[name], after[name])]
        assert moved, part
        assert max(float((after[name] - before[name]).abs().max()) for name in moved) < 2e-3


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("policy.activation=relu",), "policy.activation"),
        (("policy.hidden=[8,8]",), "policy.hidden"),
        (("algorithm.num_critics=3",), "algorithm.num_critics"),
        (("algorithm.activation=relu",), "algorithm.activation"),
        (("task=door",), "observation_spec"),
    ],
)
def test_other_networks_and_tasks_are_refused_by_name(tmp_path: Path, words: tuple[str, ...], named: str) -> None:
    run_dir = write_run(tmp_path / "cousins")
    with pytest.raises(SpecError, match=named):
        build_learner(load_experiment([*SMALL, f"init={run_dir}", *words]))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    run_dir, store = write_run(tmp_path / "cousins"), write_store(tmp_path / "store", load_experiment(SMALL))
    without = [word for word in SMALL if not word.startswith("algorithm.")]
    with pytest.raises(ConfigError, match="not for BC"):
        build_learner(load_experiment([*without, "algorithm=bc", f"init={run_dir}"]))
    with pytest.raises(SpecError, match=r"policy\.base=RUN"):
        build_learner(load_experiment([*SMALL, f"init={write_policy(tmp_path / 'imitate')}", "task.env.max_steps=30"]))
    with pytest.raises(DataError, match="no checkpoints"):
        load_experiment([*SMALL, f"init={tmp_path / 'nothing'}"])
    for key in ("demos", "sim_data"):
        with pytest.raises(SpecError, match=rf"observation_spec of the episodes of {store}"):
            build_learner(load_experiment([*SMALL, "task=door", f"{key}={store}"]))
        with pytest.raises(DataError, match="not an episode store"):
            build_learner(load_experiment([*SMALL, f"{key}={tmp_path / 'nothing'}"]))
    failed = write_store(tmp_path / "failed", load_experiment(SMALL), outcomes=(False,))
    with pytest.raises(DataError, match="no successful episode"):
        build_learner(load_experiment([*SMALL, f"demos={failed}"]))
    with pytest.raises(ConfigError, match="sim_data=STORE"):
        load_experiment(["algorithm=h2o"])
    with pytest.raises(ConfigError, match="sim_fraction"):
        load_experiment(["sim_fraction=1"])


@pytest.mark.slow
def test_a_run_that_goes_on_has_its_origins_again_and_what_it_learned_since(tmp_path: Path) -> None:
    """Cut off while learning, before and after its first checkpoint; then to the end by the command."""
    experiment = load_experiment(SMALL)
    cousins = write_run(tmp_path / "cousins", "task.env.max_steps=80")
    store, shown = write_store(tmp_path / "store", experiment), write_store(tmp_path / "shown", experiment, "demo")
    words = (*TINY, "algorithm=h2o", f"sim_data={store}", f"demos={shown}", f"init={cousins}")
    experiment, run_dir = load_experiment(words), tmp_path / "run"
    prepare_run_dir(run_dir, experiment, resume=False, overwrite=False)
    with TrainingRun(experiment, run_dir) as first:
        first.actor.demonstrate_once()
        first.actor.learn_once()
        steps, held = first.log.env_steps, len(first.learner.memory.demos)  # type: ignore[attr-defined]
        first.save()
        learned = first.learner.algorithm.state_dict()
    with TrainingRun(experiment, run_dir) as second:
        memory: Any = second.learner.memory
        assert second.log.env_steps == steps and len(memory.demos) == held and len(memory.simulated) == 12
        for name, value in second.learner.algorithm.state_dict().items():
            assert torch.equal(value, learned[name]), name
    assert main(["train", "--threads", "1", "--run-dir", str(run_dir), "--resume"]) == 0
    assert json.loads((run_dir / "summary.json").read_text())["env_steps"] >= 30
    assert len(EpisodeStore(run_dir / "episodes")) >= 3
