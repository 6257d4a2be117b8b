"""A comparison as a page: what the runs were, what they look like, what differs, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from safelight.render.page import Block, Notes, Page, PageSection, TableBlock, Text, write_page
from safelight.render.wording import count, number
from safelight.report import drawings, tables
from safelight.report.basis import NumberColumn, NumberTable
from safelight.report.budget import MEDIAN, PARTS
from safelight.report.comparison import AtBudget, Comparison, compare
from safelight.report.comparison_json import plain
from safelight.report.facts import RunFacts, gather
from safelight.report.log import LogEntry, log
from safelight.report.log_page import log_page
from safelight.report.seeds import RULE
from safelight.report.settings import SEED
from safelight.store.directory import RunDirectory, names

RAW_RULE = (
    "Raw components: before their weights, so that runs with different weights stay comparable (totals are "
    "shown only where all weights are the same); means over the last tenth of the budget ± their standard "
    "error within the run (batch means), which knows nothing of other seeds. A lower adversarial loss is not "
    "a better generator."
)


ONE_SEED = (
    "Every setting has one seed here, so the spread over seeds is unknown and no difference can be called "
    "more than chance: safelight sweep RECIPE ... --seeds 3 measures it."
)


COST_RULE = (
    "Seconds inside steps: no sheets, checkpoints or evaluation. Ratios are of the median of "
    f"{PARTS} consecutive parts of each run, which a machine busy for less than half of it does not disturb."
)


METRIC_RULE = (
    "Only numbers of the same extractor, n, reference, sampler and seed stand in one table. ± of a metric is "
    "its spread over subsets of the same samples, which knows nothing of other seeds."
)


BOUND_RULE = (
    "bpd*: bits a pixel value of the evidence lower bound at its best sigma, of a density on [0, 1]; less is "
    "better. mse: of pixel values in [0, 1]. kl: nats an image. sigma: of the decoder, implied by the loss."
)


MONITOR_RULE = (
    "Few samples, beside as many real images. diversity, coverage, classes: shares of what real images have, "
    "1 is as good as they are. condition: how much an image changes with its condition, as a share of how "
    "images differ. colour: distance of the mean colours, less is better. copies: share of samples that are "
    "training images, past that of held-out ones."
)


NOTHING = "Fewer than two runs recorded anything, so there is no equal budget to compare at."


def page_of(comparison: Comparison, written: str = "", title: str = "") -> Page:
    """The comparison as a page."""
    names = [run.name for run in comparison.runs]
    return Page(
        mark="comparison",
        title=title or _title(names),
        summary=tables.settings_summary(comparison.settings),
        key_figures=_key_figures(comparison),
        written=written,
        sections=(
            PageSection("Runs", _runs(comparison)),
            PageSection("Side by side", _pictures(comparison)),
            PageSection("What differs", _differences(comparison)),
            PageSection("More than chance?", _judged(comparison)),
            PageSection("Loss", _losses(comparison)),
            PageSection("What was learned", _learned(comparison)),
            PageSection("Held-out", _held_out(comparison)),
            PageSection("Metrics", _metrics(comparison)),
            PageSection("Health", _health(comparison)),
            PageSection("Cost", _cost(comparison)),
        ),
    )


def _title(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{names[0]} and {len(names) - 1} others"
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)


def _key_figures(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    found = [one for one in comparison.settings if one.role == "training" and one.key != SEED]
    figures = [(str(len(comparison.runs)), "runs")]
    if comparison.judged:
        figures.append((str(len(comparison.replicas)), "settings, the rest are seeds"))
    figures.append((str(len(found)), "training keys differ"))
    if comparison.at:
        budget = comparison.at[0].budget
        all_of_them = len(budget.runs) == len(comparison.runs)
        who = "all of them" if all_of_them else f"{len(budget.runs)} of them"
        figures.append((count(round(budget.amount)), f"images seen by {who}"))
    costs = [row.numbers[MEDIAN].value for column in comparison.cost.columns for row in column.rows]
    if len(comparison.cost.columns) == 1 and len(costs) > 1:
        figures.append((f"{number(max(costs) / min(costs))} ×", "the slowest step against the fastest"))
    return tuple(figures)


def _runs(comparison: Comparison) -> tuple[Block, ...]:
    fates = tables.fates((*comparison.runs, *comparison.unreadable))
    table = tables.runs_table(comparison)
    return (TableBlock(table), *_notes(fates))


def _pictures(comparison: Comparison) -> tuple[Block, ...]:
    runs = {run.name: run for run in comparison.runs}
    blocks: list[Block] = []
    for place, pair in enumerate(comparison.by_images.pairs, start=1):
        blocks += drawings.beside(pair, runs, f"images-{place}")
    shown = [{(one.run, one.sheet.step) for one in pair.sheets} for pair in comparison.by_images.pairs]
    for place, pair in enumerate(comparison.by_hours.pairs, start=1):
        chosen = {(one.run, one.sheet.step) for one in pair.sheets}
        if chosen in shown:
            amount = drawings.amount_told("hours", pair.budget.amount)
            names = ", ".join(pair.budget.runs)
            blocks.append(Text(f"At {amount} ({names}) it is the same sheets that were drawn last."))
        else:
            blocks += drawings.beside(pair, runs, f"hours-{place}")
    for place, pair in enumerate(comparison.by_images.newest, start=1):
        blocks += drawings.beside(pair, runs, f"newest-{place}")
    reasons = dict.fromkeys(
        (
            *tables.apart_told(comparison.by_images.apart, "may not share a picture with"),
            *tables.apart_told(comparison.by_hours.apart, "may not share a picture at equal hours with"),
        )
    )
    samplers = tables.apart_told(comparison.by_images.samplers, "drawn otherwise than")
    if not blocks:
        blocks.append(Text("No two runs have sheets that may share a picture."))
    return (*blocks, *_notes(_without_repeats(tuple(reasons))), *_notes(samplers))


def _without_repeats(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Reasons against a picture hold at equal hours too: said once."""
    plain = {line.replace(" at equal hours", "") for line in lines if " at equal hours" not in line}
    return tuple(
        line
        for line in lines
        if " at equal hours" not in line or line.replace(" at equal hours", "") not in plain
    )


def _differences(comparison: Comparison) -> tuple[Block, ...]:
    names = [run.name for run in comparison.runs]
    blocks: list[Block] = []
    for role, title in (
        ("training", "What is trained, and how"),
        ("sampling", "How samples are drawn"),
        ("watching", "What is looked at and kept; it changes no weight"),
    ):
        found = [one for one in comparison.settings if one.role == role]
        if found:
            blocks.append(TableBlock(tables.settings_table(found, names), title))
    if not blocks:
        blocks.append(Text("The resolved recipes are the same."))
    if comparison.edits:
        blocks.append(TableBlock(tables.edits_table(comparison.edits), "Interventions"))
    else:
        blocks.append(Text("No settings were changed during training."))
    if comparison.surroundings:
        table = tables.settings_table(comparison.surroundings, names)
        blocks.append(TableBlock(table, "Data, code and environment"))
    return tuple(blocks)


def _losses(comparison: Comparison) -> tuple[Block, ...]:
    if not comparison.at:
        return (Text(NOTHING),)
    runs = {run.name: run for run in comparison.runs}
    groups = drawings.legends(comparison)
    blocks: list[Block] = []
    panels = [
        panel
        for column in comparison.at[-1].components.columns
        for panel in drawings.curves(column.names, _of(runs, column), groups, "raw/", "images")
    ]
    caption = "Raw components, smoothed; numbers that may not be compared are in panels of their own."
    blocks += drawings.curves_drawing(panels, "images", "losses", caption)
    for at in comparison.at:
        blocks += _loss_tables(at)
    blocks.append(Text(RAW_RULE, quiet=True))
    if not comparison.judged:
        blocks.append(Text(ONE_SEED, quiet=True))
    return tuple(blocks)


def _loss_tables(at: AtBudget) -> list[Block]:
    """Components at one budget, and the totals where they mean the same."""
    given = drawings.amount_told(at.budget.axis, at.budget.amount)
    comparable = len(at.total.columns) == 1
    totals = {row.run: row.numbers["total"] for row in at.total.columns[0].rows} if comparable else None
    blocks: list[Block] = []
    for column in at.components.columns:
        several = totals is not None and len(column.names) > 1
        table = tables.column_table(column, totals if several else None)
        blocks.append(TableBlock(table, f"At {given}"))
    blocks += _notes((*tables.apart_told(at.components.apart), *tables.notes_of(at.components.columns)))
    return [*blocks, *_notes(tables.weights_told(at.total.apart))]


def _held_out(comparison: Comparison) -> tuple[Block, ...]:
    if not comparison.at or not comparison.at[-1].held_out.columns:
        return ()
    runs = {run.name: run for run in comparison.runs}
    groups = drawings.legends(comparison)
    panels = [
        panel
        for column in comparison.at[-1].held_out.columns
        for panel in drawings.curves(column.names, _of(runs, column), groups, "held_out/", "images")
    ]
    blocks: list[Block] = []
    blocks += drawings.curves_drawing(panels, "images", "held-out", "Losses on images never trained on.")
    for at in comparison.at:
        given = drawings.amount_told(at.budget.axis, at.budget.amount)
        blocks += _told(at.held_out, f"Last measured within {given}")
    return tuple(blocks)


def _health(comparison: Comparison) -> tuple[Block, ...]:
    """Verdicts at the ends of the runs, and the numbers of the monitors at the largest equal budget."""
    lines = tuple(
        f"{run.name}: {', '.join(run.verdicts) or 'no verdict against it'}." for run in comparison.runs
    )
    blocks: list[Block] = [Notes(lines)]
    if comparison.at and comparison.at[0].monitored.columns:
        at = comparison.at[0]
        given = drawings.amount_told(at.budget.axis, at.budget.amount)
        blocks += _told(at.monitored, f"Watched samples, last measured within {given}")
        blocks.append(Text(MONITOR_RULE, quiet=True))
    return tuple(blocks)


def _learned(comparison: Comparison) -> tuple[Block, ...]:
    """Variational autoencoders, at the largest equal budget."""
    if not comparison.at or not comparison.at[0].bounds.told.columns:
        return ()
    at = comparison.at[0]
    given = drawings.amount_told(at.budget.axis, at.budget.amount)
    blocks: list[Block] = []
    for verdict in at.bounds.verdicts:
        blocks += _notes(verdict.words)
    blocks += _told(at.bounds.told, f"Last measured within {given}")
    runs = {run.name: run for run in comparison.runs}
    for place, column in enumerate(at.bounds.told.columns, start=1):
        blocks += drawings.reconstructions(_of(runs, column), f"reconstructions-{place}")
    return (*blocks, Text(BOUND_RULE, quiet=True))


def _metrics(comparison: Comparison) -> tuple[Block, ...]:
    blocks: list[Block] = []
    blocks += _told(comparison.metrics, "Stored evaluations, the latest of each run and kind")
    for column in comparison.metrics.columns:
        basis = tuple(f"{fact}: {value}" for fact, value in column.basis.items())
        blocks.append(Text(f"{', '.join(column.runs)} measured with " + "; ".join(basis) + ".", quiet=True))
    if comparison.at:
        at = comparison.at[0]
        given = drawings.amount_told(at.budget.axis, at.budget.amount)
        blocks += _told(at.measured, f"Measured while training, last within {given}")
    if blocks:
        blocks.append(Text(METRIC_RULE, quiet=True))
    else:
        blocks.append(Text("None of them was evaluated: safelight evaluate RUN measures one."))
    return tuple(blocks)


def _cost(comparison: Comparison) -> tuple[Block, ...]:
    if not comparison.cost.columns:
        return ()
    blocks: list[Block] = [TableBlock(tables.cost_table(column)) for column in comparison.cost.columns]
    blocks += _notes(tables.apart_told(comparison.cost.apart))
    return (*blocks, Text(COST_RULE, quiet=True))


def _judged(comparison: Comparison) -> tuple[Block, ...]:
    if not comparison.judged:
        return ()
    blocks: list[Block] = [TableBlock(tables.groups_table(comparison.replicas))]
    for place, judged in enumerate(comparison.judged, start=1):
        blocks += drawings.spreads_drawing(judged, f"seeds-{place}")
        blocks.append(TableBlock(tables.seeds_table(judged), judged.what))
    return (*blocks, Text(RULE, quiet=True))


def _told(told: NumberTable, title: str) -> list[Block]:
    blocks: list[Block] = [TableBlock(tables.column_table(column), title) for column in told.columns]
    return [*blocks, *_notes((*tables.apart_told(told.apart), *tables.notes_of(told.columns)))]


def _of(runs: Mapping[str, RunFacts], column: NumberColumn) -> list[RunFacts]:
    return [runs[name] for name in column.runs]


def _notes(lines: tuple[str, ...]) -> list[Block]:
    return [Notes(lines)] if lines else []


# --- A comparison written down as NAME.md and NAME.html, and the log of a project as log.md and log.html ---


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


def write_log(runs: Path, full: int) -> tuple[tuple[LogEntry, ...], Path, Path]:
    """Write log.md and log.html into a runs directory; returns the entries, the newest first, and the paths.

    full: how many of the newest are told in full. Raises UserError where the disk refuses.
    """
    entries = log([gather(RunDirectory(runs / name)) for name in names(runs)])
    page = log_page(entries, runs.resolve().name, full, _now())
    return entries, *write_page(runs, "log", page)


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
