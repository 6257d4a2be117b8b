"""Which numbers may share a column, and the cost of training as one of them.

Every number carries its basis: the facts it depends on besides the weights it judges. Numbers share a
column if their bases are equal; where they are not, the facts that differ are the reason, in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safelight.render.trends import Series
from safelight.report.facts import RunFacts

Basis = Mapping[str, str]

MEAN, MEDIAN = "s / kimg", "s / kimg, median part"
PARTS = 20  # of a run, of whose costs the median is taken
MACHINE = ("host", "device", "gpu", "cpu_capability", "threads", "processes", "torch")


@dataclass(frozen=True)
class Number:
    """A value, as well as it is known."""

    value: float  # NaN where there is none
    error: float = (
        math.nan
    )  # standard error within the run, or over subsets; excludes variation between seeds
    floor: float = math.nan  # of a metric: real images against real images
    note: str = ""


@dataclass(frozen=True)
class NumberRow:
    """Numbers of one run that were taken in the same way."""

    run: str
    basis: Basis
    numbers: Mapping[str, Number]
    images: int = 0  # seen by the weights that were judged
    hours: float = 0.0


@dataclass(frozen=True)
class NumberColumn:
    """Rows that may stand under one head."""

    basis: Basis
    rows: tuple[NumberRow, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(row.run for row in self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for row in self.rows for name in row.numbers))


@dataclass(frozen=True)
class Apart:
    """Why the numbers of some runs do not stand beside those of others."""

    runs: tuple[str, ...]
    others: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]  # (fact, of runs, of others)


def together(rows: Iterable[NumberRow]) -> tuple[NumberColumn, ...]:
    """Rows by equal basis, in the order in which the bases first appear."""
    groups: dict[tuple[tuple[str, str], ...], list[NumberRow]] = {}
    for row in rows:
        groups.setdefault(tuple(sorted(row.basis.items())), []).append(row)
    return tuple(NumberColumn(group[0].basis, tuple(group)) for group in groups.values())


def apart(columns: Sequence[NumberColumn]) -> tuple[Apart, ...]:
    """Every column after the first against the one before it that is most like it."""
    reasons = []
    for position, column in enumerate(columns[1:], start=1):
        options = [differing(column.basis, other.basis) for other in columns[:position]]
        nearest = min(range(position), key=lambda index: len(options[index]))
        reasons.append(Apart(column.runs, columns[nearest].runs, options[nearest]))
    return tuple(reasons)


def differing(basis: Basis, other: Basis) -> tuple[tuple[str, str, str], ...]:
    """(fact, here, there) of every fact in which two bases differ."""
    names = dict.fromkeys([*basis, *other])
    return tuple(
        (name, basis.get(name, "not stated"), other.get(name, "not stated"))
        for name in names
        if basis.get(name) != other.get(name)
    )


def worded(value: Any) -> str:
    """A value of a recipe as TOML says it, near enough; equal words for equal values."""
    match value:
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return "[" + ", ".join(map(worded, value)) + "]"
        case Mapping() if not value:
            return "none"
        case Mapping():
            return "{" + ", ".join(f"{name} = {worded(inner)}" for name, inner in value.items()) + "}"
        case float():
            return f"{value:.10g}"
        case _:
            return str(value)


@dataclass(frozen=True)
class NumberTable:
    """Numbers of one kind: columns, and why there is more than one."""

    columns: tuple[NumberColumn, ...] = ()
    apart: tuple[Apart, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[NumberRow]) -> NumberTable:
        """Rows that hold a number, by their bases."""
        columns = together(row for row in rows if row.numbers)
        return cls(columns, apart(columns))


def setting(settings: Mapping[str, Any], key: str, absent: str = "not stated") -> str:
    """A setting in words."""
    return worded(settings[key]) if key in settings else absent


def cost(run: RunFacts) -> NumberRow:
    """Seconds inside steps for a thousand images: over the whole run, and of its median part."""
    record = run.record
    paid = record.images[record.inherited :]  # a fork did not pay for its parent's
    if not len(paid):
        return NumberRow(run.name, machine(run), {})
    images = paid - paid[0] + run.batch_size
    seconds = record.hours[record.inherited :] * 3600
    numbers = {
        MEAN: Number(float(seconds[-1] / images[-1] * 1000)),
        MEDIAN: Number(median_part(seconds, images / 1000)),
    }
    return NumberRow(run.name, machine(run), numbers, int(images[-1]), float(record.hours[-1]))


def median_part(seconds: Series, kimg: Series) -> float:
    """The median of seconds per kimg over PARTS consecutive parts of a run.

    seconds, kimg: (N,) sums up to each step. The parts hold every phase, lazy ones too, as a median over
    steps would not; and unlike the mean, half of the parts may have met a busy machine.
    """
    edges = np.linspace(0, len(seconds), min(PARTS, len(seconds)) + 1).round().astype(int)
    spent = np.diff(np.concatenate([[0.0], seconds])[edges])
    seen = np.diff(np.concatenate([[0.0], kimg])[edges])
    return float(np.median(spent / seen))


def machine(run: RunFacts) -> Basis:
    """What the cost of a step depends on besides the recipe; sessions on different machines are all named."""
    facts = {}
    for name in MACHINE:
        values = dict.fromkeys(
            str(session.environment[name]) for session in run.sessions if name in session.environment
        )
        if values:
            facts[name] = ", then ".join(values)
    return facts
