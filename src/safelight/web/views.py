"""What the page asks of runs, as plain values. All of it reads; nothing holds a lock or opens a network.

What a command prints with --json is under the same names here, from the same functions.
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

from safelight.api import facts
from safelight.config import UserError, flatten, override
from safelight.monitor.remedies import command, remedies
from safelight.report.comparison import compare
from safelight.report.facts import gather, read_measured
from safelight.store import checkpoint_files, inbox, journal, listing, metrics, retention, sealed, searches
from safelight.store.columns import Columns
from safelight.store.directory import RunDirectory, names, require_plain
from safelight.store.durable import mendable
from safelight.store.listing import Summary
from safelight.web import pictures

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
        branches = {branch.run.name: branch for branch in facts.lineage([run.summary for run in ordered])}
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
        sheets = _sheets(directory)
        return _Listed(now, listing.summary(directory), entries, sheets[-1] if sheets else None)

    # --- One run ---

    def run(self, name: str) -> dict[str, Any]:
        """What `show --json` says, the marks of the timeline, and the settings in force. Raises UserError."""
        directory = self.directory(name)
        require_plain(directory.path)
        recorded, read = directory.journal(), directory.recipe_tree()
        in_force = override(read, recorded.changes_at(math.inf))
        measured, problems = read_measured(directory.path)
        sheets = _sheets(directory)
        info, pins = directory.info(), checkpoint_files.read_pins(directory.path)
        held = self.columns(directory)
        seconds = dict(zip(held["step"].astype(int).tolist(), held["seconds"].tolist(), strict=True))
        return {
            "facts": facts.run(directory, seconds),
            "first": retention.first_of(directory),
            "planned": listing.summary(directory).steps,
            "created": info.created,
            "columns": held.names,
            "sheets": sheets,
            "grid": self._grid(directory, sheets),
            "panels": _panels(directory),
            "marks": list(_marks(recorded)),
            "forks": list(self._forks(info.id)),
            "pins": {name: {"step": pin.step, "why": pin.why} for name, pin in pins.items()},
            "waiting": len(inbox.waiting(directory.path)),
            "measured": [asdict(metric) for metric in measured],
            "health": list(_health(directory, recorded, in_force)),
            "settings": flatten(in_force),
            "written": flatten(read),
            "live": inbox.LIVE,
            "problems": problems,
        }

    def _grid(self, directory: RunDirectory, sheets: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        with suppress(UserError):
            found = pictures.layout(directory, sheets[-1]["step"]) if sheets else None
            return asdict(found) if found else None
        return None

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
        """Columns in bins. width, since: those the reader has, up to a step; only later ones are sent.

        A bin that is not full yet is sent again: it begins after `since`, or holds it.
        """
        held = self.columns(self.directory(name))
        wanted = [column for column in columns if column in held.names]
        last = int(held["step"][held.rows - 1]) + 1 if held.rows else 0
        end = last if end is None else min(end, last)
        bins = held.bins(wanted, begin, end, most)
        keep = bins.steps > (since - 1) // width * width if width == bins.width and since else slice(None)
        return {
            "width": bins.width,
            "begin": begin,
            "end": end,
            "last": last,
            "whole": not (width == bins.width and since),
            "steps": bins.steps[keep].tolist(),
            "columns": {
                column: {kind: _short(getattr(bins, kind)[column][keep])
                         for kind in (("mean",) if bins.width == 1 else ("low", "high", "mean"))}
                for column in wanted
            },
        }  # fmt: skip

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
        return facts.disk(self.directory(name))

    def journal(self, name: str) -> list[dict[str, Any]]:
        """What `show --journal --json` says. Raises UserError."""
        return facts.journal(self.directory(name))

    def kept(self, name: str) -> list[dict[str, Any]]:
        """The specimens that were kept, by step and draw. Raises UserError."""
        folder = self.directory(name).path / "specimens"
        found = [sealed.read(path) for path in sorted(folder.glob("[0-9]*.json"))]
        return [{**fields, "v": pictures.version_of(folder / f"{fields['id']}.png")} for fields in found]

    def picks(self, name: str) -> list[dict[str, Any]]:
        """The searches that a person judges: their newest sheets, and what was picked. Raises UserError."""
        directory = self.directory(name)
        require_plain(directory.path)
        found = []
        for folder in sorted((directory.path / searches.SEARCHES).glob("*")):
            search = searches.SearchDirectory(folder)
            result = search.result() if searches.NAME.fullmatch(folder.name) else None
            if result and result["method"] == "pick":
                sheet, place = folder / f"sheet-{result['sheet']}.png", directory.path / "specimens"
                grid = pictures.layout_in(sheet)
                kept = [(id, pictures.version_of(place / f"{id}.png")) for id in result["specimens"]]
                found.append({"name": search.name, "sheet": result["sheet"], "v": pictures.version_of(sheet),
                              "grid": asdict(grid) if grid else None,
                              "kept": [{"id": id, "v": v} for id, v in kept]})  # fmt: skip
        return found

    def candidates(self, name: str, search: str) -> bytes:
        """The newest sheet of a search as a grid. Raises UserError."""
        found = next((each for each in self.picks(name) if each["name"] == search), None)
        if found is None:
            raise UserError(f"{search}: no such search")
        folder = self.directory(name).path / searches.SEARCHES / search
        return pictures.tiles_in(folder / f"sheet-{found['sheet']}.png")

    # --- Several ---

    def compared(self, runs: Sequence[str]) -> dict[str, Any]:
        """What `compare --json` says of runs, without writing it anywhere. Raises UserError."""
        return compare([gather(self.directory(name)) for name in runs]).to_dict()

    def aligned(self, name: str) -> dict[str, Any]:
        """The sheets of a run with the images and hours they were drawn at, and the grid of the newest."""
        directory = self.directory(name)
        held, sheets = self.columns(directory), _sheets(directory)
        info = directory.info()
        hours = np.cumsum(np.nan_to_num(held["seconds"])) / 3600
        batch = int(directory.recipe_tree()["train"]["batch_size"])
        rows = np.searchsorted(held.steps, [sheet["step"] for sheet in sheets], side="right") - 1
        for sheet, row in zip(sheets, rows.tolist(), strict=True):
            sheet["images"] = sheet["step"] * batch
            sheet["hours"] = float(hours[row]) if row >= 0 else 0.0
        return {"name": name, "sheets": sheets, "grid": self._grid(directory, sheets),
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


def _sheets(directory: RunDirectory) -> list[dict[str, Any]]:
    """Step and version of each sheet, by step."""
    folder = directory.sheets
    with mendable(folder):
        if not folder.is_dir() or folder.is_symlink():
            return []
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries
                     if entry.name.endswith(".png") and entry.name[:-4].isdecimal()]  # fmt: skip
    return [{"step": int(name[:-4]), "v": f"{stat.st_mtime_ns:x}-{stat.st_size:x}"}
            for name, stat in sorted(found) if len(name) < 20]  # fmt: skip


def _panels(directory: RunDirectory) -> list[dict[str, Any]]:
    """The family's figures by step and name."""
    with suppress(OSError):
        listed = [name for name in sorted(os.listdir(directory.panels)) if name.endswith(".png")]
        parts = [(*name.partition("-")[::2], name) for name in listed]
        return [{"step": int(step), "name": title.removesuffix(".png"), "file": file}
                for step, title, file in parts if step.isdecimal()]  # fmt: skip
    return []


def _marks(recorded: journal.Journal) -> Iterator[dict[str, Any]]:
    """What stands on the timeline, from the journal."""
    kinds = ("session", "intervention", "checkpoint", "verdict", "remedy", "pin", "end")
    for entry in recorded.entries:
        if entry.kind in kinds:
            left_out = ("environment", "code", "id", "digest")
            fields = {key: value for key, value in entry.fields.items() if key not in left_out}
            step = fields.get("step", fields.get("at", 0))
            yield {"kind": entry.kind, "time": entry.time, **fields, "step": step}


def _health(directory: RunDirectory, recorded: journal.Journal, tree: Any) -> Iterator[dict[str, Any]]:
    """Every verdict in force: what was measured, what is expected, since when, and what helps."""
    info = directory.info()
    for name in listing.verdicts(directory):
        entries = [entry.fields for entry in recorded.of_kind("verdict") if entry.fields["name"] == name]
        entry = entries[-1] if entries else {}
        at = int(entry.get("rescue", 0))
        yield {
            "name": name,
            "inherited": not entries,
            "measured": entry.get("measured", ""),
            "expected": entry.get("expected", ""),
            "since": entry.get("step"),
            "rescue": at,
            "remedies": [
                {"words": remedy.words, "changes": remedy.changes, "live": remedy.live and at > 0,
                 "command": command(remedy, directory.name, info.recipe, at)}
                for remedy in remedies(name, tree, at)  # type: ignore[arg-type]  # names of an older version
            ] if entries else [],
        }  # fmt: skip


def _short(values: Any) -> list[float | None]:
    """Six significant digits; None for what is not finite."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
