"""The log of a project as a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

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
    TableBlock,
    Text,
)
from safelight.render.sheet import ACROSS, side_by_side
from safelight.render.sheet_file import read_sheet
from safelight.render.wording import count, duration, number, plural
from safelight.report import drawings, tables
from safelight.report.basis import Number, worded
from safelight.report.facts import RunFacts
from safelight.report.log import LogEntry, Value
from safelight.report.settings import SettingDifference

HOUR = 3600


MOST = 3  # changes that a line of the table says


EPOCHS = 24  # rows of an epoch each


NEAR = 0.01  # share of the images seen by which two amounts are still called equal


def log_page(entries: Sequence[LogEntry], place: str, full: int, written: str = "") -> Page:
    """The log as a page. full: how many of the newest are told in full; the table has all of them."""
    told = [entry for entry in entries if entry.run.readable][:full]
    hours = sum(float(entry.run.record.hours[-1]) for entry in entries if len(entry.run.record.hours))
    older = len([entry for entry in entries if entry.run.readable]) - len(told)
    blocks: list[Block] = [TableBlock(_overview(entries))]
    if older:
        blocks.append(Text(f"The newest {len(told)} are told below, {older} older ones in this table only."))
    unreadable = tables.fates([entry.run for entry in entries if not entry.run.readable])
    if unreadable:
        blocks.append(Notes(unreadable))
    return Page(
        mark="experiment log",
        title=place,
        summary=f"{plural(len(entries), 'run')}, the newest first: what each changed, and what came of it.",
        key_figures=(
            (str(len(entries)), "runs"),
            (str(sum(entry.run.status == "finished" for entry in entries)), "finished"),
            (duration(hours * HOUR) if hours else "–", "in training steps"),
        ),
        written=written,
        sections=(
            PageSection("All runs", tuple(blocks)),
            *(PageSection(entry.run.name, _entry(entry)) for entry in told),
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
        loss = f"{first.name} {tables.told(first.end)}" if first else "–"
        made = run.name, told_time(run.created), run.status, run.recipe, _changed(entry)
        rows.append((*made, count(_images(run)), loss, number(entry.seconds_per_kimg)))
    head = ("run", "begun", "status", "recipe", "changed", "images seen", "at its end", "s / kimg")
    return ReportTable(head, tuple(rows), 5)


def _entry(entry: LogEntry) -> tuple[Block, ...]:
    """A run in full."""
    run = entry.run
    hours = float(run.record.hours[-1]) if len(run.record.hours) else 0.0
    facts = (
        f"{run.recipe}, seed {run.settings.get('train.seed', '–')}, begun {told_time(run.created)}: "
        f"{run.status} after {count(run.step)} of {count(run.steps)} steps, "
        f"{count(_images(run))} images seen{_epochs_told(run)}, {duration(hours * HOUR)} in steps."
    )
    blocks: list[Block] = [Text(facts)]
    if notes := tables.fates([replace(run, parent=None)]):  # its origin is told next
        blocks.append(Notes(notes))
    blocks.append(Text(_origin(entry)))
    if entry.changes:
        blocks.append(Definitions(tuple((one.key, change(one)) for one in entry.changes)))
    if entry.edits:
        blocks.append(TableBlock(tables.edits_table(entry.edits), "Interventions"))
    if entry.before is None:
        blocks.append(Definitions(_settings(run)))
    blocks += _sheet(entry)
    blocks += _reconstructions(entry)
    if entry.values:
        blocks.append(TableBlock(_values(entry)))
    if epochs := _epochs(run):
        blocks.append(TableBlock(epochs, "Epoch by epoch, means of raw components"))
    blocks += _curves(entry)
    return tuple(blocks)


def _settings(run: RunFacts) -> tuple[tuple[str, str], ...]:
    """All that decides the weights of a run, by section."""
    return tuple(
        (section, ", ".join(f"{key} {worded(value)}" for key, value in flatten(run.tree[section]).items()))
        for section in ("network", "method", "loss", "optim", "train")
        if run.tree.get(section)
    )


def _epochs_told(run: RunFacts) -> str:
    images = int(run.data.get("train", 0))
    return f" ({number(round(_images(run) / images, 2))} epochs)" if images else ""


def _epochs(run: RunFacts) -> ReportTable | None:
    """Mean components of every epoch, of at most EPOCHS of them; None of a run that saw less than two."""
    images, record = int(run.data.get("train", 0)), run.record
    if not images or _images(run) < 2 * images:
        return None
    last = math.ceil(_images(run) / images)
    rows = []
    for epoch in sorted({round(place) for place in np.linspace(1, last, min(last, EPOCHS))}):
        cells = [count(epoch)]
        for name in record.components:
            column = record.columns[f"raw/{name}"]
            seen = record.images[column.rows]
            own = column.values[(seen > (epoch - 1) * images) & (seen <= epoch * images)]
            own = own[np.isfinite(own)]
            cells.append(number(float(own.mean())) if len(own) else "–")
        rows.append(tuple(cells))
    return ReportTable(("epoch", *record.components), tuple(rows), 1)


def _reconstructions(entry: LogEntry) -> tuple[Block, ...]:
    """Held-out images as a variational autoencoder decodes them, beside the other run's."""
    runs = [*([entry.before] if entry.before and entry.comparable else []), entry.run]
    return drawings.reconstructions(runs, f"{entry.number:04d}-reconstructions")


def _origin(entry: LogEntry) -> str:
    """What the run is a change of."""
    run, before = entry.run, entry.before
    lost = "; its parent is not among these runs" if run.parent and entry.relation != "parent" else ""
    if before is None:
        return f"The first of its recipe and data here{lost}."
    if entry.relation == "parent" and run.parent:
        words = f"Forked from {before.name} at step {count(run.parent.step)}"
    else:
        words = f"Against {before.name}, the run before it of this recipe and data{lost}"
    if entry.relation == "before" and before.recipe != run.recipe:
        words = f"Against {before.name}, of {before.recipe}, the run before it of this data{lost}"
    return f"{words}, changed:" if entry.changes else f"{words}: the same settings."


def change(one: SettingDifference) -> str:
    """ "0.001 → 0.0003": a setting of two runs."""
    return " → ".join(one.values.values())


def _changed(entry: LogEntry) -> str:
    """The changes in a few words; those that change no weight are left out."""
    if entry.before is None:
        return "–"
    found = [one for one in entry.changes if one.role == "training"]
    words = [f"{one.key} {change(one)}" for one in found[:MOST]]
    if len(found) > MOST:
        words.append(f"{len(found) - MOST} more")
    if entry.edits:
        words.append(plural(len(entry.edits), "intervention"))
    return "; ".join(words) or "nothing that is trained"


def _values(entry: LogEntry) -> ReportTable:
    """Numbers at the end, and beside the other run's at equal images seen."""
    if entry.before is None or not entry.equal_images:
        own = tuple((value.name, tables.told(value.end)) for value in entry.values)
        return ReportTable(("number", "at its end"), own, 1)
    rows = tuple(
        (
            value.name,
            tables.told(value.end),
            _at(value.now, value.images[0], entry.equal_images),
            _at(value.before, value.images[1], entry.equal_images) if value.before else _missing(value),
            tables.against(value.now, value.before),
        )
        for value in entry.values
    )
    given = f"at {count(entry.equal_images)} images"
    return ReportTable(("number", "at its end", given, f"{entry.before.name} {given}", "difference"), rows, 1)


def _at(own: Number | None, images: int, equal: int) -> str:
    """A number, and how many images were seen where those are not as many as the column says."""
    near = abs(images - equal) <= NEAR * equal
    return tables.told(own) if own is None or near else f"{tables.told(own)} (at {count(images)})"


def _missing(value: Value) -> str:
    return f"not comparable: {value.why_not}" if value.why_not else "not measured"


def _sheet(entry: LogEntry) -> tuple[Block, ...]:
    """The first images of the last sheet."""
    if not entry.run.sheets:
        return ()
    sheet = entry.run.sheets[-1]
    try:
        images = read_sheet(sheet.path)
    except UserError as error:
        return (Notes((f"Not shown: {error}",)),)
    shown = [("", images[: 2 * ACROSS])]
    picture = side_by_side(shown, drawings.conditions(entry.run), drawings.prompts(entry.run))
    return (Drawing(f"{entry.number:04d}-sheet", f"After step {count(sheet.step)}.", picture),)


def _curves(entry: LogEntry) -> tuple[Block, ...]:
    """Components of the run, and of the one it is compared with where they may share a panel."""
    runs = [entry.run, *([entry.before] if entry.before and entry.comparable else [])]
    groups = {run.name: (place, run.name) for place, run in enumerate(runs)}
    panels = drawings.curves(entry.run.record.components, runs, groups, "raw/", "images", leading=True)
    return drawings.curves_drawing(
        panels, "images", f"{entry.number:04d}-losses", "Raw components, smoothed."
    )


def _images(run: RunFacts) -> int:
    return int(run.record.images[-1]) if len(run.record.images) else 0


def told_time(time: str) -> str:
    """ISO 8601 as a person writes it, in local time."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
