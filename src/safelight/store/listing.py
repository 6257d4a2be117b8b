"""What a list of runs shows of each, read from the ends of its files: quick for a thousand runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from safelight import files
from safelight.config import UserError
from safelight.store import evaluations, journal, lineage, metrics, pins, run, sealed
from safelight.store.durable import mendable
from safelight.store.journal import Entry
from safelight.store.run import RunDirectory
from safelight.store.tail import last_lines

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
    parent: run.Parent | None
    problem: str = ""  # why it is damaged
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
        shown = row or next(iter(lineage.last_rows(directory, 1) if info.parent else ()), None)
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
        remedy=remedy,
        numbers=_numbers(shown) if shown else {},
        metric=metric,
    )


def _numbers(row: metrics.Row) -> dict[str, float]:
    """The bound of a variational autoencoder, where it was measured; else the raw loss components by name."""
    bound = "held_out/bpd*"
    return {"bpd*": row.extra[bound]} if bound in row.extra else dict(row.components)


def _metric(path: Path) -> Metric | None:
    """The first metric of the last stored evaluation, else that of the best step while it trained."""
    for fields in reversed(evaluations.read_all(path)[0]):
        try:
            name, own = next(iter(fields["results"].items()))
            return Metric(fields["step"], name, own["value"], own["floor"])
        except (AttributeError, LookupError, StopIteration, TypeError, UserError):
            continue  # of another version
    try:
        best = pins.read(path).get(pins.BEST)
    except UserError:  # the run is there all the same
        return None
    if best is None or "metric" not in best.facts:
        return None
    return Metric(best.step, best.facts["metric"], best.facts["value"], best.facts.get("floor"))


def _last_word(path: Path) -> Entry | None:
    """The journal's last start or end of a session, None before the first. Raises OSError."""
    entries = (journal.parse_line(text) for text in last_lines(path))
    return next((entry for entry in entries if entry and entry.kind in ("session", "end")), None)


def _remedy(path: Path) -> str:
    """What a fork tries, by the first line of its journal; "" of another kind of fork. Raises OSError."""
    first = journal.parse_line(next(files.lines(path, links=False), b""))
    if first is None or first.kind != "remedy":
        return ""
    return f"{first.fields['words']} against {first.fields['verdict']}"


def _status(last: Entry | None, parent: run.Parent | None) -> Status:
    """How the last session of a run that nobody writes has ended."""
    if last is None:
        return "forked" if parent else "new"
    return last.fields["status"] if last.kind == "end" else "interrupted"


def list_runs(runs: Path) -> list[Summary]:
    """The runs of a directory, the newest first. Damaged ones are among them, last."""
    found = [summary(RunDirectory(runs / name)) for name in run.names(runs)]
    return sorted(found, key=lambda one: one.created, reverse=True)
