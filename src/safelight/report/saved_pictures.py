"""Pictures of a saved page within a number of bytes: exact, reduced, or fewer; and what to say of that."""

from __future__ import annotations

import io
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

from PIL import Image

from safelight.config import UserError
from safelight.render import tiles
from safelight.render.page import Block, Drawing, Figure, Page, PageSection, Pairs, data_address
from safelight.report.run_drawings import chosen
from safelight.store.directory import RunDirectory

ENCODINGS: Mapping[str, Mapping[str, Any]] = {
    "exactly": {"lossless": True},
    "as WebP of quality 90": {"quality": 90},
    "as WebP of quality 70": {"quality": 70},
}
REDUCED = ((1600, 200_000), (1100, 0), (700, 0))  # pixels across, and bytes of a PNG past which it is a JPEG
PANEL = (1100, 60_000)  # likewise
TRIED = 8  # sheets that an encoding is judged by

Pictures = dict[str, str]  # a data: address by the address that the page asks for
Said = Callable[[int], list[str]]  # what to say of a number of them


def address_of(run: str) -> str:
    """Of a run, as web/static/base.js has it."""
    return f"/api/run/{_quoted(run)}"


def panel_address(directory: RunDirectory, panel: Mapping[str, Any]) -> str:
    """Of a figure of the family, likewise."""
    return f"{address_of(directory.name)}/panels/{_quoted(panel['file'])}"


def _quoted(text: str) -> str:
    return quote(text, safe="!'()*")  # as encodeURIComponent


def sheets(directory: RunDirectory, listed: Sequence[Mapping[str, Any]], most: int) -> tuple[Pictures, Said]:
    """As many sheets, evenly spread, as exact as there is room for."""

    def encoded(grid: bytes, how: Mapping[str, Any]) -> str:
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(grid)) as picture:
            picture.save(buffer, "WEBP", **how)
        return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode('ascii')}"

    readable: dict[int, bytes] = {}
    for sheet in listed:
        with suppress(UserError):
            readable[sheet["step"]] = tiles.tiles(directory, sheet["step"])
    steps, quality, mean = list(readable), "exactly", 1.0
    for words, how in ENCODINGS.items() if steps else ():
        quality = words
        tried = [encoded(readable[steps[at]], how) for at in chosen(len(steps), TRIED, evenly=True)]
        mean = 1.05 * sum(map(len, tried)) / len(tried)
        if mean * len(steps) <= most:
            break
    kept = [steps[at] for at in chosen(len(steps), max(0, int(most / mean)), evenly=True)]
    made = {
        f"{address_of(directory.name)}/tiles/{step}.png": encoded(readable[step], ENCODINGS[quality])
        for step in kept
    }

    def said(count: int) -> list[str]:
        if count == len(listed) and quality == "exactly":
            return []
        return [f"{count:,} of {len(listed):,} sheets are in this page, {quality}."]

    return made, said


def panels(directory: RunDirectory, listed: Sequence[Mapping[str, Any]]) -> tuple[Pictures, Said]:
    """The family's figures, the newest first."""
    made = {}
    for panel in sorted(listed, key=lambda panel: -panel["step"]):
        with suppress(UserError):
            data = tiles.picture(directory, "panels", panel["file"])
            made[panel_address(directory, panel)] = data_address(data, *PANEL)

    def said(count: int) -> list[str]:
        return [f"{count:,} of {len(listed):,} figures of the family are in this page."] * (
            count < len(listed)
        )

    return made, said


def fitting(pictures: Pictures, most: int) -> Pictures:
    """The first of them, as many as fit."""
    kept, left = {}, most
    for address, data in pictures.items():
        left -= len(data)
        if left < 0:
            break
        kept[address] = data
    return kept


def reduced(page: Page, most: int) -> tuple[Page, list[str], int]:
    """A report with pictures of at most so many bytes; what to say of those left out; and the bytes."""
    small = page
    for widest, heaviest in REDUCED:
        small = mapped(page, partial(_small, widest=widest, heaviest=heaviest))
        sizes = [len(drawing.figure.data) for drawing in drawings(small) if drawing.figure]
        if sum(sizes) <= most:
            return small, [], sum(sizes)
    kept = len(sizes)
    while kept and sum(sizes[:kept]) > most:
        kept -= 1
    which = iter(range(len(sizes)))
    bare = mapped(
        small, lambda drawing: drawing if next(which) < kept else replace(drawing, figure=Figure(""))
    )
    words = f"{len(sizes) - kept:,} of {len(sizes):,} pictures of the report are not in this page."
    return bare, [words], sum(sizes[:kept])


def _small(drawing: Drawing, widest: int, heaviest: int) -> Drawing:
    assert drawing.figure is not None
    if drawing.figure.svg:  # as a picture: the page allows no style but its own
        svg = str(drawing.figure.svg).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        data = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode('ascii')}"
    else:
        data = data_address(b64decode(drawing.figure.data.partition(",")[2]), widest, heaviest)
    return replace(drawing, figure=replace(drawing.figure, svg=None, data=data))


def mapped(page: Page, change: Callable[[Drawing], Drawing]) -> Page:
    """A page with its pictures changed."""

    def block_of(block: Block) -> Block:
        if isinstance(block, Pairs):
            return Pairs(tuple(map(change, block.drawings)))
        return change(block) if isinstance(block, Drawing) else block

    sections = (PageSection(part.title, tuple(map(block_of, part.blocks))) for part in page.sections)
    return replace(page, sections=tuple(sections))


def drawings(page: Page) -> Iterator[Drawing]:
    """The pictures of a page, in their order."""
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, Pairs):
                yield from block.drawings
            elif isinstance(block, Drawing):
                yield block
