"""Facts of a comparison as tables of words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from safelight.render.page import ReportTable
from safelight.render.wording import count, duration, number, percent, plural, with_error
from safelight.report.basis import Apart, Number, NumberColumn, NumberRow
from safelight.report.budget import MEAN, MEDIAN
from safelight.report.comparison import Comparison, Judged
from safelight.report.facts import RunFacts
from safelight.report.seeds import Contrast, Seeds
from safelight.report.settings import Replicas, SettingDifference, SettingEdit

HOUR = 3600


BESIDE = 2  # numbers of a table that are each followed by their difference from the first run


WIDEST = 9  # numbers side by side: a page has room for no more, so that of more each has a row


UNEQUAL = 0.05  # share of images seen by which measurements are called unequal


def runs_table(comparison: Comparison) -> ReportTable:
    """What the runs are and how far they came."""
    renamed = any(run.name != run.path.name for run in comparison.runs)
    rows = []
    for run in comparison.runs:
        record = run.record
        images = int(record.images[-1]) if len(record.images) else 0
        hours = float(record.hours[-1]) if len(record.hours) else 0.0
        steps = f"{count(run.step)} of {count(run.steps)}"
        made = (run.recipe, str(run.settings.get("train.seed", "–")), run.status, steps, count(images))
        where = [run.path.name] if renamed else []
        rows.append((run.name, *where, *made, duration(hours * HOUR) if hours else "–"))
    head = ("run", *(["directory"] if renamed else []), "recipe", "seed", "status")
    return ReportTable((*head, "steps", "images seen", "time in steps"), tuple(rows), len(head))


def settings_table(found: Sequence[SettingDifference], runs: Sequence[str]) -> ReportTable:
    """Keys that differ: the longer side goes down."""
    if len(found) >= len(runs):
        return ReportTable(
            ("key", *runs), tuple((one.key, *(one.values[run] for run in runs)) for one in found)
        )
    rows = tuple((run, *(one.values[run] for one in found)) for run in runs)
    return ReportTable(("run", *(one.key for one in found)), rows)


def edits_table(edits: Sequence[SettingEdit]) -> ReportTable:
    """Interventions."""
    rows = tuple(
        (one.run, count(one.step), count(one.images), one.key, one.before, one.after) for one in edits
    )
    return ReportTable(("run", "from step", "images seen", "key", "before", "after"), rows)


def column_table(column: NumberColumn, totals: Mapping[str, Number] | None = None) -> ReportTable:
    """Numbers that may share columns, each beside its difference from the first run's.

    totals: of runs whose totals may be compared, as one more column.
    """
    names = column.names
    first = column.rows[0]
    several = len(column.rows) > 1 and len(names) <= BESIDE
    head = ["run", "images seen"]
    for name in names:
        head += [name, f"against {first.run}"] if several else [name]
    rows = []
    for row in column.rows:
        cells = [row.run, count(row.images)]
        for name in names:
            own = row.numbers.get(name)
            cells.append(told(own))
            if several:
                cells.append("" if row is first else against(own, first.numbers.get(name)))
        rows.append(cells)
    if totals is not None:
        head.append("total")
        for cells in rows:
            cells.append(told(totals.get(cells[0])))
    if any(math.isfinite(own.floor) for own in first.numbers.values()):
        floors = [number(first.numbers[name].floor) if name in first.numbers else "–" for name in names]
        rows.append(["real against real", "", *(cell for own in floors for cell in (own, "")[: 1 + several])])
    if len(names) > WIDEST:
        head, *rows = (list(cells) for cells in zip(head, *rows, strict=True))
    return ReportTable(tuple(head), tuple(map(tuple, rows)), 1)


def cost_table(column: NumberColumn) -> ReportTable:
    """Seconds per thousand images, and the ratio of median parts to the first run."""
    first = _cost(column.rows[0])
    rows = tuple(
        (
            row.run,
            number(row.images / 1000),
            duration(row.hours * HOUR),
            told(row.numbers[MEAN]),
            number(_cost(row)),
            f"{number(_cost(row) / first)} ×",
        )
        for row in column.rows
    )
    head = ("run", "kimg", "time in steps", "s / kimg", "median part", f"against {column.rows[0].run}")
    return ReportTable(head, rows, 1)


def seeds_table(judged: Judged) -> ReportTable:
    """Every number under every setting, with the verdict against the first."""
    rows = [row for seeds in judged.seeds for row in _seeds_rows(seeds)]
    return ReportTable(
        ("number", "setting", "seeds", "mean", "difference", "band", "verdict"), tuple(rows), 3
    )


def _seeds_rows(seeds: Seeds) -> list[tuple[str, ...]]:
    contrasts = {one.label: one for one in seeds.contrasts}
    return [
        (
            seeds.name if spread is seeds.spreads[0] else "",
            spread.label,
            str(len(spread.values)) + (f" (without {', '.join(spread.lost)})" if spread.lost else ""),
            with_error(spread.mean, spread.deviation),
            *_contrast_told(contrasts.get(spread.label)),
        )
        for spread in seeds.spreads
    ]


def groups_table(groups: Sequence[Replicas]) -> ReportTable:
    """Which runs are the same but for their seed."""
    return ReportTable(("setting", "runs"), tuple((one.label, ", ".join(one.runs)) for one in groups))


def told(own: Number | None) -> str:
    """A number with its standard error, if it has one."""
    return "–" if own is None else with_error(own.value, own.error)


def apart_told(reasons: Sequence[Apart], verb: str = "may not stand beside") -> tuple[str, ...]:
    """A sentence for every group of runs whose numbers stand apart."""
    return tuple(
        f"{', '.join(one.runs)} {verb} {', '.join(one.others)}: "
        + "; ".join(f"{fact}: {here} / {there}" for fact, here, there in one.facts)
        for one in reasons
    )


def notes_of(columns: Sequence[NumberColumn]) -> tuple[str, ...]:
    """What is to be known of single numbers, and of those that were not taken at equal images seen."""
    notes = [
        f"{row.run}, {name}: {own.note}."
        for column in columns
        for row in column.rows
        for name, own in row.numbers.items()
        if own.note
    ]
    for column in columns:
        images = [row.images for row in column.rows]
        if min(images) < (1 - UNEQUAL) * max(images):
            runs = ", ".join(column.runs)
            span = f"{count(min(images))} to {count(max(images))}"
            notes.append(
                f"{runs}: measured at different amounts of training ({span} images seen); "
                "favours the longer run."
            )
    return tuple(notes)


def weights_told(reasons: Sequence[Apart]) -> tuple[str, ...]:
    """Why totals are not compared, where it is the weights; other reasons hold for components too."""
    own = [
        replace(one, facts=tuple(fact for fact in one.facts if "loss.weights" in fact[0])) for one in reasons
    ]
    lines = apart_told([one for one in own if one.facts], "is not comparable with that of")
    return tuple(f"The total of {line}" for line in lines)


def fates(runs: Sequence[RunFacts]) -> tuple[str, ...]:
    """What is to be known of runs before trusting their ends, and what could not be read."""
    names = {run.id: run.name for run in runs}
    elsewhere = "a run that is not here"
    lines = [
        f"{run.name}: forked from {names.get(run.parent.run, run.parent_name or elsewhere)} at step "
        f"{count(run.parent.step)}; its images are counted from the start, its time from there."
        for run in runs
        if run.parent
    ]
    lines += [
        f"{run.name}: {run.fate}; compared as far as it came." for run in runs if run.readable and run.fate
    ]
    lines += [f"{run.name}: {problem}" for run in runs if run.readable for problem in run.problems]
    lines += [
        f"{run.name} is left out: {'; '.join(run.problems) or 'it cannot be read'}"
        for run in runs
        if not run.readable
    ]
    return tuple(lines)


def settings_summary(found: Sequence[SettingDifference]) -> str:
    """What differs, in a sentence."""
    trained = [one for one in found if one.role == "training" and one.key != "train.seed"]
    seeds = any(one.key == "train.seed" for one in found)
    if not trained:
        return "The same training settings" + (", under different seeds." if seeds else ".")
    if len(trained) > 3:
        return f"{plural(len(trained), 'training setting')} differ." + (" Seeds differ too." if seeds else "")
    words = "; ".join(f"{one.key} ({', '.join(dict.fromkeys(one.values.values()))})" for one in trained)
    return f"What differs: {words}" + ("; and seeds." if seeds else ".")


def against(own: Number | None, first: Number | None) -> str:
    """The difference from the first: a share of its size, a multiple where it is many times that, or else,
    where one of them is not above 0 and the other is, plainly. Less has a minus, whatever the signs are."""
    if own is None or first is None or not math.isfinite(own.value - first.value):
        return "–"
    ratio = own.value / first.value if first.value else 0.0
    if 0 < ratio < 10:
        return percent((own.value - first.value) / abs(first.value))
    if ratio > 0 and first.value > 0:
        return f"{number(ratio)} ×"
    return ("+" if own.value > first.value else "") + number(own.value - first.value)


def _cost(row: NumberRow) -> float:
    return row.numbers[MEDIAN].value


def _contrast_told(own: Contrast | None) -> tuple[str, str, str]:
    if own is None:
        return "", "", "reference"
    band = f"± {number(own.band)}" if math.isfinite(own.band) else "–"
    return number(own.difference), band, own.verdict
