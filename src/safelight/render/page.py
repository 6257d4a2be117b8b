"""Pages of words, tables and pictures: NAME.md to be read where it lies, NAME.html to be sent to others.

A page is plain data; whoever compares or lists runs says what is on it, and it looks like a report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from markupsafe import Markup
from matplotlib.figure import Figure as Curves
from PIL import Image

from safelight.config import UserError
from safelight.render import environments
from safelight.render.figure_file import inline_svg, to_png
from safelight.render.report_figures import Figure, data_address
from safelight.render.report_view import Table
from safelight.render.sheet_file import encode_png
from safelight.store.durable import mendable, write_bytes, write_text


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str
    quiet: bool = False  # a rule, a footnote
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Notes:
    """Sentences, one a line."""

    lines: tuple[str, ...]
    kind: ClassVar[str] = "notes"


@dataclass(frozen=True)
class Told:
    """Names, each with what there is to say of it."""

    pairs: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "told"


@dataclass(frozen=True)
class Rows:
    """A table, with a heading of its own."""

    table: Table
    title: str = ""
    kind: ClassVar[str] = "rows"


@dataclass(frozen=True)
class Drawing:
    """A picture or curves. `figure` is filled in when the page is written."""

    name: str  # of its file: letters, digits and -
    caption: str
    drawn: Image.Image | Curves
    figure: Figure | None = None
    kind: ClassVar[str] = "drawing"


Block = Text | Notes | Told | Rows | Drawing


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading; one without blocks is left out."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """Everything a page says."""

    mark: str  # what kind of page it is: "comparison"
    title: str
    sections: tuple[Section, ...]
    summary: str = ""
    key_figures: tuple[tuple[str, str], ...] = ()  # (value, what it is)
    written: str = ""  # date


def write_page(folder: Path, name: str, page: Page) -> tuple[Path, Path]:
    """Write NAME.md and NAME.html into a folder, which is made; return their paths.

    The Markdown links to pictures in NAME_files/. The HTML is one file: pictures, curves and style are
    inside it, no script, no network. Equal pages give equal bytes. Words are escaped wherever they appear.
    Raises UserError where the disk refuses.
    """
    pictures = folder / f"{name}_files"
    if (pictures / "run.json").exists():
        raise UserError(f"{pictures}: is a run, where the pictures of {name}.md should go; rename the run")
    with mendable(pictures):
        pictures.mkdir(parents=True, exist_ok=True)
    drawn = replace(
        page,
        sections=tuple(
            Section(section.title, tuple(_drawn(pictures, block) for block in section.blocks))
            for section in page.sections
            if section.blocks
        ),
    )
    markdown, html = folder / f"{name}.md", folder / f"{name}.html"
    write_text(markdown, environments.markdown().get_template("page.md.j2").render(page=drawn))
    write_text(html, environments.html().get_template("page.html.j2").render(page=drawn))
    return markdown, html


def _drawn(folder: Path, block: Block) -> Block:
    """The block, its picture on disk if it has one."""
    if not isinstance(block, Drawing):
        return block
    link = f"{quote(folder.name)}/{quote(block.name)}.png"
    if isinstance(block.drawn, Image.Image):
        png = encode_png(block.drawn)
        figure = Figure(link, block.caption, data_address(png))
    else:
        png = to_png(block.drawn)
        figure = Figure(link, block.caption, svg=Markup(inline_svg(block.drawn, block.name, block.caption)))
    write_bytes(folder / f"{block.name}.png", png)
    return replace(block, figure=figure)
