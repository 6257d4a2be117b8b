"""What a list of runs shows of each, read from the ends of its files: quick for a thousand runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safelight import files
from safelight.config import UserError
from safelight.store import journal, metrics, run, sealed
from safelight.store.durable import mendable
from safelight.store.journal import Entry
from safelight.store.run import RunDirectory
from safelight.store.tail import last_lines

# "running": somebody holds its lock. "interrupted": killed, or lost to a power cut. "new": never begun.
# "left": by its monitor, for a fork with a remedy, or for the run before that.
Status = Literal["new", "running", "finished", "stopped", "failed", "left", "interrupted", "damaged"]


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
    loss: float | None  # last total
    problem: str = ""  # why it is damaged
    remedy: str = ""  # that a fork of the monitor tries, and against what


def summary(directory: RunDirectory) -> Summary:
    """A run in one line; never raises for a damaged one, but says so."""
    try:
        info = directory.info()
        row = metrics.last_row(directory.path)
        with mendable(directory.journal_path):
            last = _last_word(directory.journal_path)
            sealed.require_known(directory.journal_path, last.fields if last else {})
            remedy = _remedy(directory.journal_path) if info.parent else ""
    except UserError as error:
        return Summary(directory.name, directory.path, "", "damaged", 0, 0, "", "", None, None, str(error))
    return Summary(
        name=directory.name,
        path=directory.path,
        id=info.id,
        status="running" if directory.is_locked() else _status(last),
        step=row.step + 1 if row else info.parent.step if info.parent else 0,
        steps=last.fields["steps"] if last else info.steps,
        created=info.created,
        recipe=info.recipe,
        parent=info.parent,
        loss=row.total if row else None,
        remedy=remedy,
    )


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


def _status(last: Entry | None) -> Status:
    """How the last session of a run that nobody writes has ended."""
    if last is None:
        return "new"
    return last.fields["status"] if last.kind == "end" else "interrupted"


def list_runs(runs: Path) -> list[Summary]:
    """The runs of a directory, the newest first. Damaged ones are among them, last."""
    found = [summary(RunDirectory(runs / name)) for name in run.names(runs)]
    return sorted(found, key=lambda one: one.created, reverse=True)
