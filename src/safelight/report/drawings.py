"""The pictures of pages, and the curves of comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from safelight import files
from safelight.config import UserError
from safelight.render.figures import Line, LinePanel, SpreadPanel, SpreadRow, lines_figure, spreads_figure
from safelight.render.page import Block, Drawing, Notes, Pairs, Text
from safelight.render.sheet import STRIP_COLUMNS, STRIP_ROWS, STRIP_SIDE, Images, panel, reduced, side_by_side
from safelight.render.sheet_file import open_picture, read_sheet
from safelight.render.trends import default_half_life, smooth
from safelight.render.wording import count, duration
from safelight.report import vae
from safelight.report.comparison import Comparison, Judged
from safelight.report.facts import Axis, RunFacts, Sheet
from safelight.report.pictures import Chosen, SideBySide

HOUR = 3600  # seconds
SHOWN_WHOLE = 4  # sheets of a report


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


# --- Pictures of a run's report ---


def samples_blocks(run: RunFacts) -> list[Block]:
    """The last sheet: a column for each class where the samples take the classes in turn."""
    label = run.data.get("conditions", {}).get("label")

    def draw(path: Path, when: str) -> tuple[Image.Image, str]:
        images = read_sheet(path)
        by_class = label and 1 < label["size"] <= 20 and len(images) >= label["size"]
        wide = int(label["size"]) if by_class else max(1, math.isqrt(len(images)))
        whole = images[: len(images) // wide * wide].reshape(-1, wide, *images.shape[1:])
        return panel(whole, (), tuple(label["names"]) if by_class else ()), f"The fixed samples {when}."

    return _pictures(run, "sample", run.sheets[-1:], draw)


def panels_blocks(run: RunFacts) -> list[Block]:
    """The family's figures, each as it was first and as it was last; once where training changes nothing."""
    kinds: dict[str, list[Sheet]] = {}
    for saved in run.panels:
        kinds.setdefault(saved.path.stem.partition("-")[2], []).append(saved)
    shown = []
    for first, *_, last in ((saved[0], *saved) for saved in kinds.values()):
        same = first.path.read_bytes() == last.path.read_bytes()
        shown += [last] if same else [first, last]

    def draw(path: Path, when: str) -> tuple[Image.Image, str]:
        images = read_sheet(path)
        try:
            words = files.parse_json(files.read(path.with_suffix(".json"), links=False))
            grid = images.reshape(-1, words["wide"], *images.shape[1:])
            picture = panel(grid, tuple(map(str, words["rows"])), tuple(map(str, words["columns"])))
            return picture, f"{words['caption']} {when[0].upper()}{when[1:]}."
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{path.with_suffix('.json')}: does not describe {path.name}") from error

    return _pictures(run, "panel", shown, draw)


def _pictures(
    run: RunFacts, name: str, saved: Sequence[Sheet], draw: Callable[[Path, str], tuple[Image.Image, str]]
) -> list[Block]:
    """Pictures drawn from saved ones; those that cannot be read are named instead."""
    blocks: list[Block] = []
    for sheet in saved:
        epochs = sheet.step * run.batch_size / run.dataset_size if run.dataset_size else math.nan
        try:
            picture, caption = draw(sheet.path, f"after step {sheet.step:,} ({epochs:.1f} epochs)")
        except UserError as error:
            blocks.append(Notes((f"Not shown: {error}",)))
            continue
        number = 1 + sum(isinstance(block, Drawing) for block in blocks)
        blocks.append(Drawing(f"{name}-{number}", caption, picture))
    return blocks


def development_blocks(run: RunFacts) -> list[Block]:
    """The same noises at step after step as one strip, and some of the sheets whole."""
    shown, missing = _readable(run, [run.sheets[i] for i in chosen(len(run.sheets), STRIP_COLUMNS)])
    labelled = []
    for saved in shown:
        try:
            labelled.append((count(saved.step), read_sheet(saved.path)))
        except UserError:  # a picture, but not one whose images can be found: it is still shown whole
            continue
    blocks: list[Block] = []
    if labelled and (strip := development(labelled)):
        caption = "The same noises at successive steps: one noise a row, training from left to right."
        blocks.append(Drawing("development", caption, strip))
    whole = [shown[i] for i in chosen(len(shown), SHOWN_WHOLE, evenly=True)]
    if whole:
        drawings = (
            Drawing("", f"Step {count(sheet.step)}.", sheet.path.relative_to(run.path)) for sheet in whole
        )
        blocks.append(Pairs(tuple(drawings)))
    else:
        blocks.append(Text("No contact sheet was saved."))
    return [*blocks, *([Notes(missing)] if missing else [])]


def chosen(count: int, most: int, *, evenly: bool = False) -> list[int]:
    """Positions of at most `most` of `count` things, the first and the last among them.

    Spaced geometrically unless `evenly`: a run changes most at its start.
    """
    if count <= most:
        return list(range(count))
    if most < 2:
        return [count - 1][:most]
    targets = np.linspace(0, count - 1, most) if evenly else np.geomspace(1, count, most) - 1
    picked: list[int] = []
    for position, target in enumerate(targets.round().astype(int).tolist()):
        after = picked[-1] + 1 if picked else 0
        picked.append(min(max(target, after), count - (most - position)))
    return picked


def development(sheets: Sequence[tuple[str, Images]]) -> Image.Image | None:
    """Rows of fixed noises, columns of steps, from labelled sheets (N, H, W, C) in order of step.

    Large images are reduced, by a whole number. Sheets whose images differ in shape from the last one's are
    left out; None where fewer than two remain.
    """
    alike = [sheet for sheet in sheets if sheet[1].shape[1:] == sheets[-1][1].shape[1:]]
    if len(alike) < 2:
        return None
    alike = [alike[i] for i in chosen(len(alike), STRIP_COLUMNS, evenly=True)]
    rows = min(STRIP_ROWS, *(len(images) for _, images in alike))
    grid = np.stack([reduced(images[:rows], STRIP_SIDE) for _, images in alike], axis=1)
    return panel(grid, column_labels=[label for label, _ in alike])


def _readable(run: RunFacts, sheets: Sequence[Sheet]) -> tuple[list[Sheet], tuple[str, ...]]:
    """The sheets that are pictures inside the run's directory, and why the others are not shown."""
    shown, missing = [], []
    for saved in sheets:
        try:
            if not saved.path.resolve().is_relative_to(run.path.resolve()):
                raise UserError("is outside the run")
            if (form := open_picture(saved.path).format) != "PNG":
                raise UserError(f"is {form}, not PNG")
            shown.append(saved)
        except UserError as error:
            why = str(error).removeprefix(f"{saved.path}: ")
            missing.append(f"Not shown: {saved.path.relative_to(run.path)}: {why}")
    return shown, tuple(missing)
