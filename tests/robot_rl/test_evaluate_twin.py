"""`robot-rl evaluate --twin`: paired starts, one result however it is cut up, killed and resumed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hardware.guard_config import GuardConfig
from robot_rl.apps.cli import main
from robot_rl.apps.config import compose
from robot_rl.apps.evaluate import evaluate
from robot_rl.apps.evaluate_twin import STARTS, Evaluation, TwinEvaluation, find_candidates
from robot_rl.apps.guarded_world import GuardedWorld, lockstep_limits
from robot_rl.apps.runs import load_policy, read_run
from robot_rl.apps.twin_cells import cells_of
from robot_rl.apps.twins import TwinsConfig, make_twins
from robot_rl.env import RobotEnv
from robot_rl.evaluation_description import read_description
from robot_rl.evaluation_table import EPISODES, read_table
from sim.cousins.folder import read_folder
from sim.cousins.variants import VARIANTS, apply_variant
from sim.cousins.world import make_cousin_world
from tests.robot_rl.twin_scene import TASK, write_policy, write_work

SMALL = ("policy.network.width=32", "policy.goal_dropout=0", "policy.execution.execute=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("twins")
    write_work(base / "kitchen")
    write_policy(base / "score", 0, *SMALL)
    write_policy(base / "flow", 1, "policy=flow", *SMALL)
    return base


def command(place: Path, out: Path, *words: str) -> list[str]:
    runs = [str(place / name) for name in ("score", "flow")]
    return [
        "evaluate",
        "--twin",
        str(place / "kitchen"),
        *runs,
        "twins.members=2",
        "--jobs",
        "1",
        "--out",
        str(out),
        *words,
    ]


def test_every_policy_starts_alike_everywhere_and_two_runs_agree(place: Path, tmp_path: Path) -> None:
    assert main(command(place, tmp_path / "a", "episodes=3", "together=3")) == 0
    rows = read_table(tmp_path / "a" / EPISODES)
    assert len(rows) == 2 * 4 * 3
    assert {row.world for row in rows} == {"point", "identified", "ensemble_00", "ensemble_01"}
    assert {(row.start, row.seed) for row in rows} == {(i, 2_000_000 + i) for i in range(3)}
    of = {(row.policy, row.world, row.start): row for row in rows}
    for (policy, world, start), row in of.items():
        twin = of["flow" if policy == "score" else "score", world, start]
        assert (row.object_x_m, row.object_yaw_rad) == (twin.object_x_m, twin.object_yaw_rad)
    moved = {row.object_x_m for row in rows if row.world == "point" and row.policy == "flow"}
    assert len(moved) == 3 and max(moved) - min(moved) < 0.08
    description = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert description["policies"]["score"]["sha256"] == of["score", "point", 0].checkpoint
    told = hashlib.sha256((place / "score" / "experiment.json").read_bytes()).hexdigest()
    assert description["policies"]["score"]["experiment_sha256"] == told
    assert main(command(place, tmp_path / "b", "episodes=3", "together=3")) == 0
    assert read_table(tmp_path / "b" / EPISODES) == rows


def test_a_batch_does_what_one_episode_after_another_does(place: Path, tmp_path: Path) -> None:
    """The same actions from the same states but for rounding: the batch changes nothing that can be seen."""
    for together in (1, 3):
        words = ("episodes=3", f"together={together}", "twins.kinds=[point]", "guarded=false")
        assert main(command(place, tmp_path / str(together), *words)) == 0
    one, many = (read_table(tmp_path / name / EPISODES) for name in ("1", "3"))
    for a, b in zip(one, many, strict=True):
        assert (a.policy, a.start, a.steps, a.success) == (b.policy, b.start, b.steps, b.success)
        assert a.tcp_x_m == pytest.approx(b.tcp_x_m, abs=1e-4) and a.tcp_z_m == pytest.approx(b.tcp_z_m, abs=1e-4)


def test_it_acts_as_the_one_loop_does(place: Path, tmp_path: Path) -> None:
    """A policy that draws nothing ends where `run_episode` brings it."""
    write_policy(place / "mean", 3, "policy=gcbc", "policy.hidden=[16]")
    out = tmp_path / "out"
    words = ["episodes=2", "twins.kinds=[point]", "guarded=false", "--jobs", "1", "--out", str(out)]
    assert main(["evaluate", "--twin", str(place / "kitchen"), str(place / "mean"), *words]) == 0
    (scene,) = make_twins(place / "kitchen", TwinsConfig(kinds=("point",)))
    (candidate,) = find_candidates([place / "mean"])
    experiment = read_run(candidate.run_dir)
    env = RobotEnv(make_cousin_world(scene.folder, TASK, STARTS), experiment.task.env)
    policy = load_policy(experiment, candidate.checkpoint)
    for number, row in enumerate(read_table(out / EPISODES)):
        records = evaluate(env, policy, number + 1, 0)
        assert records[-1].steps == row.steps
        tcp = env.snapshot().arm.pose_base_tcp
        assert [row.tcp_x_m, row.tcp_y_m, row.tcp_z_m] == pytest.approx(tcp[:3].tolist(), abs=1e-5)


def test_killed_and_run_again_nothing_is_lost_or_repeated(place: Path, tmp_path: Path) -> None:
    words = ("episodes=4", "together=1", "twins.kinds=[point,ensemble]")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(command(place, whole, *words)) == 0
    arguments = [sys.executable, "-m", "robot_rl.apps.cli", *command(place, cut, *words)]
    process = subprocess.Popen(arguments, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((cut / "parts").glob("[!.]*.parquet"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in (cut / "parts").glob("[!.]*.parquet")}
    assert 3 <= len(kept) < 24
    assert main(command(place, cut, *words)) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (cut / "parts").glob("[!.]*.parquet")}
    assert {name: after[name] for name in kept} == kept and len(after) == 24
    assert read_table(cut / EPISODES) == read_table(whole / EPISODES)


def test_a_table_never_lies_beside_a_description_that_is_not_its_own(place: Path, tmp_path: Path) -> None:
    """Whatever ends it: what was run without the guard is no part of a guarded evaluation that has just begun."""
    out, words = tmp_path / "out", ("episodes=1", "twins.kinds=[point]")
    assert main(command(place, out, *words, "guarded=false")) == 0
    before = read_table(out / EPISODES)
    candidates = find_candidates([place / "flow", place / "score"])
    scenes = make_twins(place / "kitchen", TwinsConfig(kinds=("point",)))
    for guarded, kept in ((True, []), (False, before)):
        config = compose("evaluate_twin", [*words, f"guarded={str(guarded).lower()}"], TwinEvaluation)
        Evaluation(config, candidates, scenes, cells_of(candidates, scenes, 1, 25), out).begin(Console())
        assert read_description(out).guarded is guarded and len(read_table(out / EPISODES)) == len(kept)


def test_processes_change_nothing(place: Path, tmp_path: Path) -> None:
    words = ("episodes=2", "together=1", "twins.kinds=[point]")
    assert main(command(place, tmp_path / "one", *words)) == 0
    assert main([*command(place, tmp_path / "two", *words), "--jobs", "2"]) == 0
    assert read_table(tmp_path / "one" / EPISODES) == read_table(tmp_path / "two" / EPISODES)


def test_twins_are_made_anew_when_what_they_rest_on_changes(tmp_path: Path) -> None:
    work = write_work(tmp_path / "bench", posterior=False)
    config = TwinsConfig(members=2)
    first = make_twins(work, config)
    assert [one.kind for one in first] == ["point", "ensemble", "ensemble"]  # nothing was identified
    physics = [read_folder(one.folder)[2].physics for one in first]
    assert len({one.friction for one in physics}) == 3 and physics[0].friction == 1.0
    stamps = [one.folder.stat().st_mtime_ns for one in first]
    assert [one.folder.stat().st_mtime_ns for one in make_twins(work, config)] == stamps
    write_work(tmp_path / "other")
    (work / "posterior.json").write_bytes((tmp_path / "other" / "posterior.json").read_bytes())
    second = make_twins(work, config)
    assert [one.kind for one in second] == ["point", "identified", "ensemble", "ensemble"]
    assert second[0].folder.stat().st_mtime_ns == stamps[0]
    assert read_folder(second[1].folder)[2].physics.delay_s == 0.03
    assert all(abs(read_folder(one.folder)[2].physics.delay_s - 0.03) < 0.02 for one in second[2:])


def test_the_guards_counts_are_real(place: Path) -> None:
    (scene,) = make_twins(place / "kitchen", TwinsConfig(kinds=("point",)))
    inside = GuardConfig((0.0, -1.0, 0.0), (1.0, 1.0, 1.0), speed_m_s=0.6)

    def pushed(limits: GuardConfig | None) -> tuple[np.ndarray, np.ndarray, GuardedWorld | None]:
        world = make_cousin_world(scene.folder, TASK, STARTS)
        guarded = GuardedWorld(world, lockstep_limits(limits, 0.1)) if limits else None
        env = RobotEnv(guarded or world, TASK.env)
        env.reset(seed=1)
        infos = [env.step(np.array([0.0, 0.0, -0.5, 0.0]))[4]["executed_action"] for _ in range(8)]
        return env.snapshot().arm.pose_base_tcp, np.array(infos), guarded

    free, executed, _ = pushed(None)
    same, _, guarded = pushed(inside)
    assert guarded is not None and np.array_equal(same, free)  # what no limit touches is as without a guard
    assert (guarded.limited_steps, guarded.refused_steps) == (0, 0) and (executed[:, 2] == -0.5).all()
    _, slowed, guarded = pushed(replace(inside, speed_m_s=0.1))
    assert guarded is not None and guarded.limited_steps == 8  # 0.125 m/s was asked for
    assert slowed[:, 2] == pytest.approx(-0.4, abs=1e-6)
    walled, _, guarded = pushed(replace(inside, workspace_high_m=(1.0, 1.0, 0.32)))
    assert guarded is not None and guarded.limited_steps > 0 and walled[2] < free[2] - 0.01
    _, _, guarded = pushed(replace(inside, first_command_m=0.005))
    assert guarded is not None and guarded.refused_steps == 8  # every command leads by 12.5 mm at least


def test_variants_change_what_is_seen_and_nothing_else(place: Path) -> None:
    (scene,) = make_twins(place / "kitchen", TwinsConfig(kinds=("point",)))
    nominal = read_folder(scene.folder)[0]
    for name in VARIANTS:
        model = read_folder(scene.folder)[0]
        apply_variant(model, name)
        assert np.array_equal(model.geom_friction, nominal.geom_friction)
        assert np.array_equal(model.body_mass, nominal.body_mass) and np.array_equal(model.geom_pos, nominal.geom_pos)
        looks = ("light_dir", "light_diffuse", "geom_rgba", "cam_pos")
        assert any(not np.array_equal(getattr(model, one), getattr(nominal, one)) for one in looks), name


def test_images_are_seen_in_all_variants_from_one_context(place: Path, tmp_path: Path) -> None:
    from sim.rendering import choose_gl

    try:
        choose_gl()
    except Exception as error:
        pytest.skip(str(error))
    small = ("policy.inputs.image_channels=[4,4,4]", "policy.inputs.image_features=8", *SMALL)
    write_policy(place / "seeing", 2, *small, cameras=("front",))
    words = ["episodes=2", "twins.kinds=[point]", "variants=[dark,camera_turned]", "films=1", "--jobs", "1"]
    out = tmp_path / "out"
    runs = [str(place / "seeing"), str(place / "score")]
    assert main(["evaluate", "--twin", str(place / "kitchen"), *runs, *words, "--out", str(out)]) == 0
    rows = read_table(out / EPISODES)
    assert {row.variant for row in rows if row.policy == "seeing"} == {"", "dark", "camera_turned"}
    assert {row.variant for row in rows if row.policy == "score"} == {""}
    films = [row for row in rows if row.film]
    assert {(row.policy, row.start, row.variant) for row in films} == {("seeing", 0, ""), ("score", 0, "")}
    assert all((out / row.film).stat().st_size > 1000 for row in films)
    ends = {row.variant: row.tcp_x_m for row in rows if row.policy == "seeing" and row.start == 1}
    assert len(set(ends.values())) == 3  # it sees the difference
    assert json.loads((out / "ranking.json").read_text())["variants"]["seeing"]["by_variant"].keys() == {
        "nominal", "dark", "camera_turned",
    }  # fmt: skip


def test_real_trials_by_hand_sharpen_the_estimate(place: Path, tmp_path: Path) -> None:
    trials = tmp_path / "trials.csv"
    trials.write_text("policy,start,success\n" + "".join(f"score,{i},0\nflow,{i},{i % 2}\n" for i in range(4)))
    out = tmp_path / "out"
    assert main([*command(place, out, "episodes=6", "twins.kinds=[point]"), "--real", str(trials)]) == 0
    found = json.loads((out / "ranking.json").read_text())
    assert found["real"]["flow"]["alone"] == {
        "rate": 0.5,
        "interval_95": pytest.approx([0.150, 0.850], abs=1e-3),
        "wilson_interval_95": pytest.approx([0.150, 0.850], abs=1e-3),
        "n": 4,
    }
    low, high = found["real"]["flow"]["betting_interval_95"]
    assert low < 0.150 and high > 0.850  # no more is certain after four trials
    assert found["agreement"]["point"]["policies"] == 2 and found["agreement"]["point"]["pearson"] is None
    assert found["ranking"]["words"][0].startswith("no ranking")


def test_what_is_wrong_is_said(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err

    work, run = str(place / "kitchen"), str(place / "score")
    assert "two policies are called score" in said("--twin", work, run, run)
    assert "no work folder" in said("--twin", str(tmp_path), run)
    assert ["valid choices", "point, identified, ensemble"][0] in said("--twin", work, run, "twins.kinds=[real]")
    assert "brown" in said("--twin", work, run, "variants=[brown]")
    assert "--critic: not of an evaluation in twins" in said("--twin", work, run, "--critic", run)
    assert "episodes and together" in said("--twin", work, run, "episodes=0")
    (tmp_path / "bad.csv").write_text("policy,start\nscore,1\n")
    assert "success (0 or 1)" in said("--twin", work, run, "--real", str(tmp_path / "bad.csv"))
    lift = write_policy(tmp_path / "other", 0, *SMALL)
    text = json.loads((lift / "experiment.json").read_text())
    text["task"]["env"]["translation_m"] = 0.02
    (lift / "experiment.json").write_text(json.dumps(text))
    assert "the tasks differ in env.translation_m" in said("--twin", work, str(lift))
