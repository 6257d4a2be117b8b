"""Runs listed, compared, logged and reported, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.api import directory_of, folder_of
from safelight.config import UserError
from safelight.report.comparison_page import Written, write_comparison
from safelight.report.log import LogEntry
from safelight.report.log_page import write_log
from safelight.store.directory import names
from safelight.store.listing import Summary, list_runs

if TYPE_CHECKING:
    from safelight.api import Named


def runs(folder: str | Path | None = None) -> list[Summary]:
    """The runs of a folder, newest first; damaged ones have a `problem`."""
    return list_runs(folder_of(folder))


def compare(
    run: Named,
    *others: Named,
    out: str | Path | None = None,
    on: str | None = None,
    runs: str | Path | None = None,
) -> Written:
    """Compare runs; writes compare.md and compare.html into `out`, by default the folder of runs.

    on: where several runs are read at once, see `fanout.pool`.
    """
    compared = list(dict.fromkeys(directory_of(name, runs) for name in (run, *others)))
    if len(compared) < 2:
        raise UserError("compare: name two runs or more, for example: safelight compare digits-1 digits-2")
    return write_comparison(compared, Path(out) if out else folder_of(runs), "compare", on=on)


def log(
    *, full: int = 20, runs: str | Path | None = None
) -> tuple[Sequence[LogEntry], Path | None, Path | None]:
    """Write log.md and log.html; returns the entries, newest first, and the paths, None where no run exists.

    full: number of runs in full detail.
    """
    folder = folder_of(runs)
    return write_log(folder, full) if names(folder) else ((), None, None)
