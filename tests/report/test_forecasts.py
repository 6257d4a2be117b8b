"""A run is forecast by the finished runs of its kind beside it: and before it begins."""

from __future__ import annotations

import json

import pytest

from command_line import run
from compare_runs import DATA, Made
from safelight.monitor.forecast import LEAST
from safelight.monitor.stop import MEAN
from safelight.report.forecasts import basis_of, course_of, forecast_before, forecasts_of
from safelight.store.directory import RunDirectory


def course(rate: float):
    """Held-out losses every ten steps: they fall the faster the higher the rate, to 0.2."""
    return lambda step: {} if (step + 1) % 10 else {
        "held_out/low": 0.1 + (step + 1) ** -(300 * rate), "held_out/high": 0.3 + (step + 1) ** -(300 * rate)
    }  # fmt: skip


RATES = [0.001 * 1.07**place for place in range(LEAST + 3)]


@pytest.fixture
def runs(tmp_path):
    make = Made(tmp_path)
    for rate in RATES:
        make(f"lr-{rate:.5f}", {"optim.lr": rate}, extra=course(rate), sheets=())
    make("other", extra=lambda step: {"held_out/low": 9.0}, data=DATA | {"fingerprint": "d2"}, sheets=())
    make("early", {"optim.lr": 0.0013}, extra=course(0.0013), done=25, end="stopped", sheets=())
    return make


def test_it_comes_within_two_percent_by_the_runs_of_its_kind(runs):
    made = forecasts_of(RunDirectory(runs.runs / "early"))[MEAN]
    assert made.runs == len(RATES)
    assert made.step == 100
    assert made.value == pytest.approx(0.2 + 100 ** -(300 * 0.0013), rel=0.02)
    assert made.low <= 0.2 + 100 ** -(300 * 0.0013) <= made.high


def test_a_finished_run_and_one_before_its_tenth_are_not_forecast(runs):
    assert forecasts_of(RunDirectory(runs.runs / "other")) == {}
    young = runs("young", {"train.steps": 1000}, extra=course(0.001), done=90, end="stopped", sheets=())
    assert len(course_of(young)) == 9
    assert forecasts_of(young) == {}


def test_a_training_that_has_not_begun_is_forecast_by_its_settings(runs):
    tree = RunDirectory(runs.runs / "early").recipe_tree()
    made = forecast_before(tree, "d1", 100, runs.runs)
    assert made.value == pytest.approx(0.2 + 100 ** -(300 * 0.0013), rel=0.02)
    assert forecast_before(tree, "d2", 100, runs.runs) is None
    assert basis_of(tree, "d1") != basis_of({**tree, "method": {"name": "gan"}}, "d1")


def test_show_and_the_report_say_it(runs, monkeypatch, capsys):
    folder = ["--runs", str(runs.runs)]
    code, out, err = run(monkeypatch, capsys, "show", "early", *folder)
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("forecast: ")]
    assert line.endswith(f"at step 100, by {len(RATES)} finished runs")
    _, out, _ = run(monkeypatch, capsys, "show", "early", *folder, "--json")
    assert json.loads(out)["forecast"][MEAN]["runs"] == len(RATES)
    _, out, _ = run(monkeypatch, capsys, "show", "other", *folder, "--json")
    assert json.loads(out)["forecast"] == {}


def test_a_distance_is_forecast_by_runs_measured_alike(tmp_path):
    make = Made(tmp_path)
    columns = lambda rate: lambda step: {} if (step + 1) % 10 else {  # noqa: E731
        "evaluate/FID": 5 + 100 * (step + 1) ** -(300 * rate), "evaluate/coverage": 0.5}  # fmt: skip
    for rate in RATES:
        make(f"lr-{rate:.5f}", {"optim.lr": rate}, extra=columns(rate), sheets=())
    early = make("early", {"optim.lr": 0.0013}, extra=columns(0.0013), done=25, end="stopped", sheets=())
    other = {"optim.lr": 0.0013, "sample.steps": 6}
    elsewhere = make("elsewhere", other, extra=columns(0.0013), done=25, end="stopped", sheets=())
    made = forecasts_of(early)
    assert list(made) == ["evaluate/FID"]  # coverage says little
    assert made["evaluate/FID"].runs == len(RATES)
    assert made["evaluate/FID"].value == pytest.approx(5 + 100 * 100 ** -(300 * 0.0013), rel=0.15)
    assert forecasts_of(elsewhere) == {}
