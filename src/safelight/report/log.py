"""The log of a project: every run against its parent, or against the run before it. Facts only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from safelight.report import numbers
from safelight.report.basis import MEAN, Number, NumberRow, NumberTable
from safelight.report.basis import cost as cost_of
from safelight.report.budgets import Budget
from safelight.report.comparison import Comparison, compare, run_to_dict, to_plain
from safelight.report.facts import RunFacts
from safelight.report.settings import SettingDifference, SettingEdit
from safelight.report.vae import bounds

Relation = Literal["parent", "before", "first"]


@dataclass(frozen=True)
class Value:
    """One number of a run, and beside it the same of the run it is compared with."""

    name: str
    end: Number  # as far as the run came
    now: Number | None = None  # at equal images seen
    before: Number | None = None
    why_not: str = ""  # what forbids to put the other run's beside it; "" where that did not measure it
    images: tuple[int, int] = (0, 0)  # seen when `now` and `before` were taken


@dataclass(frozen=True)
class LogEntry:
    """A run in the log."""

    run: RunFacts
    number: int  # from 1, the oldest
    before: RunFacts | None
    relation: Relation
    changes: tuple[SettingDifference, ...] = ()  # values by run: the other one's first
    edits: tuple[SettingEdit, ...] = ()
    values: tuple[Value, ...] = ()
    equal_images: int = 0  # at which `now` and `before` were taken; 0 where there is no such point
    seconds_per_kimg: float = float("nan")

    @property
    def comparable(self) -> bool:
        """Whether its losses may be drawn in one panel with those of the other run."""
        return any(value.before is not None for value in self.values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        plain = {
            "against": self.before.name if self.before else None,
            "relation": self.relation,
            "changes": self.changes,
            "interventions": self.edits,
            "equal_images": self.equal_images,
            "values": self.values,
            "seconds_per_kimg": self.seconds_per_kimg,
        }
        return {**run_to_dict(self.run), **to_plain(plain)}


def log(runs: Sequence[RunFacts]) -> tuple[LogEntry, ...]:
    """Every run, the newest first; unreadable ones come last, as their dates are not known."""
    ordered = sorted(runs, key=lambda run: (run.created, run.name))
    entries = [_entry(run, ordered[:place], place + 1) for place, run in enumerate(ordered)]
    return tuple(reversed(entries))


def origin(run: RunFacts, earlier: Sequence[RunFacts]) -> tuple[RunFacts | None, Relation]:
    """What a run is a change of: its parent, else the run before it of the same recipe and data.

    Recipes that are numbered, such as faces-1 and faces-2, are one experiment.
    """
    readable = [other for other in earlier if other.readable]
    parent = next((other for other in readable if run.parent and other.id == run.parent.run), None)
    if parent:
        return parent, "parent"
    same = [other for other in readable if _kind(other) == _kind(run)]
    return (same[-1], "before") if same else (None, "first")


def _entry(run: RunFacts, earlier: Sequence[RunFacts], number: int) -> LogEntry:
    if not run.readable:
        return LogEntry(run, number, None, "first")
    before, relation = origin(run, earlier)
    comparison = compare([before, run] if before else [run])
    cost = cost_of(run).numbers
    return LogEntry(
        run,
        number,
        before,
        relation,
        changes=comparison.settings,
        edits=tuple(edit for edit in comparison.edits if edit.run == run.name),
        values=tuple(_values(run, before, comparison)),
        equal_images=round(comparison.at[0].budget.amount) if comparison.at else 0,
        seconds_per_kimg=cost[MEAN].value if cost else float("nan"),
    )


def _kind(run: RunFacts) -> tuple[str, object]:
    return re.sub(r"-\d+$", "", run.recipe), run.data.get("fingerprint")


def _values(run: RunFacts, before: RunFacts | None, comparison: Comparison) -> Iterator[Value]:
    """Components and held-out losses, at the end and at equal images seen; the latest metrics."""
    reach = run.record.reach("images")
    if not reach:
        return
    end = Budget("images", reach, (run.name,))
    at = comparison.at[0] if comparison.at else None
    nothing = NumberTable()
    learned = bounds([run], end).table
    if learned.columns:  # of a variational autoencoder: held out, and on a basis free of its weights
        beside = _beside(learned.columns[0].rows[0], before, at.bounds.table if at else nothing)
        yield from (replace(value, name=f"held-out {value.name}") for value in beside)
    yield from _beside(numbers.components(run, end), before, at.components if at else nothing)
    if not learned.columns:
        yield from _beside(numbers.held_out(run, end), before, at.held_out if at else nothing)
    stored = numbers.metrics(run)
    for row in stored:
        yield from _beside(row, before, comparison.metrics)
    if not stored:
        measured = numbers.measured_while_training(run, end)
        yield from _beside(measured, before, at.measured if at else nothing)


def _beside(end: NumberRow, before: RunFacts | None, table: NumberTable) -> Iterator[Value]:
    """The numbers of a row, each with what stands in one column with it."""
    for name, number in end.numbers.items():
        shared = (column for column in table.columns if end.run in column.runs and name in column.names)
        rows = {row.run: row for column in list(shared)[:1] for row in column.rows}
        now, then = rows.get(end.run), rows.get(before.name) if before else None
        other = then.numbers.get(name) if then else None
        elsewhere = (
            before
            and other is None
            and any(
                row.run == before.name and name in row.numbers
                for column in table.columns
                for row in column.rows
            )
        )
        why = (
            next((", ".join(fact[0] for fact in reason.facts) for reason in table.apart), "")
            if elsewhere
            else ""
        )
        images = now.images if now else 0, then.images if then else 0
        yield Value(name, number, now.numbers.get(name) if now else None, other, why, images)
