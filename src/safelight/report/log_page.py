"""The log of a project as a page: a line a run, then the newest runs in full."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from safelight.config import UserError, flatten
from safelight.render.page import (
    Block,
    Definitions,
    Drawing,
    Notes,
    Page,
    PageSection,
    ReportTable,
    Text,
    write_page,
)
from safelight.render.sheet import ACROSS, side_by_side
from safelight.render.sheet_file import read_sheet
from safelight.render.wording import count, duration, number, plural
from safelight.report import drawings, tables
from safelight.report.basis import Number, worded
from safelight.report.comparison_page import now
from safelight.report.facts import RunFacts, gather
from safelight.report.log import LogEntry, Value, log
from safelight.report.settings import SettingDifference
from safelight.store.directory import RunDirectory, names

HOUR = 3600  # seconds
MOST = 3  # changes that a line of the table says
EPOCHS = 24  # rows of an epoch each
NEAR = 0.01  # share of the images seen by which two amounts are still called equal


def write_log(runs: Path, full: int) -> tuple[tuple[LogEntry, ...], Path, Path]:
    """Write log.md and log.html into a runs directory; returns the entries, the newest first, and the paths.

    full: how many of the newest are shown in full. Raises UserError where the disk refuses.
    """
    entries = log([gather(RunDirectory(runs / name)) for name in names(runs)])
    return entries, *write_page(runs, "log", log_page(entries, runs.resolve().name, full, now()))


def log_page(entries: Sequence[LogEntry], place: str, full: int, written: str = "") -> Page:
    """The log as a page. full: how many of the newest are shown in full; the table has all of them."""
    readable = [entry for entry in entries if entry.run.readable]
    hours = sum(entry.run.record.hours_spent for entry in entries)
    blocks: list[Block] = [_overview(entries)]
    if older := len(readable[full:]):
        blocks.append(
            Text(f"Below are the newest {len(readable[:full])}; {older} older ones are in this table only.")
        )
    if unreadable := tables.fates([entry.run for entry in entries if not entry.run.readable]):
        blocks.append(Notes(unreadable))
    return Page(
        mark="experiment log",
        title=place,
        summary=f"{plural(len(entries), 'run')}, newest first: what each run changed, and its results.",
        key_figures=(
            (str(len(entries)), "runs"),
            (str(sum(entry.run.status == "finished" for entry in entries)), "finished"),
            (duration(hours * HOUR) if hours else "–", "in training steps"),
        ),
        written=written,
        sections=(
            PageSection("All runs", tuple(blocks)),
            *(PageSection(entry.run.name, tuple(_entry(entry))) for entry in readable[:full]),
        ),
    )


def _overview(entries: Sequence[LogEntry]) -> ReportTable:
    """A line a run."""
    rows = []
    for entry in entries:
        run = entry.run
        if not run.readable:
            rows.append((run.name, "", run.status, "", "", "", "", ""))
            continue
        first = entry.values[0] if entry.values else None
        loss = f"{first.name} {tables.cell(first.end)}" if first else "–"
        made = run.name, local_time(run.created), run.status, run.recipe, _changed(entry)
        rows.append((*made, count(run.record.images_seen), loss, number(entry.seconds_per_kimg)))
    head = ("run", "begun", "status", "recipe", "changed", "images seen", "at the end", "s / kimg")
    return ReportTable(head, tuple(rows), 5)


def _entry(entry: LogEntry) -> Iterator[Block]:
    """A run in full."""
    run = entry.run
    seen = run.record.images_seen
    epochs = f" ({number(round(seen / run.dataset_size, 2))} epochs)" if run.dataset_size else ""
    yield Text(
        f"{run.recipe}, seed {run.settings.get('train.seed', '–')}, begun {local_time(run.created)}: "
        f"{run.status} after {count(run.step)} of {count(run.steps)} steps, "
        f"{count(seen)} images seen{epochs}, {duration(run.record.hours_spent * HOUR)} in steps."
    )
    if notes := tables.fates([replace(run, parent=None)]):  # its origin comes next
        yield Notes(notes)
    yield Text(_origin(entry))
    if entry.changes:
        yield Definitions(tuple((setting.key, change(setting)) for setting in entry.changes))
    if entry.edits:
        yield tables.edits_table(entry.edits)
    if entry.before is None:
        yield Definitions(_settings(run))
    yield from _sheet(entry)
    others = [entry.before] if entry.before and entry.comparable else []
    yield from drawings.reconstructions([*others, run], f"{entry.number:04d}-reconstructions")
    if entry.values:
        yield values_table(entry)
    if table := epochs_table(run):
        yield table
    runs = [run, *others]
    groups = {shown.name: (place, shown.name) for place, shown in enumerate(runs)}
    panels = drawings.curves(run.record.components, runs, groups, "raw/", leading=True)
    yield from drawings.curves_drawing(panels, f"{entry.number:04d}-losses", "Raw components, smoothed.")


def _settings(run: RunFacts) -> tuple[tuple[str, str], ...]:
    """All that decides the weights of a run, by section."""
    return tuple(
        (section, ", ".join(f"{key} {worded(value)}" for key, value in flatten(run.tree[section]).items()))
        for section in ("network", "method", "loss", "optim", "train")
        if run.tree.get(section)
    )


def epochs_table(run: RunFacts) -> ReportTable | None:
    """Mean components of every epoch, of at most EPOCHS of them; None of a run that saw less than two."""
    images, record = run.dataset_size, run.record
    if not images or record.images_seen < 2 * images:
        return None
    last = math.ceil(record.images_seen / images)
    rows = []
    for epoch in sorted({round(place) for place in np.linspace(1, last, min(last, EPOCHS))}):
        cells = [count(epoch)]
        for name in record.components:
            column = record.columns[f"raw/{name}"]
            seen = record.images[column.rows]
            values = column.values[(seen > (epoch - 1) * images) & (seen <= epoch * images)]
            values = values[np.isfinite(values)]
            cells.append(number(float(values.mean())) if len(values) else "–")
        rows.append(tuple(cells))
    title = "Epoch by epoch, means of raw components"
    return ReportTable(("epoch", *record.components), tuple(rows), 1, title)


def _origin(entry: LogEntry) -> str:
    """What the run is a change of."""
    run, before = entry.run, entry.before
    lost = "; its parent is not among these runs" if run.parent and entry.relation != "parent" else ""
    if before is None:
        return f"The first of its recipe and data here{lost}."
    if entry.relation == "parent" and run.parent:
        words = f"Forked from {before.name} at step {count(run.parent.step)}"
    elif before.recipe != run.recipe:
        words = f"Against {before.name}, of {before.recipe}, the run before it of this data{lost}"
    else:
        words = f"Against {before.name}, the run before it of this recipe and data{lost}"
    return f"{words}, changed:" if entry.changes else f"{words}: the same settings."


def change(setting: SettingDifference) -> str:
    """ "0.001 → 0.0003": a setting of two runs."""
    return " → ".join(setting.values.values())


def _changed(entry: LogEntry) -> str:
    """The changes in a few words; those that change no weight are left out."""
    if entry.before is None:
        return "–"
    trained = [setting for setting in entry.changes if setting.role == "training"]
    words = [f"{setting.key} {change(setting)}" for setting in trained[:MOST]]
    if len(trained) > MOST:
        words.append(f"{len(trained) - MOST} more")
    if entry.edits:
        words.append(plural(len(entry.edits), "intervention"))
    return "; ".join(words) or "no training setting"


def values_table(entry: LogEntry) -> ReportTable:
    """Numbers at the end, and beside the other run's at equal images seen."""
    equal = entry.equal_images
    if entry.before is None or not equal:
        ends = tuple((value.name, tables.cell(value.end)) for value in entry.values)
        return ReportTable(("number", "at the end"), ends, 1)
    rows = tuple(
        (
            value.name,
            tables.cell(value.end),
            _at(value.now, value.images[0], equal),
            _at(value.before, value.images[1], equal) if value.before else _missing(value),
            tables.against(value.now, value.before),
        )
        for value in entry.values
    )
    given = f"at {count(equal)} images"
    return ReportTable(("number", "at the end", given, f"{entry.before.name} {given}", "difference"), rows, 1)


def _at(value: Number | None, images: int, equal: int) -> str:
    """A number, and how many images were seen where those are not as many as the column says."""
    near = value is None or abs(images - equal) <= NEAR * equal
    return tables.cell(value) if near else f"{tables.cell(value)} (at {count(images)})"


def _missing(value: Value) -> str:
    return f"not comparable: {value.why_not}" if value.why_not else "not measured"


def _sheet(entry: LogEntry) -> Iterator[Block]:
    """The first images of the last sheet."""
    run = entry.run
    if run.sheets:
        sheet = run.sheets[-1]
        try:
            images = read_sheet(sheet.path)
        except UserError as error:
            yield Notes((f"Not shown: {error}",))
            return
        picture = side_by_side([("", images[: 2 * ACROSS])], drawings.conditions(run), drawings.prompts(run))
        yield Drawing(f"{entry.number:04d}-sheet", f"After step {count(sheet.step)}.", picture)


def local_time(time: str) -> str:
    """ISO 8601 as a person writes it, in local time."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
