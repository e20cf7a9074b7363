"""The page of an evaluation: what it says is what the table holds, and it needs nothing from elsewhere."""

from __future__ import annotations

import html
import re

import imageio.v2 as imageio
import numpy as np
import pytest

from robot_rl.apps import cli
from robot_rl.apps.twin_ranking import summarize
from robot_rl.apps.twin_report import success_by_kind
from robot_rl.evaluation_table import EPISODES, read_table, read_trials
from robot_rl.paired import columns
from tests.twin_tables import even, rows, write

RATES = {"slow": even(0.9, 0.3), "quick": even(0.95, 0.6), "sure": even(0.95, 0.9)}
REAL = {"slow": {"real": 0.25}, "quick": {"real": 0.65}, "sure": {"real": 0.85}}


@pytest.fixture
def folder(tmp_path):
    """An evaluation with two films of one start and one of another; failures in a corner."""
    found = rows(RATES, starts=40)
    for row in found:
        if not row["success"]:
            row |= {"tcp_x_m": 0.3, "tcp_y_m": 0.0, "object_x_m": 0.6, "object_y_m": 0.14, "steps": 33}
    (tmp_path / "films").mkdir()
    for policy, start in (("slow", 3), ("sure", 3), ("slow", 4)):
        film = f"films/{policy}_{start}.mp4"
        with imageio.get_writer(tmp_path / film, fps=10, codec="libx264") as writer:
            for _ in range(3):
                writer.append_data(np.zeros((32, 32, 3), np.uint8))
        row = next(r for r in found if (r["policy"], r["world"], r["start"]) == (policy, "ensemble_01", start))
        row["film"] = film
    return write(tmp_path, found)


def text_of(page: str) -> str:
    return re.sub(r"data:[^']+", "", page)


def test_the_page(folder, tmp_path):
    write(tmp_path / "trials", rows(REAL, starts=20))
    assert cli.main(["twin", "report", str(folder), "--real", str(tmp_path / "trials" / EPISODES)]) == 0
    page = (folder / "report.html").read_text()
    text = text_of(page)
    assert "http" not in text and "<script" not in text and text.count("<img") == 4
    assert "sure; then quick; then slow" in text
    order = [text.index(f"<td>{name}</td>") for name in ("sure", "quick", "slow")]
    assert order == sorted(order)
    assert "<td>0.30 [" in text
    # real trials beside twins: 5 of 20 alone, Wilson's [0.112, 0.469]
    assert "with twins, any number of trials" in text and "<td>slow</td><td>20</td><td>0.25 [0.11, 0.47]</td>" in text
    # the guard, in 160 episodes of which 16 end after 33 steps: 5 each of 144 * 100 + 16 * 33 commands
    assert "<td>sure</td><td>ensemble</td><td>160</td><td>14928</td><td>5.36%</td><td>0.00%</td>" in text
    assert text.count("<video") == 2 and "ensemble_01, scene_0000, start 3" in text and "start 4" not in text
    assert "href='episodes.parquet'" in text and "href='trials/episodes.parquet'" in text and "href='films'" in text
    assert "cluster 1" in text and "0.60 ± 0.00, 0.14 ± 0.00" in text and "33 (33 to 33)" in text


def test_agreement_with_reality_by_hand(folder, tmp_path):
    write(tmp_path / "trials", rows(REAL, starts=20))
    rates = success_by_kind(columns([*read_table(folder / EPISODES), *read_trials(tmp_path / "trials" / EPISODES)]))
    assert list(rates) == ["sure", "quick", "slow"]
    assert {name: round(one["real"].value, 2) for name, one in rates.items()} == {
        "sure": 0.85,
        "quick": 0.65,
        "slow": 0.25,
    }
    cli.main(["twin", "report", str(folder), "--real", str(tmp_path / "trials" / EPISODES)])
    text = text_of((folder / "report.html").read_text())
    r = np.corrcoef([0.25, 0.65, 0.85], [0.3, 0.6, 0.9])[0, 1]
    assert f"<td>ensemble</td><td>{r:.2f} [-1.00, 1.00]</td>" in text  # of three policies no interval
    # the point twin takes quick and sure for equal: the worse of the two counts with 0.85 - 0.65, of three
    assert "<td>0.067</td>" in text


def test_without_real_trials_and_films_it_says_so(tmp_path):
    folder = write(tmp_path, rows({"a": even(1.0, 1.0)}, starts=10))
    assert cli.main(["twin", "report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    text = text_of((tmp_path / "page.html").read_text())
    assert "No agreement can be told" in text and "No ranking" in text and "No two policies were filmed" in text
    assert "any number of trials" not in text
    assert "<h2>Failures</h2><p>None.</p>" in text


def test_failures_are_grouped_in_their_scene_and_the_page_may_lie_in_a_new_folder(tmp_path):
    """All fail, in two scenes at the same place: two clusters of 10, and not one of 20."""
    failed = rows({"a": {"ensemble_00": 0.0}}, starts=10)
    place = {"tcp_x_m": 0.3, "tcp_y_m": 0.0, "object_x_m": 0.6, "object_y_m": 0.14}
    folder = write(tmp_path / "out", [row | place | {"scene": one} for one in ("bench", "kitchen") for row in failed])
    out = tmp_path / "pages" / "door.html"
    assert cli.main(["twin", "report", str(folder), "--out", str(out)]) == 0
    text = text_of(out.read_text())
    assert text.count("<td>cluster 1</td><td>10</td>") == 2 and text.index("<h3>bench") < text.index("<h3>kitchen")
    assert "href='../out/episodes.parquet'" in text
    assert cli.main(["twin", "report", str(tmp_path / "none")]) == 2 and not (tmp_path / "none").exists()


def test_one_member_of_the_ensemble_says_nothing_of_other_worlds(tmp_path):
    folder = write(tmp_path, rows({"a": {"ensemble_00": 0.2}, "b": {"ensemble_00": 0.9}}))
    assert cli.main(["twin", "report", str(folder)]) == 0
    assert "ensemble has one member" in (folder / "report.html").read_text()


def test_a_guard_that_was_not_there_changed_nothing_that_is_told(tmp_path):
    folder = write(tmp_path, [row | {"limited_steps": 0} for row in rows({"a": even(0.5, 0.5)}, starts=10)])
    (folder / "evaluation.json").write_text('{"policies": {}, "configuration": {"guarded": false}}')
    page, plain = folder / "report.html", folder / "plain.html"
    assert cli.main(["twin", "report", str(folder)]) == 0
    text = text_of(page.read_text())
    assert "Nobody guarded the twins of this evaluation" in text and "0.00%" not in text
    trials = write(tmp_path / "trials", rows({"a": {"real": 0.5}}, starts=10)) / EPISODES
    cli.main(["twin", "report", str(folder), "--real", str(trials)])  # the arm was guarded all the same
    assert "<td>a</td><td>real</td><td>10</td><td>1000</td><td>5.00%</td>" in text_of(page.read_text())
    (folder / "evaluation.json").unlink()
    cli.main(["twin", "report", str(folder), "--out", str(plain)])
    assert "does not say whether its twins were guarded" in text_of(plain.read_text())


def test_names_are_escaped(tmp_path):
    folder = write(tmp_path, rows({"<b>a</b>": even(0.5, 0.5)}, starts=10))
    cli.main(["twin", "report", str(folder)])
    assert "<b>a</b>" not in (folder / "report.html").read_text()


def test_a_film_outside_the_folder_is_not_shown(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"x")
    found = rows({"a": even(0.5, 0.5), "b": even(0.5, 0.5)}, starts=4)
    for row in found:
        row["film"] = "../secret.mp4"
    folder = write(tmp_path / "evaluation", found)
    cli.main(["twin", "report", str(folder)])
    assert "<video" not in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [(["nowhere"], "is no table of episodes"), (["real", "--real", "real/episodes.parquet"], "holds no real trial")],
)
def test_what_is_wrong_is_told(tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "real", rows({"a": even(0.5, 0.5)}, starts=4))
    assert cli.main(["twin", "report", *words]) == 2
    assert text in capsys.readouterr().err


def test_two_checkpoints_by_one_name_are_refused(tmp_path, capsys):
    found = rows({"a": even(0.5, 0.5), "b": even(0.5, 0.5)}, starts=4)
    for row in found:
        row["policy"] = "a"
    assert cli.main(["twin", "report", str(write(tmp_path, found))]) == 2
    assert "two checkpoints go by the name a" in capsys.readouterr().err


def test_real_trials_may_know_policies_by_name_alone(folder, tmp_path):
    lines = [f"{row['policy']},{row['start']},{int(row['success'])}" for row in rows(REAL, starts=20)]
    trials = tmp_path / "trials.csv"
    trials.write_text("\n".join(["policy,start,success", *lines]))
    cli.main(["twin", "report", str(folder), "--real", str(trials)])
    assert "<td>0.067</td>" in text_of((folder / "report.html").read_text())


def test_a_name_that_was_not_evaluated_leaves_the_page_as_it_is(folder, tmp_path, capsys):
    lines = [f"{row['policy']},{row['start']},{int(row['success'])}" for row in rows(REAL, starts=20)]
    trials = tmp_path / "trials.csv"
    trials.write_text("\n".join(["policy,start,success", *lines, "Sure,0,1"]))
    assert cli.main(["twin", "report", str(folder), "--real", str(trials)]) == 0
    text = text_of((folder / "report.html").read_text())
    assert "sure; then quick; then slow" in text and "<td>0.067</td>" in text and "<td>Sure</td>" not in text
    for said in (capsys.readouterr().out, html.unescape(text)):
        assert "'Sure' not evaluated (a misspelling?)" in said and "valid names: 'quick', 'slow', 'sure'" in said


def test_a_policy_of_real_trials_alone_does_not_empty_the_ranking(tmp_path):
    found = rows({"a": {**even(0.2, 0.2), "real": 0.2}, "b": even(0.9, 0.9), "c": {"real": 0.5}})
    folder = write(tmp_path, found)
    cli.main(["twin", "report", str(folder)])
    assert "<li>b; then a</li>" in (folder / "report.html").read_text()


def test_without_an_ensemble_the_point_twin_ranks_as_in_evaluate(tmp_path):
    folder = write(tmp_path, rows({"a": {"point": 0.2}, "b": {"point": 0.9}}))
    cli.main(["twin", "report", str(folder)])
    text = text_of((folder / "report.html").read_text())
    assert "Ranking by the point twin" in text and "No ensemble was evaluated" in text and "No ranking" not in text
    ranking = summarize(read_table(folder / EPISODES))["ranking"]
    assert ranking["by"] == "point" and f"<li>{ranking['words'][0]}</li>" in text and "<li>b; then a</li>" in text
    assert text.index("<td>b</td>") < text.index("<td>a</td>")


def test_links_to_films_are_addresses_and_stay_inside(tmp_path):
    found = rows({"a #1": even(0.2, 0.2), "b": even(0.2, 0.2)})
    folder = tmp_path / "evaluation"
    (folder / "films" / "a #1").mkdir(parents=True)
    (folder / "films" / "a #1" / "50%.mp4").write_bytes(b"x")
    (tmp_path / "secret.mp4").write_bytes(b"x")
    for row in found:
        row["film"] = "films/a #1/50%.mp4" if row["policy"] == "a #1" else "../secret.mp4"
        row |= {"tcp_x_m": 0.3, "tcp_y_m": 0.0, "object_x_m": 0.6, "object_y_m": 0.14}
    cli.main(["twin", "report", str(write(folder, found))])
    text = text_of((folder / "report.html").read_text())
    assert "href='films/a%20%231/50%25.mp4'" in text and "secret" not in text


def test_dollars_in_names_are_no_formula(tmp_path, capsys):
    folder = write(tmp_path, rows({"a$_$b": even(0.2, 0.9), "act[v1]$_$": even(0.5, 0.5)}))
    write(tmp_path / "trials", rows({"a$_$b": {"real": 0.5}, "act[v1]$_$": {"real": 0.2}}))
    words = ["--real", str(tmp_path / "trials" / EPISODES), "--out", str(tmp_path / "page[v1].html")]
    assert cli.main(["twin", "report", str(folder), *words]) == 0
    assert "page[v1].html" in capsys.readouterr().out
