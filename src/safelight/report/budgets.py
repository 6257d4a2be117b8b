"""Equal budgets, of images or hours, at which runs are compared.

A run that came less far is compared where it came, and does not shorten the comparison of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from safelight.report.facts import RunFacts, Sheet
from safelight.report.records import Axis, MetricsRecord

NEAR = 0.9  # reaches within this ratio of each other are compared at the least of them


@dataclass(frozen=True)
class Budget:
    """An amount that some runs were given."""

    axis: Axis
    amount: float  # images, or hours
    runs: tuple[str, ...]  # that were given as much, in the order they were named


def budgets(reaches: Mapping[str, float], axis: Axis) -> tuple[Budget, ...]:
    """The amounts at which at least two runs can be compared, the largest first; () where none can.

    reaches: how far each run came. Reaches of nearly the same size (NEAR) share the least of them.
    """
    descending = sorted((reach for reach in reaches.values() if reach > 0), reverse=True)
    amounts: list[list[float]] = []
    for reach in descending[1:]:
        if amounts and reach >= NEAR * amounts[-1][0]:
            amounts[-1].append(reach)
        else:
            amounts.append([reach])
    return tuple(
        Budget(axis, near[-1], tuple(name for name, reach in reaches.items() if reach >= near[-1]))
        for near in amounts
    )


def rows_within(record: MetricsRecord, budget: Budget) -> int:
    """How many rows of a record the budget pays for, sound ones only."""
    within = int(np.searchsorted(record.along(budget.axis), _at_most(budget.amount), side="right"))
    return min(within, record.sound)


def sheet_within(run: RunFacts, budget: Budget) -> Sheet | None:
    """The last sheet that was drawn within the budget; None where the first came later."""
    record = run.record
    rows = rows_within(record, budget)
    last = int(record.steps[rows - 1]) if rows else 0
    paid = [sheet for sheet in run.sheets if sheet.step <= last]
    return paid[-1] if paid else None


def images_at(run: RunFacts, step: int) -> int:
    """Images a run had seen when so many steps were behind it."""
    return step * run.batch_size


def hours_at(record: MetricsRecord, step: int) -> float:
    """Hours a run had spent inside steps when so many were behind it."""
    rows = int(np.searchsorted(record.steps, step, side="right"))
    return float(record.hours[rows - 1]) if rows else 0.0


def of(runs: Sequence[RunFacts], axis: Axis) -> tuple[Budget, ...]:
    """The budgets of some runs."""
    return budgets({run.name: run.record.reach(axis) for run in runs}, axis)


def _at_most(amount: float) -> float:
    return amount * (1 + 1e-9)  # sums of seconds differ in their last digits
