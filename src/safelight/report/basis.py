"""Which numbers may share a column: those that were taken the same way.

Every number carries its basis: the facts it depends on besides the weights it judges. Numbers share a
column if their bases are equal; where they are not, the facts that differ are the reason, in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Basis = Mapping[str, str]


@dataclass(frozen=True)
class Number:
    """A value, as well as it is known."""

    value: float  # NaN where there is none
    error: float = math.nan  # standard error within the run, or over subsets; it knows nothing of other seeds
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
        """Names of the numbers, in the order they first appear."""
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
    return tuple(NumberColumn(own[0].basis, tuple(own)) for own in groups.values())


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
            return "{" + ", ".join(f"{name} = {worded(own)}" for name, own in value.items()) + "}"
        case float():
            return f"{value:.10g}"
        case _:
            return str(value)


@dataclass(frozen=True)
class NumberTable:
    """Numbers of one kind: columns, and why there is more than one."""

    columns: tuple[NumberColumn, ...] = ()
    apart: tuple[Apart, ...] = field(default=())

    @classmethod
    def of(cls, rows: Iterable[NumberRow]) -> NumberTable:
        """Rows that hold a number, told apart by their bases."""
        columns = together(row for row in rows if row.numbers)
        return cls(columns, apart(columns))
