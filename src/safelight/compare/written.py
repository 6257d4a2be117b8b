"""A comparison written down as NAME.md and NAME.html, and the log of a project as log.md and log.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from safelight.compare.comparison import Comparison, compare
from safelight.compare.gather import gather
from safelight.compare.log import Entry, log
from safelight.compare.log_page import log_page
from safelight.compare.page import page_of
from safelight.compare.plain import plain
from safelight.render.page import Page, write_page
from safelight.store.run import RunDirectory, names


@dataclass(frozen=True)
class Written:
    """A comparison, its page, and where that lies."""

    comparison: Comparison
    page: Page
    markdown: Path
    html: Path

    def plain(self) -> dict[str, Any]:
        """For --json: the facts, and the files."""
        files = {"markdown": str(self.markdown), "html": str(self.html)}
        return {**plain(self.comparison), "files": files}


def write_comparison(
    runs: Sequence[RunDirectory],
    out: Path,
    name: str,
    title: str = "",
    called: Mapping[str, str] | None = None,
) -> Written:
    """Compare runs and write NAME.md and NAME.html into `out`. Raises UserError where the disk refuses.

    called: what runs are called on the page, by their directory's name.
    """
    known = called or {}
    comparison = compare([replace(gather(run), name=known.get(run.name, run.name)) for run in runs])
    page = page_of(comparison, _now(), title)
    return Written(comparison, page, *write_page(out, name, page))


def write_log(runs: Path, full: int) -> tuple[tuple[Entry, ...], Path, Path]:
    """Write log.md and log.html into a runs directory; returns the entries, the newest first, and the paths.

    full: how many of the newest are told in full. Raises UserError where the disk refuses.
    """
    entries = log([gather(RunDirectory(runs / name)) for name in names(runs)])
    page = log_page(entries, runs.resolve().name, full, _now())
    return entries, *write_page(runs, "log", page)


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
