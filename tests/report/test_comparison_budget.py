"""Equal budgets: everyone is compared as far as two came, and nobody shortens the comparison of others."""

from __future__ import annotations

import math

import pytest

from safelight.report.budgets import Budget, budgets, rows_within, sheet_within
from safelight.report.budgets import of as budgets_of
from safelight.report.records import record_of


def amounts(**reaches: float) -> list[tuple[float, tuple[str, ...]]]:
    return [(budget.amount, budget.runs) for budget in budgets(reaches, "images")]


def test_the_largest_budget_is_what_two_runs_came_to():
    assert amounts(a=100, b=60) == [(60, ("a", "b"))]
    assert amounts(a=100) == []
    assert amounts(a=100, b=0) == []


def test_a_run_that_came_less_far_has_a_budget_of_its_own():
    assert amounts(a=1000, b=30, c=1000) == [(1000, ("a", "c")), (30, ("a", "b", "c"))]
    assert amounts(a=1000, b=30, c=1000, dead=0) == amounts(a=1000, b=30, c=1000)


def test_nearly_equal_reaches_share_the_least_of_them():
    assert amounts(a=100, b=99, c=95, d=50) == [(95, ("a", "b", "c")), (50, ("a", "b", "c", "d"))]
    chain = {str(n): 100 * 0.93**n for n in range(8)}  # each near the next, not all near the first
    shared = budgets(chain, "images")
    for name, reach in list(chain.items())[1:]:
        best = max(budget.amount for budget in shared if name in budget.runs)
        assert 0.9 * reach <= best <= reach  # nobody loses more than a tenth
    assert len(shared) == 4


def test_rows_are_paid_for_up_to_the_budget_and_not_beyond(made):
    run = made.read("a", seconds=lambda step: 36.0)  # 10 images and a hundredth of an hour a step
    assert rows_within(run.record, Budget("images", 500, ())) == 50
    assert rows_within(run.record, Budget("images", 509, ())) == 50
    assert rows_within(run.record, Budget("images", 9, ())) == 0
    assert rows_within(run.record, Budget("hours", 0.3, ())) == 30
    assert rows_within(run.record, Budget("hours", 99, ())) == 100


@pytest.mark.parametrize(
    ("images", "step"), [(1000, 100), (999, 50), (500, 50), (499, 25), (250, 25), (249, None)]
)
def test_a_sheet_is_the_last_one_drawn_within_the_budget(made, images, step):
    run = made.read("a", sheets=(25, 50, 100))
    last = sheet_within(run, Budget("images", images, ("a",)))
    assert (last.step if last else None) == step


def test_no_sheet_is_taken_from_after_the_loss_was_lost(made):
    run = made.read("a", losses=lambda step: math.nan if step >= 60 else 1.0)
    assert run.record.reach("images") == 600
    assert sheet_within(run, Budget("images", 1000, ("a",))).step == 50


def test_a_single_lost_step_does_not_end_a_run(made):
    run = made.read("a", losses=lambda step: math.inf if step == 20 else 1.0)
    assert run.record.reach("images") == 1000
    assert run.fate == ""


def test_hours_count_what_was_spent_inside_steps(made):
    fast, slow = made.read("fast", seconds=lambda step: 36), made.read("slow", seconds=lambda step: 72)
    (budget,) = budgets_of([fast, slow], "hours")
    assert budget.amount == pytest.approx(1.0)
    assert rows_within(fast.record, budget) == 100
    assert rows_within(slow.record, budget) == 50


def test_an_empty_record_reaches_nothing():
    assert record_of([]).reach("images") == 0
    assert record_of([]).components == ()
