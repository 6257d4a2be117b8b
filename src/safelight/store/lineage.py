"""Which run came from which: a fork's steps before its first one are those of the run it came from."""

from __future__ import annotations

import math
from collections.abc import Iterator

from safelight.config import UserError
from safelight.store import metrics
from safelight.store.journal import holding
from safelight.store.metrics import Line, Row
from safelight.store.run import RunDirectory, names


def parent_of(directory: RunDirectory) -> RunDirectory | None:
    """The run that a fork came from, found by its id beside it; None where it is not there, or is no fork.

    Raises UserError if the run itself is damaged; damaged neighbours are passed over.
    """
    parent = directory.info().parent
    for name in names(directory.path.parent) if parent else ():
        other = RunDirectory(directory.path.parent / name)
        try:
            if parent and other.info().id == parent.run:
                return other
        except UserError:
            continue
    return None


def ancestors(directory: RunDirectory) -> Iterator[RunDirectory]:
    """The runs that a run came from, from its parent on, as far as they are here.

    Raises UserError for a run that came from itself.
    """
    seen = {directory.info().id}
    while (found := parent_of(directory)) is not None:
        if (id := found.info().id) in seen:
            raise UserError(f"{directory.path}: came from itself (by {found.name}); a run.json is wrong")
        seen.add(id)
        yield found
        directory = found


def owner_of(directory: RunDirectory, step: int) -> RunDirectory:
    """The run itself, or the one among those it came from, whose own steps lead to `step`.

    Raises UserError where that one is not there.
    """
    above = ancestors(directory)
    while (parent := directory.info().parent) and step < parent.step:
        found = next(above, None)
        if found is None:
            raise UserError(
                f"{directory.name}: begins at step {parent.step}, and the run it was forked from is not in "
                f"{directory.path.parent}; put it back there to reach step {step}"
            )
        directory = found
    return directory


def recorded(directory: RunDirectory) -> list[Line]:
    """The lines of metrics of a run; before a fork's first step, those of its parent, if it is there."""
    lines: list[Line] = []
    first = math.inf
    for one in (directory, *ancestors(directory)):
        own, parent = metrics.merged(one.path), one.info().parent
        lines = [*(line for line in own if line["step"] < first), *lines]
        first = min(first, parent.step if parent else 0)
    return lines


def last_rows(directory: RunDirectory, count: int, before: float = math.inf) -> list[Row]:
    """The rows of the last `count` steps before a step, likewise, by increasing step."""
    rows: list[Row] = []
    above = ancestors(directory)
    one: RunDirectory | None = directory
    while one is not None and len(rows) < count:
        rows = [*metrics.last_rows(one.path, count - len(rows), before), *rows]
        parent = one.info().parent
        before = min(before, parent.step if parent else 0)
        one = next(above, None) if parent and len(rows) < count else None
    return rows


def verdicts(directory: RunDirectory, step: float = math.inf) -> list[str]:
    """Names of the verdicts in force after so many steps, those that a fork began with among them."""
    line = [directory, *ancestors(directory)]
    limits = [step]
    for one in line[:-1]:
        parent = one.info().parent
        limits.append(min(limits[-1], parent.step if parent else math.inf))
    before: list[str] = []
    for one, limit in zip(reversed(line), reversed(limits), strict=True):
        before = holding(one.journal(), limit, before)
    return before
