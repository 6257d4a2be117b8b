"""Facts of a comparison as tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from safelight.render.page import ReportTable
from safelight.render.wording import count, duration, number, percent, plural, with_error
from safelight.report.basis import MEAN, MEDIAN, PARTS, Apart, Number, NumberColumn
from safelight.report.comparison import Comparison, Judged
from safelight.report.facts import RunFacts
from safelight.report.seeds import Contrast
from safelight.report.settings import Replicas, SettingDifference, SettingEdit

HOUR = 3600  # seconds
COMPARED = 2  # numbers of a table that are each followed by their difference from the first run
WIDEST = 9  # numbers side by side: a page has room for no more, so that of more each has a row
UNEQUAL = 0.05  # share of images seen by which measurements are called unequal


def runs_table(comparison: Comparison) -> ReportTable:
    """What the runs are and how far they came."""
    renamed = any(run.name != run.path.name for run in comparison.runs)
    rows = []
    for run in comparison.runs:
        where = [run.path.name] if renamed else []
        made = (run.recipe, str(run.settings.get("train.seed", "–")), run.status)
        steps, hours = f"{count(run.step)} of {count(run.steps)}", run.record.hours_spent
        reached = (steps, count(run.record.images_seen), duration(hours * HOUR) if hours else "–")
        rows.append((run.name, *where, *made, *reached))
    head = ("run", *(["directory"] if renamed else []), "recipe", "seed", "status")
    return ReportTable((*head, "steps", "images seen", "time in steps"), tuple(rows), len(head))


def settings_table(
    differences: Sequence[SettingDifference], runs: Sequence[str], title: str = ""
) -> ReportTable:
    """Keys that differ: the longer side goes down."""
    if len(differences) >= len(runs):
        by_key = tuple((setting.key, *(setting.values[run] for run in runs)) for setting in differences)
        return ReportTable(("key", *runs), by_key, title=title)
    by_run = tuple((run, *(setting.values[run] for setting in differences)) for run in runs)
    return ReportTable(("run", *(setting.key for setting in differences)), by_run, title=title)


def edits_table(edits: Sequence[SettingEdit]) -> ReportTable:
    """Interventions."""
    rows = tuple(
        (edit.run, count(edit.step), count(edit.images), edit.key, edit.before, edit.after) for edit in edits
    )
    head = ("run", "from step", "images seen", "key", "before", "after")
    return ReportTable(head, rows, title="Interventions")


def column_table(column: NumberColumn, title: str, totals: Mapping[str, Number] | None = None) -> ReportTable:
    """Numbers that may share columns, each beside its difference from the first run's.

    totals: of runs whose totals may be compared, as one more column.
    """
    names = column.names
    first = column.rows[0]
    several = len(column.rows) > 1 and len(names) <= COMPARED
    head = ["run", "images seen"]
    for name in names:
        head += [name, f"against {first.run}"] if several else [name]
    rows = []
    for row in column.rows:
        cells = [row.run, count(row.images)]
        for name in names:
            value = row.numbers.get(name)
            cells.append(cell(value))
            if several:
                cells.append("" if row is first else against(value, first.numbers.get(name)))
        rows.append(cells)
    if totals is not None:
        head.append("total")
        for cells in rows:
            cells.append(cell(totals.get(cells[0])))
    if any(math.isfinite(value.floor) for value in first.numbers.values()):
        floors = [number(first.numbers[name].floor) if name in first.numbers else "–" for name in names]
        padded = (pair for floor in floors for pair in (floor, "")[: 1 + several])
        rows.append(["real against real", "", *padded])
    if len(names) > WIDEST:
        head, *rows = (list(cells) for cells in zip(head, *rows, strict=True))
    return ReportTable(tuple(head), tuple(map(tuple, rows)), 1, title)


def cost_table(column: NumberColumn) -> ReportTable:
    """Seconds per thousand images, and the ratio of median parts to the first run."""
    medians = [row.numbers[MEDIAN].value for row in column.rows]
    rows = tuple(
        (
            row.run,
            number(row.images / 1000),
            duration(row.hours * HOUR),
            cell(row.numbers[MEAN]),
            number(median),
            f"{number(median / medians[0])} ×",
        )
        for row, median in zip(column.rows, medians, strict=True)
    )
    head = ("run", "kimg", "time in steps", "s / kimg", f"median of {PARTS} parts")
    return ReportTable((*head, f"against {column.rows[0].run}"), rows, 1)


def seeds_table(judged: Judged) -> ReportTable:
    """Every number under every setting, with the verdict against the first."""
    rows = []
    for seeds in judged.seeds:
        contrasts = {contrast.label: contrast for contrast in seeds.contrasts}
        for spread in seeds.spreads:
            lost = f" (without {', '.join(spread.lost)})" if spread.lost else ""
            rows.append(
                (
                    seeds.name if spread is seeds.spreads[0] else "",
                    spread.label,
                    f"{len(spread.values)}{lost}",
                    with_error(spread.mean, spread.deviation),
                    *_contrast_cells(contrasts.get(spread.label)),
                )
            )
    head = ("number", "setting", "seeds", "mean", "difference", "band", "verdict")
    return ReportTable(head, tuple(rows), 3, judged.what)


def groups_table(groups: Sequence[Replicas]) -> ReportTable:
    """Which runs are the same but for their seed."""
    return ReportTable(("setting", "runs"), tuple((group.label, ", ".join(group.runs)) for group in groups))


def cell(value: Number | None) -> str:
    """A number with its standard error, if it has one."""
    return "–" if value is None else with_error(value.value, value.error)


def apart_lines(reasons: Iterable[Apart], verb: str = "") -> tuple[str, ...]:
    """A sentence for every group of runs whose numbers stand apart. verb: instead of "is not comparable"."""
    return tuple(
        f"{', '.join(reason.runs)} {verb or _incomparable(reason.runs)} {', '.join(reason.others)}: "
        + "; ".join(f"{fact}: {here} / {there}" for fact, here, there in reason.facts)
        for reason in reasons
    )


def _incomparable(runs: Sequence[str]) -> str:
    return f"{'is' if len(runs) == 1 else 'are'} not comparable with"


def notes_of(columns: Sequence[NumberColumn]) -> tuple[str, ...]:
    """What is to be known of single numbers, and of those that were not taken at equal images seen."""
    notes = [
        f"{row.run}, {name}: {value.note}."
        for column in columns
        for row in column.rows
        for name, value in row.numbers.items()
        if value.note
    ]
    for column in columns:
        images = [row.images for row in column.rows]
        if min(images) < (1 - UNEQUAL) * max(images):
            span = f"{count(min(images))} to {count(max(images))} images seen"
            why = f"measured at different amounts of training ({span}); favours the longer run."
            notes.append(f"{', '.join(column.runs)}: {why}")
    return tuple(notes)


def total_lines(reasons: Sequence[Apart]) -> tuple[str, ...]:
    """Why totals are not compared, where it is the weights; other reasons hold for components too."""
    weights = [
        replace(reason, facts=tuple(fact for fact in reason.facts if "loss.weights" in fact[0]))
        for reason in reasons
    ]
    lines = apart_lines((reason for reason in weights if reason.facts), "is not comparable with that of")
    return tuple(f"The total of {line}" for line in lines)


def fates(runs: Sequence[RunFacts]) -> tuple[str, ...]:
    """What is to be known of runs before trusting their ends, and what could not be read."""
    names = {run.id: run.name for run in runs}
    readable = [run for run in runs if run.readable]
    elsewhere = "a run that is not here"
    lines = [
        f"{run.name}: forked from {names.get(run.parent.run, run.parent_name or elsewhere)} at step "
        f"{count(run.parent.step)}; images are counted from the start, time from the fork."
        for run in runs
        if run.parent
    ]
    lines += [f"{run.name}: {run.fate}; compared up to its last step." for run in readable if run.fate]
    lines += [f"{run.name}: {problem}" for run in readable for problem in run.problems]
    lines += [
        f"{run.name} is left out: {'; '.join(run.problems) or 'it cannot be read'}"
        for run in runs
        if not run.readable
    ]
    return tuple(lines)


def settings_summary(differences: Sequence[SettingDifference]) -> str:
    """What differs, in a sentence."""
    trained = [
        setting for setting in differences if setting.role == "training" and setting.key != "train.seed"
    ]
    seeds = any(setting.key == "train.seed" for setting in differences)
    if not trained:
        return "The same training settings" + (", under different seeds." if seeds else ".")
    if len(trained) > 3:
        return f"{plural(len(trained), 'training setting')} differ." + (" Seeds differ too." if seeds else "")
    words = "; ".join(
        f"{setting.key} ({', '.join(dict.fromkeys(setting.values.values()))})" for setting in trained
    )
    return f"What differs: {words}" + ("; and seeds." if seeds else ".")


def against(value: Number | None, first: Number | None) -> str:
    """The difference from the first: a share of its size, a multiple where it is many times that, or plainly
    where one of them is not above 0 and the other is. Less has a minus, whatever the signs are."""
    if value is None or first is None or not math.isfinite(value.value - first.value):
        return "–"
    ratio = value.value / first.value if first.value else 0.0
    if 0 < ratio < 10:
        return percent((value.value - first.value) / abs(first.value))
    if ratio > 0 and first.value > 0:
        return f"{number(ratio)} ×"
    return ("+" if value.value > first.value else "") + number(value.value - first.value)


def _contrast_cells(contrast: Contrast | None) -> tuple[str, str, str]:
    if contrast is None:
        return "", "", "reference"
    band = f"± {number(contrast.band)}" if math.isfinite(contrast.band) else "–"
    return number(contrast.difference), band, contrast.verdict
