"""Pictures of a run's report: its last samples, the panels of its method, and how samples developed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from safelight import files
from safelight.config import UserError
from safelight.render.page import Block, Drawing, Notes, Pairs, Text
from safelight.render.sheet import STRIP_COLUMNS, STRIP_ROWS, STRIP_SIDE, Images, panel, reduced
from safelight.render.sheet_file import open_picture, read_sheet
from safelight.render.wording import count
from safelight.report.facts import RunFacts, Sheet

SHOWN_WHOLE = 4  # sheets of a report


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
