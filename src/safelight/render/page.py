"""Pages of words, tables and pictures: NAME.md to be read where it lies, NAME.html to be sent to others.

A page is plain data; whoever compares or lists runs says what is on it, and it looks like a report.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure as Curves
from PIL import Image

from safelight.config import UserError
from safelight.render.figure_file import inline_svg, to_png
from safelight.render.sheet_file import encode_png
from safelight.store.durable import mendable, write_bytes, write_text

# --- Words of strangers in Markdown: nothing they write can become markup, a link or HTML ---

ACTIVE = re.compile(r"([\\`*_\[\]<>|#~&$])")


class Verbatim(str):
    """Markdown that is already safe: `finalize` leaves it as it is."""


def finalize(value: object) -> str:
    """What Jinja2 prints for every expression of a Markdown template: escaped unless Verbatim.

    Backslashes before whatever is active in CommonMark or GitHub's tables, and one line: a line break
    could open a heading, a list or HTML.
    """
    if isinstance(value, Verbatim):
        return value
    line = " ".join(str(value).split())
    line = ACTIVE.sub(r"\\\1", line)
    line = re.sub(r"^([-+=])", r"\\\1", line)  # would open a list or underline a heading
    line = re.sub(r"^(\d+)([.)] )", r"\1\\\2", line)  # would number a list
    return re.sub(r"(?i)(https?|ftp|www)(?=[:.])", r"\1\\", line)  # GitHub makes links of bare addresses


def code(value: object) -> Verbatim:
    """A code span on one line, fenced by more backticks than it holds, its bars escaped for tables."""
    line = " ".join(str(value).split()).replace("|", "\\|")
    if not line:
        return Verbatim("")
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return Verbatim(f"{fence}{pad}{line}{pad}{fence}")


def code_block(value: object) -> Verbatim:
    """A fenced block, its fence longer than any run of backticks inside."""
    text = str(value).strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return Verbatim(f"{fence}\n{text}\n{fence}")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


# --- How templates are printed: every word of strangers is escaped, in HTML as in Markdown ---


@cache
def html_environment() -> Environment:
    """Of the *.html.j2 templates."""
    return Environment(
        loader=PackageLoader("safelight.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def markdown_environment() -> Environment:
    """Of the *.md.j2 templates."""
    environment = Environment(
        loader=PackageLoader("safelight.render"),
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": code, "code_block": code_block, "verbatim": Verbatim}
    return environment


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
class Definitions:
    """Names, each with what there is to say of it."""

    pairs: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "told"


@dataclass(frozen=True)
class TableBlock:
    """A table, with a heading of its own."""

    table: ReportTable
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


Block = Text | Notes | Definitions | TableBlock | Drawing


@dataclass(frozen=True)
class PageSection:
    """A part of a page under a heading; one without blocks is left out."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """Everything a page says."""

    mark: str  # what kind of page it is: "comparison"
    title: str
    sections: tuple[PageSection, ...]
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
            PageSection(section.title, tuple(_drawn(pictures, block) for block in section.blocks))
            for section in page.sections
            if section.blocks
        ),
    )
    markdown, html = folder / f"{name}.md", folder / f"{name}.html"
    write_text(markdown, markdown_environment().get_template("page.md.j2").render(page=drawn))
    write_text(html, html_environment().get_template("page.html.j2").render(page=drawn))
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


@dataclass(frozen=True)
class ReportTable:
    """Rows of plain text. numeric: from which column on values are aligned right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int = 99


WIDEST = 1600  # pixels of a picture inside the HTML; a wider one is reduced there, never on disk


HEAVIEST = 1_000_000  # bytes of a PNG inside the HTML; past it the picture is a JPEG there


@dataclass(frozen=True)
class Figure:
    """One figure. Captions are plain text."""

    link: str  # relative to the run's directory, percent-encoded
    caption: str
    data: str = ""  # a data: address, of a picture
    svg: Markup | None = None  # or an <svg> element, of curves


def data_address(png: bytes, widest: int = WIDEST) -> str:
    """A data: address of a PNG; of a JPEG `widest` pixels wide where it is wider, or over HEAVIEST bytes."""
    with Image.open(io.BytesIO(png)) as picture:
        if picture.width <= widest and len(png) <= HEAVIEST:
            return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        shown = picture.convert("RGB")
    shown.thumbnail((widest, shown.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=86, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
