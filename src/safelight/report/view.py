"""What a page shows of a run, as plain values: the one that `safelight web` serves, and one that is saved.

What a command prints with --json is under the same names here, from the same functions (plain.py).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from safelight.config import UserError, flatten, override
from safelight.monitor.remedies import command, remedies
from safelight.render import tiles
from safelight.report import plain
from safelight.report.facts import read_measured
from safelight.store import checkpoint_files, inbox, journal, listing, retention
from safelight.store.columns import Columns
from safelight.store.directory import RunDirectory, require_plain
from safelight.store.durable import mendable


def run(directory: RunDirectory, held: Columns, forks: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """What `show --json` says, the marks of the timeline, and the settings in force. Raises UserError.

    held: the metrics of the run so far. forks: name and step of the runs that came from it.
    """
    require_plain(directory.path)
    recorded, read = directory.journal(), directory.recipe_tree()
    in_force = override(read, recorded.changes_at(math.inf))
    measured, problems = read_measured(directory.path)
    sheets = sheets_of(directory)
    info, pins = directory.info(), checkpoint_files.read_pins(directory.path)
    seconds = dict(zip(held["step"].astype(int).tolist(), held["seconds"].tolist(), strict=True))
    return {
        "facts": plain.run(directory, seconds),
        "first": retention.first_of(directory),
        "planned": listing.summary(directory).steps,
        "created": info.created,
        "columns": held.names,
        "sheets": sheets,
        "grid": grid_of_sheets(directory, sheets),
        "panels": _panels(directory),
        "marks": list(_marks(recorded)),
        "forks": list(forks),
        "pins": {name: {"step": pin.step, "why": pin.why} for name, pin in pins.items()},
        "waiting": len(inbox.waiting(directory.path)),
        "measured": [asdict(metric) for metric in measured],
        "health": list(_health(directory, recorded, in_force)),
        "settings": flatten(in_force),
        "written": flatten(read),
        "live": inbox.LIVE,
        "problems": problems,
    }


def curves(
    held: Columns,
    columns: Sequence[str],
    begin: int = 0,
    end: int | None = None,
    most: int = 800,
    width: int = 0,
    since: int = 0,
) -> dict[str, Any]:
    """Columns in bins. width, since: those the reader has, up to a step; only later ones are sent.

    A bin that is not full yet is sent again: it begins after `since`, or holds it.
    """
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


def grid_of_sheets(directory: RunDirectory, sheets: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The grid of the newest sheet; None where there is none that can be read."""
    with suppress(UserError):
        grid = tiles.layout(directory, sheets[-1]["step"]) if sheets else None
        return asdict(grid) if grid else None
    return None


def sheets_of(directory: RunDirectory) -> list[dict[str, Any]]:
    """Step and version of each sheet, by step."""
    folder = directory.sheets
    with mendable(folder):
        if not folder.is_dir() or folder.is_symlink():
            return []
        with os.scandir(folder) as entries:
            files = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries
                     if entry.name.endswith(".png") and entry.name[:-4].isdecimal()]  # fmt: skip
    return [{"step": int(name[:-4]), "v": f"{stat.st_mtime_ns:x}-{stat.st_size:x}"}
            for name, stat in sorted(files) if len(name) < 20]  # fmt: skip


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
                for remedy in remedies(name, tree, at)
            ] if entries else [],
        }  # fmt: skip


def _short(values: Any) -> list[float | None]:
    """Six significant digits; None for what is not finite."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
