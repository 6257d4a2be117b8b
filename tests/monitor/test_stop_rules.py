"""The rules of [stop], on measurements as they are recorded."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from safelight.monitor.stop import FiniteSteps, StopRules, measured, reached, unknown
from safelight.store.metrics import MetricsRow

NAN = math.nan


def course(name: str, *values: float) -> list[tuple[int, dict[str, float]]]:
    return [(10 * number, {name: value}) for number, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("goal", "value", "ends"),
    [
        ("held_out/mse <= 0.5", 0.5, True),
        ("held_out/mse <= 0.5", 0.51, False),
        ("held_out/mse<=5e-1", NAN, False),
        ("held_out/mse >= 0.5", 0.5, True),
    ],
)
def test_a_goal(goal, value, ends):
    assert bool(reached(StopRules(goal=goal), course("held_out/mse", 9.0, value))) == ends


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ((3, 2, 2, 2), True),
        ((3, 2, 2), False),
        ((3, 2, 2, 1), False),
        ((NAN, 2, NAN, NAN), True),
        ((), False),
    ],
)
def test_patience_counts_from_the_best(values, ends):
    assert bool(reached(StopRules(patience=2), course("held_out/mean", *values))) == ends


def test_more_is_better_of_what_is_no_distance():
    rules = StopRules(patience=2)
    assert reached(rules, course("evaluate/coverage", 0.1, 0.2, 0.3)) == ""
    assert "no better than 0.3 of step 10" in reached(rules, course("evaluate/coverage", 0.3, 0.2, 0.1))
    assert reached(rules, course("evaluate/FD-classifier", 0.3, 0.2, 0.1)) == ""


def test_patience_waits_for_its_metric():
    numbers = [
        (1, {"held_out/a": 1.0, "evaluate/KID": 1.0}),
        (2, {"held_out/a": 2.0}),
        (3, {"held_out/a": 2.0}),
    ]
    assert reached(StopRules(patience=1), numbers) == ""  # KID, which was not measured again
    assert "held_out/a" in reached(StopRules(patience=2, metric="held_out/a"), numbers)


@pytest.mark.parametrize("goal", ["held_out/mse < 3", "held_out/mse <= x", "<= 3", "raw/mse <= 3"])
def test_goals_that_are_none(goal):
    with pytest.raises(ValidationError):
        StopRules(goal=goal)


def test_columns_that_are_not_measured():
    rules = StopRules(goal="evaluate/FD <= 3", patience=1, metric="held_out/mse")
    assert unknown(rules, {"held_out/v": 1.0}) == ["held_out/mse"]
    assert unknown(rules, {"evaluate/FD-classifier": 1.0}) == ["evaluate/FD"]
    assert unknown(StopRules(), {"held_out/v": 1.0}) == []


def test_steps_in_a_row_without_a_finite_gradient():
    def row(step: int, norm: float) -> MetricsRow:
        return MetricsRow(step, {}, 0.0, {}, 0, 0.0, "0" * 16, {"grad_norm/a": 1.0, "grad_norm/b": norm})

    finite = FiniteSteps()
    norms = [NAN, 1.0, NAN, math.inf, NAN]
    assert [finite.add(row(step, norm)) for step, norm in enumerate(norms)] == [1, 0, 1, 2, 3]
    assert finite.since == 2


def test_the_mean_of_what_is_held_out():
    numbers = {"held_out/t 0.0-0.5": 1.0, "held_out/t 0.5-1.0": 2.0, "raw/mse": 9.0}
    assert measured(numbers)["held_out/mean"] == 1.5
    assert "raw/mse" not in measured(numbers)
    assert measured({"raw/mse": 9.0}) == {}
