"""The figures of a report: drawn into the run's report/ directory for Markdown, and as text for HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure as Drawing
from PIL import Image

from safelight.config import UserError
from safelight.render.figure_file import inline_svg, to_png
from safelight.render.figures import evaluated_figure, rate_figure
from safelight.render.page import Figure, data_address
from safelight.render.plot import held_out_figure, loss_figure
from safelight.render.sheet import STRIP_COLUMNS, STRIP_ROWS, STRIP_SIDE, Images, Picture, panel, reduced
from safelight.render.sheet_file import encode_png, open_picture, read_sheet
from safelight.render.wording import count
from safelight.report.facts import ReportFacts, SheetFile
from safelight.store.durable import mendable, write_bytes

DIRECTORY = "report"  # in the run's directory


WIDEST_BESIDE = 1100  # of one of two side by side


SIDE_BY_SIDE = 4  # sheets shown whole


@dataclass(frozen=True)
class Figures:
    """The pictures of a report, by section; a section without any is left out."""

    samples: tuple[Figure, ...] = ()
    development: tuple[Figure, ...] = ()  # one strip, or none
    sheets: tuple[Figure, ...] = ()
    losses: tuple[Figure, ...] = ()
    held_out: tuple[Figure, ...] = ()
    panels: tuple[Figure, ...] = ()
    evaluated: tuple[Figure, ...] = ()
    rate: tuple[Figure, ...] = ()
    missing: tuple[str, ...] = ()  # what could not be shown, and why


def make_figures(run: Path, facts: ReportFacts) -> Figures:
    """Draw every figure, write the drawn ones as PNG into run/report/, and read the saved sheets.

    Raises UserError where the disk refuses.
    """
    history = facts.history
    with mendable(run / DIRECTORY):
        (run / DIRECTORY).mkdir(exist_ok=True)
    shown, missing = _readable(run, [facts.sheets[i] for i in chosen(len(facts.sheets), STRIP_COLUMNS)])
    side_by_side = [shown[i] for i in chosen(len(shown), SIDE_BY_SIDE, evenly=True)]
    losses: tuple[Figure, ...] = ()
    held_out: tuple[Figure, ...] = ()
    if history.components or history.learning_rates:
        caption = "Every loss component as it was recorded, before its weight, and the learning rate."
        losses = (_curves(run, "loss", loss_figure(history), caption),)
    if history.held_out:
        caption = "Measured on images that were never trained on."
        held_out = (_curves(run, "held-out", held_out_figure(history), caption),)
    evaluated: tuple[Figure, ...] = ()
    if history.evaluated:
        caption = "Samples measured while training: few, of the same noises and conditions at every step."
        evaluated = (_curves(run, "evaluated", evaluated_figure(history), caption),)
    rate: tuple[Figure, ...] = ()
    if facts.rate:
        caption = "KL paid and error left on held-out images, from the first measurement to the last."
        rate = (_curves(run, "rate", rate_figure({"": facts.rate}), caption),)
    return Figures(
        samples=_drawn(run, "sample", facts.samples),
        development=_development(run, shown),
        sheets=tuple(_saved(run, sheet) for sheet in side_by_side),
        losses=losses,
        held_out=held_out,
        panels=_drawn(run, "panel", facts.panels),
        evaluated=evaluated,
        rate=rate,
        missing=missing,
    )


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


def _readable(run: Path, sheets: Sequence[SheetFile]) -> tuple[list[SheetFile], tuple[str, ...]]:
    """The sheets that are pictures inside the run's directory, and why the others are not."""
    shown, missing = [], []
    for sheet in sheets:
        path = run / sheet.path
        if not path.resolve().is_relative_to(run.resolve()):
            missing.append(f"{sheet.path}: lies outside the run")
            continue
        try:
            form = open_picture(path).format
        except UserError:
            missing.append(f"{sheet.path}: is not a readable picture")
            continue
        if form == "PNG":
            shown.append(sheet)
        else:
            missing.append(f"{sheet.path}: is {form}, not PNG")
    return shown, tuple(missing)


def _development(run: Path, sheets: Sequence[SheetFile]) -> tuple[Figure, ...]:
    labelled = []
    for sheet in sheets:
        try:
            labelled.append((count(sheet.step), read_sheet(run / sheet.path)))
        except UserError:  # a picture, but not one whose images can be found: it is still shown whole
            continue
    strip = development(labelled) if labelled else None
    if strip is None:
        return ()
    caption = "The same fixed noises at step after step: one row each, left to right in order of training."
    png = encode_png(strip)
    return (Figure(_write(run, "development.png", png), caption, data_address(png)),)


def _saved(run: Path, sheet: SheetFile) -> Figure:
    png = (run / sheet.path).read_bytes()
    return Figure(quote(str(sheet.path)), f"Step {count(sheet.step)}.", data_address(png, WIDEST_BESIDE))


def _drawn(run: Path, name: str, pictures: Sequence[Picture]) -> tuple[Figure, ...]:
    figures = []
    for number, picture in enumerate(pictures, start=1):
        png = encode_png(panel(picture.images, picture.row_labels, picture.column_labels))
        figures.append(Figure(_write(run, f"{name}-{number}.png", png), picture.caption, data_address(png)))
    return tuple(figures)


def _curves(run: Path, name: str, drawn: Drawing, caption: str) -> Figure:
    svg = Markup(inline_svg(drawn, name, caption))
    return Figure(_write(run, f"{name}.png", to_png(drawn)), caption, svg=svg)


def _write(run: Path, name: str, png: bytes) -> str:
    """Write into the run's report directory; the link to it from the run's directory."""
    write_bytes(run / DIRECTORY / name, png)
    return f"{DIRECTORY}/{name}"
