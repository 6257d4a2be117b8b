"""What the page asks of runs, as plain values. All of it reads; nothing holds a lock or opens a network.

What one run holds comes from report/view.py, which pages that are saved share.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from safelight.config import UserError
from safelight.render import tiles
from safelight.report import plain, view
from safelight.report.facts import gather
from safelight.store import checkpoint_files, journal, listing, metrics, retention, sealed, searches
from safelight.store.columns import Columns
from safelight.store.directory import RunDirectory, names, require_plain
from safelight.store.listing import Summary

SHOWN = 8  # images of a thumbnail
WATCHED = (
    "journal.jsonl", "sheets", "evaluations", "pins.json", "run.json", "inbox", "specimens", "searches",
)  # fmt: skip
HELD = 6  # runs whose columns are kept


def stamp(run: Path) -> tuple[int, ...]:
    """What changes whenever a run does, but for its rows: times and sizes of what is written."""
    return _stamp(run, WATCHED)


def rows_stamp(run: Path) -> tuple[int, ...]:
    """What changes whenever a row is written."""
    with suppress(OSError, UserError):
        return _stamp(run, [path.name for path in metrics.session_files(run)[-1:]])
    return ()


def _stamp(run: Path, names: Sequence[str]) -> tuple[int, ...]:
    values = [len(names)]
    for name in names:
        with suppress(OSError):
            stat = os.lstat(run / name)
            values += [stat.st_mtime_ns, stat.st_size]
    return tuple(values)


@dataclass
class _Listed:
    """A run of the list, as it was when its stamp was taken."""

    stamp: tuple[int, ...]
    summary: Summary
    verdicts: list[journal.JournalEntry]
    sheet: dict[str, Any] | None


@dataclass
class Views:
    """Reads the runs of a folder for as long as the server lives."""

    folder: Path
    _columns: dict[Path, Columns] = field(default_factory=dict)
    _listed: dict[str, _Listed] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _listing: Lock = field(default_factory=Lock)

    def directory(self, name: str) -> RunDirectory:
        """The run of a name that the folder lists. Raises UserError."""
        if name not in names(self.folder):
            raise UserError(f"{name}: no such run")
        return RunDirectory(self.folder / name)

    # --- The list ---

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first: what `runs --json` says as "summary", and what a list shows beside it."""
        with self._listing:
            listed = {name: self._look(name) for name in names(self.folder)}
            self._listed = listed
        by_id = {run.summary.id: run for run in listed.values() if not run.summary.problem}
        ordered = sorted(listed.values(), key=lambda run: run.summary.created, reverse=True)
        branches = {branch.run.name: branch for branch in plain.lineage([run.summary for run in ordered])}
        return [
            {
                "summary": asdict(run.summary),
                "headline": run.summary.headline,
                "verdicts": _verdicts(run, by_id),
                "sheet": run.sheet,
                "branch": branches[run.summary.name].to_dict(),
            }
            for run in ordered
        ]

    def _look(self, name: str) -> _Listed:
        directory = RunDirectory(self.folder / name)
        now = (*stamp(directory.path), *rows_stamp(directory.path), directory.is_locked())
        if (known := self._listed.get(name)) and known.stamp == now:
            return known
        entries: list[journal.JournalEntry] = []
        with suppress(UserError, OSError):
            data = directory.journal_path.read_bytes() if directory.journal_path.is_file() else b""
            lines = [line for line in data.split(b"\n") if b'"verdict"' in line]
            entries = [entry for entry in map(journal.parse_line, lines) if entry and entry.kind == "verdict"]
        sheets = view.sheets_of(directory)
        return _Listed(now, listing.summary(directory), entries, sheets[-1] if sheets else None)

    # --- One run ---

    def run(self, name: str) -> dict[str, Any]:
        """What `show --json` says, the marks of the timeline, and the settings in force. Raises UserError."""
        directory = self.directory(name)
        require_plain(directory.path)
        return view.run(directory, self.columns(directory), list(self._forks(directory.info().id)))

    def _forks(self, id: str) -> Iterator[dict[str, Any]]:
        for name in names(self.folder):
            with suppress(UserError):
                parent = RunDirectory(self.folder / name).info().parent
                if parent and parent.run == id:
                    yield {"name": name, "step": parent.step}

    def columns(self, directory: RunDirectory) -> Columns:
        """The metrics of a run so far. Of a few runs they are kept, and only what is new is read."""
        with self._lock:
            held = self._columns.pop(directory.path, None) or Columns(directory.path)
            held.update()
            self._columns[directory.path] = held  # the last one used is the last one to go
            while len(self._columns) > HELD:
                del self._columns[next(iter(self._columns))]
            return held

    def curves(
        self,
        name: str,
        columns: Sequence[str],
        begin: int,
        end: int | None,
        most: int,
        width: int,
        since: int,
    ) -> dict[str, Any]:
        """Columns in bins, as `view.curves`."""
        return view.curves(self.columns(self.directory(name)), columns, begin, end, most, width, since)

    def values(self, name: str, step: int) -> dict[str, Any]:
        """Every recorded value after `step` steps, and where that lies in images and hours."""
        held = self.columns(self.directory(name))
        at = int(np.searchsorted(held.steps, step, side="right")) - 1
        if at < 0:
            return {"step": 0, "images": 0, "hours": 0.0, "values": {}}
        return {
            "step": int(held.steps[at]),
            "images": int(held["images"][at]),
            "hours": float(np.nansum(held["seconds"][: at + 1])) / 3600,
            "values": {column: float(held[column][at]) for column in held.names if column != "step"},
        }

    def price(self, name: str, step: int) -> dict[str, Any]:
        """What reaching a step takes: from which checkpoint, how many steps and seconds. Raises UserError."""
        directory = listing.owner_of(self.directory(name), step)
        first = retention.first_of(directory)
        held = self.columns(directory)
        last = max([first, *held.steps[-1:].tolist(), *checkpoint_files.list_steps(directory.path)])
        if not first <= step <= last:
            raise UserError(f"step {step:,}: {name} has recorded the steps {first:,} to {last:,}")
        start = max(
            [first, *(saved for saved in checkpoint_files.list_steps(directory.path) if saved <= step)]
        )
        begin, end = np.searchsorted(held.steps, [start + 1, step + 1])
        seconds = float(np.nansum(held["seconds"][begin:end]))
        return {
            "run": directory.name,
            "step": step,
            "start": start,
            "steps": step - start,
            "seconds": seconds,
        }

    def disk(self, name: str) -> dict[str, Any]:
        """What `disk --json` says. Raises UserError."""
        return plain.disk(self.directory(name))

    def journal(self, name: str) -> list[dict[str, Any]]:
        """What `show --journal --json` says. Raises UserError."""
        return plain.journal(self.directory(name))

    def kept(self, name: str) -> list[dict[str, Any]]:
        """The specimens that were kept, by step and draw. Raises UserError."""
        folder = self.directory(name).path / "specimens"
        entries = [sealed.read(path) for path in sorted(folder.glob("[0-9]*.json"))]
        return [{**fields, "v": tiles.version_of(folder / f"{fields['id']}.png")} for fields in entries]

    def picks(self, name: str) -> list[dict[str, Any]]:
        """The searches that a person judges: their newest sheets, and what was picked. Raises UserError."""
        directory = self.directory(name)
        require_plain(directory.path)
        picks = []
        for folder in sorted((directory.path / searches.SEARCHES).glob("*")):
            search = searches.SearchDirectory(folder)
            result = search.result() if searches.NAME.fullmatch(folder.name) else None
            if result and result["method"] == "pick":
                sheet, place = folder / f"sheet-{result['sheet']}.png", directory.path / "specimens"
                grid = tiles.layout_in(sheet)
                kept = [(id, tiles.version_of(place / f"{id}.png")) for id in result["specimens"]]
                picks.append({"name": search.name, "sheet": result["sheet"], "v": tiles.version_of(sheet),
                              "grid": asdict(grid) if grid else None,
                              "kept": [{"id": id, "v": v} for id, v in kept]})  # fmt: skip
        return picks

    def candidates(self, name: str, search: str) -> bytes:
        """The newest sheet of a search as a grid. Raises UserError."""
        picks = next((each for each in self.picks(name) if each["name"] == search), None)
        if picks is None:
            raise UserError(f"{search}: no such search")
        folder = self.directory(name).path / searches.SEARCHES / search
        return tiles.tiles_in(folder / f"sheet-{picks['sheet']}.png")

    # --- Several ---

    def compared(self, runs: Sequence[str]) -> dict[str, Any]:
        """What `compare --json` says of runs, without writing it anywhere. Raises UserError."""
        from safelight.report.comparison import compare  # with matplotlib, which nothing else here needs

        return compare([gather(self.directory(name)) for name in runs]).to_dict()

    def aligned(self, name: str) -> dict[str, Any]:
        """The sheets of a run with the images and hours they were drawn at, and the grid of the newest."""
        directory = self.directory(name)
        held, sheets = self.columns(directory), view.sheets_of(directory)
        info = directory.info()
        hours = np.cumsum(np.nan_to_num(held["seconds"])) / 3600
        batch = int(directory.recipe_tree()["train"]["batch_size"])
        rows = np.searchsorted(held.steps, [sheet["step"] for sheet in sheets], side="right") - 1
        for sheet, row in zip(sheets, rows.tolist(), strict=True):
            sheet["images"] = sheet["step"] * batch
            sheet["hours"] = float(hours[row]) if row >= 0 else 0.0
        return {"name": name, "sheets": sheets, "grid": view.grid_of_sheets(directory, sheets),
                "created": info.created, "step": int(held.steps[-1]) if held.rows else 0}  # fmt: skip


def _verdicts(run: _Listed, by_id: dict[str, _Listed]) -> list[str]:
    """Names of the verdicts in force, those that a fork began with among them; as `listing.verdicts`."""
    line, limits, seen = [run], [math.inf], {run.summary.id}
    while (parent := line[-1].summary.parent) and parent.run in by_id and parent.run not in seen:
        seen.add(parent.run)
        limits.append(min(limits[-1], parent.step))
        line.append(by_id[parent.run])
    before: list[str] = []
    for each, limit in zip(reversed(line), reversed(limits), strict=True):
        before = journal.holding(journal.Journal(Path(), each.verdicts), limit, before)
    return before
