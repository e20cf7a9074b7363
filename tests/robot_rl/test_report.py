"""The summary's figures, computed by hand from a few records."""

import json
import math
from dataclasses import asdict

import pytest

from robot_rl.apps.report import summarize, write_report
from robot_rl.records import EpisodeRecord
from robot_rl.statistics import wilson_interval


def record(phase, success, steps, wall_s, interventions=0, discarded=False):
    duration_s = steps / 10
    return EpisodeRecord(phase, success, steps, interventions, duration_s, 1.0, 0, wall_s, 0, discarded)


RECORDS = [
    record("demo", True, 40, 5.0),
    record("demo", False, 90, 15.0),
    record("learn", True, 60, 22.0, interventions=30),
    record("learn", False, 60, 29.0, interventions=15),
    record("learn", True, 600, 90.0),
    record("evaluate", True, 20, 93.0),
    record("evaluate", True, 30, 97.0),
    record("evaluate", False, 100, 108.0),
    record("evaluate", False, 5, 109.0, discarded=True),
]


def test_summary_by_hand():
    summary = summarize(RECORDS, rate_hz=10.0, learner_updates=123)
    assert summary["success_rate"] == pytest.approx(2 / 3)
    assert summary["episodes"] == 3 and summary["demonstrations"] == 1
    assert summary["env_steps"] == 720 and summary["learner_updates"] == 123
    assert summary["learn_minutes"] == pytest.approx((72 + 3) / 60)
    # learning lasts from 15 s to 90 s; 3 s of it are resets and 72 s are data
    assert summary["duty_cycle"] == pytest.approx(72 / 72)
    assert summary["mean_success_steps"] == 25 and summary["mean_demonstration_steps"] == 40
    assert [one["rate"] for one in summary["intervention_rate"]] == [pytest.approx(45 / 120), 0.0]


def test_a_simulation_that_does_not_keep_to_the_clock_has_no_duty_cycle():
    assert math.isnan(summarize(RECORDS, rate_hz=None, learner_updates=0)["duty_cycle"])


def test_report_is_one_page_and_its_json_has_no_nan(tmp_path):
    lines = "".join(json.dumps({name: getattr(one, name) for name in one.__slots__}) + "\n" for one in RECORDS[:2])
    (tmp_path / "episodes.jsonl").write_text(lines)
    write_report(tmp_path, 10.0, 0, "a <title>")
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["success_rate"] is None and summary["duty_cycle"] is None
    page = (tmp_path / "report.html").read_text()
    assert "a &lt;title&gt;" in page and "data:image/png;base64," in page and "http://" not in page


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # computed with statsmodels' proportion_confint(method="wilson")
    [(0, 10, 0.0, 0.27754), (10, 10, 0.72246, 1.0), (48, 50, 0.86539, 0.98896), (1, 2, 0.09453, 0.90547)],
)
def test_wilson_interval_against_statsmodels(successes, trials, low, high):
    assert wilson_interval(successes, trials) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_an_episode_broken_off_before_its_first_step_is_no_trouble(tmp_path):
    (tmp_path / "episodes.jsonl").write_text(
        "".join(
            json.dumps(asdict(one)) + "\n" for one in [*RECORDS[:4], record("learn", False, 0, 30.0, discarded=True)]
        )
    )
    assert write_report(tmp_path, 10.0, 1, "cut")["env_steps"] == 120
    assert (tmp_path / "report.html").exists()
