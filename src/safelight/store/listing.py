"""Runs side by side: which came from which, and what a list shows of each, quick for a thousand runs.

A fork's steps before its first one are those of the run it came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safelight import files
from safelight.config import UserError
from safelight.files import last_lines
from safelight.store import checkpoint_files, journal, metrics, results, sealed
from safelight.store import directory as run_directory
from safelight.store.directory import RunDirectory, names
from safelight.store.durable import mendable
from safelight.store.journal import JournalEntry, holding
from safelight.store.metrics import Line, MetricsRow


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
    while (parent := parent_of(directory)) is not None:
        if (id := parent.info().id) in seen:
            raise UserError(f"{directory.path}: came from itself (by {parent.name}); a run.json is wrong")
        seen.add(id)
        yield parent
        directory = parent


def owner_of(directory: RunDirectory, step: int) -> RunDirectory:
    """The run itself, or the one among those it came from, whose own steps lead to `step`.

    Raises UserError where that one is not there.
    """
    above = ancestors(directory)
    while (parent := directory.info().parent) and step < parent.step:
        owner = next(above, None)
        if owner is None:
            raise UserError(
                f"{directory.name}: begins at step {parent.step}, and the run it was forked from is not in "
                f"{directory.path.parent}; put it back there to reach step {step}"
            )
        directory = owner
    return directory


def recorded(directory: RunDirectory) -> list[Line]:
    """The lines of metrics of a run; before a fork's first step, those of its parent, if it is there."""
    lines: list[Line] = []
    first = math.inf
    for run in (directory, *ancestors(directory)):
        rows, parent = metrics.merged(run.path), run.info().parent
        lines = [*(line for line in rows if line["step"] < first), *lines]
        first = min(first, parent.step if parent else 0)
    return lines


def last_rows(directory: RunDirectory, count: int, before: float = math.inf) -> list[MetricsRow]:
    """The rows of the last `count` steps before a step, likewise, by increasing step."""
    rows: list[MetricsRow] = []
    above = ancestors(directory)
    run: RunDirectory | None = directory
    while run is not None and len(rows) < count:
        rows = [*metrics.last_rows(run.path, count - len(rows), before), *rows]
        parent = run.info().parent
        before = min(before, parent.step if parent else 0)
        run = next(above, None) if parent and len(rows) < count else None
    return rows


def verdicts(directory: RunDirectory, step: float = math.inf) -> list[str]:
    """Names of the verdicts in force after so many steps, those that a fork began with among them."""
    line = [directory, *ancestors(directory)]
    limits = [step]
    for run in line[:-1]:
        parent = run.info().parent
        limits.append(min(limits[-1], parent.step if parent else math.inf))
    before: list[str] = []
    for run, limit in zip(reversed(line), reversed(limits), strict=True):
        before = holding(run.journal(), limit, before)
    return before


# "running": somebody holds its lock. "interrupted": killed, or lost to a power cut. "new": never begun.
# "forked": from another run, and not trained since. "left": by its monitor, for a fork with a remedy, or for
# the run before that.
Status = Literal[
    "new", "forked", "running", "finished", "stopped", "failed", "left", "interrupted", "damaged"
]  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """A distance of samples to real images, and that of real images to real images, its floor."""

    step: int
    name: str
    value: float
    floor: float | None


@dataclass(frozen=True)
class Summary:
    """One line of the list of runs."""

    name: str
    path: Path
    id: str
    status: Status
    step: int  # steps behind it, by its metrics
    steps: int  # planned when its last session began or ended
    created: str  # ISO 8601, UTC
    recipe: str
    parent: run_directory.Parent | None
    problem: str = ""  # why it is damaged
    init: str = ""  # where the first weights are from, such as "digits-1 at step 400"
    remedy: str = ""  # that a fork of the monitor tries, and against what
    numbers: Mapping[str, float] = field(default_factory=dict)  # of the newest step: see `_numbers`
    metric: Metric | None = None  # of samples, as measured last

    @property
    def headline(self) -> str:
        """The metric where there is one, else the numbers: "FD-classifier 4.3 (real 0.9)", "d 0.7, g 0.7"."""
        if self.metric:
            real = f" (real {self.metric.floor:.4g})" if self.metric.floor is not None else ""
            return f"{self.metric.name} {self.metric.value:.4g}{real}"
        return ", ".join(f"{name} {value:.4g}" for name, value in self.numbers.items())


def summary(directory: RunDirectory) -> Summary:
    """A run in one line; never raises for a damaged one, but says so."""
    try:
        info = directory.info()
        row = metrics.last_row(directory.path)
        metric = _metric(directory.path)
        shown = row or next(iter(last_rows(directory, 1) if info.parent else ()), None)
        with mendable(directory.journal_path):
            last = _last_word(directory.journal_path)
            sealed.require_known(directory.journal_path, last.fields if last else {})
            remedy = _remedy(directory.journal_path) if info.parent else ""
    except UserError as error:
        return Summary(directory.name, directory.path, "", "damaged", 0, 0, "", "", None, str(error))
    return Summary(
        name=directory.name,
        path=directory.path,
        id=info.id,
        status="running" if directory.is_locked() else _status(last, info.parent),
        step=row.step + 1 if row else info.parent.step if info.parent else 0,
        steps=last.fields["steps"] if last else info.steps,
        created=info.created,
        recipe=info.recipe,
        parent=info.parent,
        init=_init(info.facts.init),
        remedy=remedy,
        numbers=_numbers(shown) if shown else {},
        metric=metric,
    )


def _numbers(row: metrics.MetricsRow) -> dict[str, float]:
    """The bound of a variational autoencoder, where it was measured; else the raw loss components by name."""
    bound = "held_out/bpd*"
    return {"bpd*": row.extra[bound]} if bound in row.extra else dict(row.components)


def _metric(path: Path) -> Metric | None:
    """The first metric of the last stored evaluation, else that of the best step while it trained."""
    for fields in reversed(results.read_all(path)[0]):
        try:
            name, numbers = next(iter(fields["results"].items()))
            return Metric(fields["step"], name, numbers["value"], numbers["floor"])
        except (AttributeError, LookupError, StopIteration, TypeError, UserError):
            continue  # of another version
    try:
        best = checkpoint_files.read_pins(path).get(checkpoint_files.BEST)
    except UserError:  # the run is there all the same
        return None
    if best is None or "metric" not in best.facts:
        return None
    return Metric(best.step, best.facts["metric"], best.facts["value"], best.facts.get("floor"))


def _last_word(path: Path) -> JournalEntry | None:
    """The journal's last start or end of a session, None before the first. Raises OSError."""
    entries = (journal.parse_line(text) for text in last_lines(path))
    return next((entry for entry in entries if entry and entry.kind in ("session", "end")), None)


def _init(init: Mapping[str, Any]) -> str:
    """Where the first weights of a run are from, in words; "" where they are random."""
    if not init:
        return ""
    step = init.get("step")
    return f"{init.get('run')} at step {step:,}" if isinstance(step, int) else str(init.get("reference"))


def _remedy(path: Path) -> str:
    """What a fork tries, by the first line of its journal; "" of another kind of fork. Raises OSError."""
    first = journal.parse_line(next(files.lines(path, links=False), b""))
    if first is None or first.kind != "remedy":
        return ""
    return f"{first.fields['words']} against {first.fields['verdict']}"


def _status(last: JournalEntry | None, parent: run_directory.Parent | None) -> Status:
    """How the last session of a run that nobody writes has ended."""
    if last is None:
        return "forked" if parent else "new"
    return last.fields["status"] if last.kind == "end" else "interrupted"


def list_runs(runs: Path) -> list[Summary]:
    """The runs of a directory, the newest first. Damaged ones are among them, last."""
    summaries = [summary(RunDirectory(runs / name)) for name in run_directory.names(runs)]
    return sorted(summaries, key=lambda run: run.created, reverse=True)


def by_kind(run: Path) -> dict[str, int]:
    """Bytes of a run's files by kind: its folders, its metrics, and the rest. Those of 0 are left out."""
    sizes: dict[str, int] = {}
    for path in run.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            if path.is_file() and not path.is_symlink():
                kind = _kind(path.relative_to(run))
                sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _kind(path: Path) -> str:
    top = path.parts[0]
    if len(path.parts) > 1:
        damaged = top == checkpoint_files.FOLDER and ".bad" in path.parts[1]
        return "damaged checkpoints" if damaged else top
    return "metrics" if top.startswith("metrics-") else "report" if top.startswith("report") else "records"
