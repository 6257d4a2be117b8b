"""Curves, spreads and pictures side by side: what comparisons draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from safelight.config import UserError
from safelight.render.figures import Line, LinePanel, SpreadPanel, SpreadRow, lines_figure, spreads_figure
from safelight.render.page import Block, Drawing, Notes
from safelight.render.sheet import Images, panel, side_by_side
from safelight.render.sheet_file import read_sheet
from safelight.render.trends import default_half_life, smooth
from safelight.render.wording import count, duration
from safelight.report import vae
from safelight.report.comparison import Comparison, Judged
from safelight.report.facts import RunFacts
from safelight.report.pictures import Chosen, SideBySide
from safelight.report.records import Axis

HOUR = 3600  # seconds


def describe_amount(axis: Axis, amount: float) -> str:
    """A budget in words: "64,000 images seen", "12 min 5 s in steps"."""
    return (
        f"{count(round(amount))} images seen" if axis == "images" else f"{duration(amount * HOUR)} in steps"
    )


def side_by_side_blocks(pair: SideBySide, runs: Mapping[str, RunFacts], name: str) -> list[Block]:
    """Sheets side by side; those that cannot be read, or are of another shape, are named instead."""
    read: list[tuple[Chosen, Images]] = []
    notes = []
    for chosen in pair.sheets:
        try:
            read.append((chosen, read_sheet(chosen.sheet.path)))
        except UserError as error:
            notes.append(f"Not shown: {error}")
    alike = [(chosen, images) for chosen, images in read if images.shape[1:] == read[0][1].shape[1:]]
    notes += [
        f"Not shown: {chosen.run}, whose images are {'×'.join(map(str, images.shape[1:]))}"
        for chosen, images in read
        if images.shape[1:] != read[0][1].shape[1:]
    ]
    notes += [f"{run} has no sheet by then." for run in pair.without]
    blocks: list[Block] = []
    if len(alike) > 1:
        first = runs[alike[0][0].run]
        labelled = [(chosen.run, images) for chosen, images in alike]
        picture = side_by_side(labelled, conditions(first), prompts(first))
        blocks.append(Drawing(name, _caption(pair, [chosen for chosen, _ in alike]), picture))
    return [*blocks, *([Notes(tuple(notes))] if notes else [])]


def reconstructions(runs: Sequence[RunFacts], name: str) -> tuple[Block, ...]:
    """The same held-out images as each run decodes them; nothing where they have drawn none."""
    rows = vae.reconstructions(runs)
    if not rows:
        return ()
    picture = panel(np.stack([images for _, images in rows]), [row for row, _ in rows])
    caption = "Held-out images, and each run's reconstruction from the mean of the posterior, as last drawn."
    return (Drawing(name, caption, picture),)


def curves(
    names: Iterable[str],
    runs: Sequence[RunFacts],
    groups: Mapping[str, tuple[int, str]],
    prefix: str,
    leading: bool = False,
) -> list[LinePanel]:
    """A panel for every number against images seen: each run's course, smoothed if it is a training loss.

    names: of columns, without their prefix. groups: for each run the place of its setting, which decides
    its colour, and what the legend calls that. leading: the first run decides the scale.
    """
    panels = []
    for name in names:
        lines = []
        labelled: set[int] = set()
        for run in runs:
            column = run.record.columns.get(f"{prefix}{name}")
            finite = np.isfinite(column.values) if column else np.zeros(0, bool)
            if column is None or not finite.any():
                continue
            rows, values = column.rows[finite], column.values[finite]
            if prefix == "raw/":
                values = smooth(rows, values, default_half_life(rows))
            group, label = groups[run.name]
            x = run.record.along("images")[rows] / 1000
            lines.append(Line(run.name, x, values, group, "" if group in labelled else label))
            labelled.add(group)
        if lines:
            panels.append(LinePanel(name, tuple(lines), leading))
    return panels


def curves_drawing(panels: Sequence[LinePanel], name: str, caption: str) -> tuple[Block, ...]:
    """The panels as one figure; nothing for none."""
    return (Drawing(name, caption, lines_figure(panels, "thousand images seen")),) if panels else ()


def spreads_drawing(judged: Judged, name: str) -> tuple[Block, ...]:
    """Seeds, means and bands of every number."""
    panels = []
    for seeds in judged.seeds:
        bands = {contrast.label: (contrast.band, contrast.verdict) for contrast in seeds.contrasts}
        rows = tuple(
            SpreadRow(spread.label, spread.values, spread.mean, *bands.get(spread.label, (np.nan, "")))
            for spread in seeds.spreads
            if spread.values
        )
        if rows:
            panels.append(SpreadPanel(seeds.name, rows))
    return (Drawing(name, f"{judged.what}: every seed.", spreads_figure(panels)),) if panels else ()


def legends(comparison: Comparison) -> dict[str, tuple[int, str]]:
    """For each run the place of its setting, and what a legend calls that."""
    legend: dict[str, tuple[int, str]] = {}
    for place, group in enumerate(comparison.replicas):
        alone = len(group.runs) == 1
        label = group.runs[0] if alone else f"{group.label} ({len(group.runs)} seeds)"
        legend |= dict.fromkeys(group.runs, (place, label))
    return legend


def _caption(pair: SideBySide, chosen: Sequence[Chosen]) -> str:
    if pair.newest:
        each = "; ".join(
            f"{each.run} after step {count(each.sheet.step)}, {describe_amount('images', each.images)}"
            for each in chosen
        )
        return (
            f"The newest sheets, after different amounts of training: {each}. A run a row, the same noises."
        )
    axis, amount = pair.budget.axis, pair.budget.amount
    words = (
        f"At {describe_amount(axis, amount)}: the same noises and conditions in every column, a run a row."
    )
    if axis == "images" and all(each.share > 0.999 for each in chosen):
        if len({each.sheet.step for each in chosen}) == 1:
            return f"{words} After step {count(chosen[0].sheet.step)} of each."
        steps = ", ".join(f"{count(each.sheet.step)} ({each.run})" for each in chosen)
        return f"{words} After step {steps}."
    each = ", ".join(
        f"{each.run} step {count(each.sheet.step)}, "
        f"{describe_amount(axis, each.images if axis == 'images' else each.hours)} ({each.share:.0%})"
        for each in chosen
    )
    return f"{words} The last sheet drawn within that: {each}."


def prompts(run: RunFacts) -> tuple[str, ...]:
    """The texts whose samples a run's sheets show, in their order; none where it has none."""
    texts = run.settings_at(run.step).get("watch.prompts") or ()
    return tuple(map(str, texts)) if "text" in run.data.get("conditions", {}) else ()


def conditions(run: RunFacts) -> tuple[str, ...]:
    """Names of the classes that take turns on the sheets of a run; none without labels."""
    label = run.data.get("conditions", {}).get("label")
    if not label:
        return ()
    return tuple(label["names"]) or tuple(map(str, range(int(label["size"]))))
