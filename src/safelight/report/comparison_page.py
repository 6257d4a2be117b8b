"""A comparison as a page: what the runs were, what they look like, what differs, what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from safelight.fanout import each, pool
from safelight.render.page import Block, Notes, Page, PageSection, Text, write_page
from safelight.render.wording import count, number
from safelight.report import drawings, pairs, tables
from safelight.report.basis import MEDIAN, PARTS, NumberColumn, NumberTable
from safelight.report.comparison import AtBudget, Comparison, compare
from safelight.report.facts import RunFacts, gather
from safelight.report.seeds import RULE
from safelight.report.settings import SEED
from safelight.store.directory import RunDirectory

RAW_RULE = (
    "Raw components: before their weights, so that runs with different weights stay comparable (totals are "
    "shown only where all weights are the same); means over the last tenth of the budget ± their standard "
    "error within the run (batch means), which excludes variation between seeds. A lower adversarial loss is "
    "not a better generator."
)
ONE_SEED = (
    "Every setting has one seed here: the variation between seeds is unknown, and any difference may be "
    "chance. Measure it with: safelight sweep RECIPE ... --seeds 3"
)
COST_RULE = (
    "Seconds inside steps: no sheets, checkpoints or evaluation. Ratios are of the median of "
    f"{PARTS} consecutive parts of each run, which a machine busy for less than half of it does not disturb."
)
METRIC_RULE = (
    "A table holds numbers of the same extractor, n, reference, sampler and seed only. ± of a metric: spread "
    "over subsets; excludes variation between seeds."
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
ROLES = {
    "training": "What is trained, and how",
    "sampling": "How samples are drawn",
    "watching": "What is watched and kept; no effect on weights",
}


def page_of(
    comparison: Comparison, written: str = "", title: str = "", first: tuple[PageSection, ...] = ()
) -> Page:
    """The comparison as a page. first: sections that come before all others."""
    sections = {
        "Runs": _runs(comparison),
        "Side by side": _pictures(comparison),
        "What differs": _differences(comparison),
        "Pairs": _pairs(comparison),
        "More than chance?": _judged(comparison),
        "Loss": _losses(comparison),
        "What was learned": _learned(comparison),
        "Held-out": _held_out(comparison),
        "Metrics": _metrics(comparison),
        "Health": _health(comparison),
        "Cost": _cost(comparison),
    }
    return Page(
        mark="comparison",
        title=title or _title([run.name for run in comparison.runs]),
        summary=tables.settings_summary(comparison.settings),
        key_figures=tuple(_key_figures(comparison)),
        written=written,
        sections=(*first, *(PageSection(heading, tuple(blocks)) for heading, blocks in sections.items())),
    )


def _title(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{names[0]} and {len(names) - 1} others"
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)


def _key_figures(comparison: Comparison) -> Iterator[tuple[str, str]]:
    yield str(len(comparison.runs)), "runs"
    if comparison.judged:
        yield str(len(comparison.replicas)), "settings; the other runs are seeds of them"
    differing = [
        setting for setting in comparison.settings if setting.role == "training" and setting.key != SEED
    ]
    yield str(len(differing)), "training keys differ"
    if comparison.at:
        budget = comparison.at[0].budget
        everybody = len(budget.runs) == len(comparison.runs)
        runs = "all of them" if everybody else f"{len(budget.runs)} of them"
        yield count(round(budget.amount)), f"images seen by {runs}"
    costs = [row.numbers[MEDIAN].value for column in comparison.cost.columns for row in column.rows]
    if len(comparison.cost.columns) == 1 and len(costs) > 1:
        yield f"{number(max(costs) / min(costs))} ×", "the slowest step against the fastest"


def _runs(comparison: Comparison) -> Iterator[Block]:
    yield tables.runs_table(comparison)
    yield from _notes(tables.fates((*comparison.runs, *comparison.unreadable)))


def _pictures(comparison: Comparison) -> list[Block]:
    runs = {run.name: run for run in comparison.runs}
    by_images, by_hours = comparison.by_images, comparison.by_hours
    blocks: list[Block] = []
    for place, pair in enumerate(by_images.pairs, start=1):
        blocks += drawings.side_by_side_blocks(pair, runs, f"images-{place}")
    shown = [{(chosen.run, chosen.sheet.step) for chosen in pair.sheets} for pair in by_images.pairs]
    for place, pair in enumerate(by_hours.pairs, start=1):
        if {(chosen.run, chosen.sheet.step) for chosen in pair.sheets} in shown:
            amount = drawings.describe_amount("hours", pair.budget.amount)
            blocks.append(Text(f"At {amount} ({', '.join(pair.budget.runs)}), the last sheets are the same."))
        else:
            blocks += drawings.side_by_side_blocks(pair, runs, f"hours-{place}")
    for place, pair in enumerate(by_images.newest, start=1):
        blocks += drawings.side_by_side_blocks(pair, runs, f"newest-{place}")
    if not blocks:
        blocks.append(Text("No two runs have sheets of the same noises."))
    reasons = tables.apart_lines(by_images.apart, "cannot be shown side by side with")
    # What holds at equal images holds at equal hours too: it is said once.
    hours = tables.apart_lines(
        [reason for reason in by_hours.apart if reason not in by_images.apart],
        "cannot be shown side by side at equal hours with",
    )
    samplers = tables.apart_lines(by_images.samplers, "sampled with other settings than")
    return [*blocks, *_notes((*reasons, *hours)), *_notes(samplers)]


def _pairs(comparison: Comparison) -> list[Block]:
    """Forks beside the runs they were forked from, where both are compared."""
    runs = {run.name: run for run in comparison.runs}
    return pairs.blocks(
        comparison.pairs, runs, {name: drawings.conditions(run) for name, run in runs.items()}
    )


def _differences(comparison: Comparison) -> list[Block]:
    names = [run.name for run in comparison.runs]
    blocks: list[Block] = []
    for role, title in ROLES.items():
        if differing := [setting for setting in comparison.settings if setting.role == role]:
            blocks.append(tables.settings_table(differing, names, title))
    if not blocks:
        blocks.append(Text("The resolved recipes are the same."))
    if comparison.edits:
        blocks.append(tables.edits_table(comparison.edits))
    else:
        blocks.append(Text("No settings were changed during training."))
    if comparison.surroundings:
        blocks.append(tables.settings_table(comparison.surroundings, names, "Data, code and environment"))
    return blocks


def _losses(comparison: Comparison) -> Iterator[Block]:
    if not comparison.at:
        yield Text(NOTHING)
        return
    caption = "Raw components, smoothed; numbers that may not be compared are in panels of their own."
    yield from _curves(comparison, comparison.at[-1].components, "raw/", "losses", caption)
    for at in comparison.at:
        comparable = len(at.total.columns) == 1
        totals = {row.run: row.numbers["total"] for row in at.total.columns[0].rows} if comparable else None
        for column in at.components.columns:
            several = totals is not None and len(column.names) > 1
            yield tables.column_table(column, f"At {_amount(at)}", totals if several else None)
        lines = tables.apart_lines(at.components.apart), tables.notes_of(at.components.columns)
        yield from _notes((*lines[0], *lines[1]))
        yield from _notes(tables.total_lines(at.total.apart))
    yield Text(RAW_RULE, quiet=True)
    if not comparison.judged:
        yield Text(ONE_SEED, quiet=True)


def _held_out(comparison: Comparison) -> Iterator[Block]:
    if comparison.at and comparison.at[-1].held_out.columns:
        caption = "Losses on images never trained on."
        yield from _curves(comparison, comparison.at[-1].held_out, "held_out/", "held-out", caption)
        for at in comparison.at:
            yield from _number_tables(at.held_out, f"Last measured within {_amount(at)}")


def _curves(
    comparison: Comparison, table: NumberTable, prefix: str, name: str, caption: str
) -> tuple[Block, ...]:
    groups = drawings.legends(comparison)
    panels = [
        panel
        for column in table.columns
        for panel in drawings.curves(column.names, _of(comparison, column), groups, prefix)
    ]
    return drawings.curves_drawing(panels, name, caption)


def _health(comparison: Comparison) -> Iterator[Block]:
    """Verdicts at the ends of the runs, and the numbers of the monitors at the largest equal budget."""
    lines = (f"{run.name}: {', '.join(run.verdicts) or 'no verdict against it'}." for run in comparison.runs)
    yield Notes(tuple(lines))
    if comparison.at and comparison.at[0].monitored.columns:
        at = comparison.at[0]
        yield from _number_tables(at.monitored, f"Watched samples, last measured within {_amount(at)}")
        yield Text(MONITOR_RULE, quiet=True)


def _learned(comparison: Comparison) -> Iterator[Block]:
    """Variational autoencoders, at the largest equal budget."""
    if comparison.at and comparison.at[0].bounds.table.columns:
        at = comparison.at[0]
        for verdict in at.bounds.verdicts:
            yield from _notes(verdict.words)
        yield from _number_tables(at.bounds.table, f"Last measured within {_amount(at)}")
        for place, column in enumerate(at.bounds.table.columns, start=1):
            yield from drawings.reconstructions(_of(comparison, column), f"reconstructions-{place}")
        yield Text(BOUND_RULE, quiet=True)


def _metrics(comparison: Comparison) -> list[Block]:
    title = "Stored evaluations, the latest of each run and kind"
    blocks = list(_number_tables(comparison.metrics, title))
    for column in comparison.metrics.columns:
        basis = "; ".join(f"{fact}: {value}" for fact, value in column.basis.items())
        blocks.append(Text(f"{', '.join(column.runs)} measured with {basis}.", quiet=True))
    if comparison.at:
        at = comparison.at[0]
        blocks += _number_tables(at.measured, f"Measured while training, last within {_amount(at)}")
    if blocks:
        return [*blocks, Text(METRIC_RULE, quiet=True)]
    return [Text("No run was evaluated; measure one with: safelight evaluate RUN")]


def _cost(comparison: Comparison) -> Iterator[Block]:
    if comparison.cost.columns:
        yield from map(tables.cost_table, comparison.cost.columns)
        yield from _notes(tables.apart_lines(comparison.cost.apart))
        yield Text(COST_RULE, quiet=True)


def _judged(comparison: Comparison) -> Iterator[Block]:
    if comparison.judged:
        yield tables.groups_table(comparison.replicas)
        for place, judged in enumerate(comparison.judged, start=1):
            yield from drawings.spreads_drawing(judged, f"seeds-{place}")
            yield tables.seeds_table(judged)
        yield Text(RULE, quiet=True)


def _number_tables(table: NumberTable, title: str) -> Iterator[Block]:
    for column in table.columns:
        yield tables.column_table(column, title)
    yield from _notes((*tables.apart_lines(table.apart), *tables.notes_of(table.columns)))


def _amount(at: AtBudget) -> str:
    return drawings.describe_amount(at.budget.axis, at.budget.amount)


def _of(comparison: Comparison, column: NumberColumn) -> list[RunFacts]:
    return [comparison.run(name) for name in column.runs]


def _notes(lines: tuple[str, ...]) -> list[Block]:
    return [Notes(lines)] if lines else []


@dataclass(frozen=True)
class Written:
    """A comparison, its page, and where that was written."""

    comparison: Comparison
    page: Page
    markdown: Path
    html: Path

    def to_dict(self) -> dict[str, Any]:
        """For --json: the facts, and the files."""
        files = {"markdown": str(self.markdown), "html": str(self.html)}
        return {**self.comparison.to_dict(), "files": files}


def write_comparison(
    runs: Sequence[RunDirectory],
    out: Path,
    name: str,
    title: str = "",
    called: Mapping[str, str] | None = None,
    first: tuple[PageSection, ...] = (),
    on: str | None = None,
) -> Written:
    """Compare runs and write NAME.md and NAME.html into `out`. Raises UserError where the disk refuses.

    called: what runs are called on the page, by their directory's name. first: sections before all others.
    on: where several runs are read at once, see `fanout.pool`.
    """
    known, facts = called or {}, dict[int, RunFacts]()
    if on:
        folders = {run.path.absolute().parent for run in runs}
        with pool(on, len(runs), *folders, threads=1, device="cpu") as workers:
            facts |= each(workers, gather, [(RunDirectory(run.path.absolute()),) for run in runs])
    read = [facts[place] if on else gather(run) for place, run in enumerate(runs)]
    comparison = compare([replace(run, name=known.get(run.name, run.name)) for run in read])
    page = page_of(comparison, now(), title, first)
    return Written(comparison, page, *write_page(out, name, page))


def now() -> str:
    """The time, as it is printed on a page."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
