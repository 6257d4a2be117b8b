"""A page of blocks: words, tables and pictures.

The run report, comparisons and the log are built as pages, and every page is rendered in three ways: NAME.md
to read beside its pictures, NAME.html to send to others, and its words and tables in a terminal
(page_terminal.py).
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure as Curves
from PIL import Image

from safelight.config import UserError
from safelight.render.figure_file import inline_svg, to_png
from safelight.render.sheet_file import encode_png
from safelight.store.durable import mendable, write_bytes, write_text

WIDEST = 1600  # pixels of a picture inside the HTML; a wider one is reduced there, never on disk
WIDEST_IN_PAIRS = 1100  # of one of two side by side
HEAVIEST = 1_000_000  # bytes of a PNG inside the HTML; past it the picture is a JPEG there
ACTIVE = re.compile(r"([\\`*_\[\]<>|#~&$])")  # in CommonMark and GitHub's tables


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str
    quiet: bool = False  # a rule, a footnote


@dataclass(frozen=True)
class Notes:
    """Sentences, one a line."""

    lines: tuple[str, ...]
    title: str = ""


@dataclass(frozen=True)
class Definitions:
    """Names, each with a sentence or two."""

    pairs: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Values:
    """Names, each with a short value, in groups under a title."""

    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True)
class ReportTable:
    """Rows of plain text. numeric: from which column on values are aligned right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int = 99
    title: str = ""


@dataclass(frozen=True)
class Commands:
    """Lines to type, exactly as they are."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A picture as a rendered page refers to it."""

    link: str  # relative to the page, percent-encoded
    data: str = ""  # a data: address, of a picture
    svg: Markup | None = None  # or an <svg> element, of curves


@dataclass(frozen=True)
class Drawing:
    """A picture, curves, or the path of a PNG that was saved before, relative to the page's folder."""

    name: str  # of its file: letters, digits and -
    caption: str
    drawn: Image.Image | Curves | Path
    figure: Figure | None = None  # filled in when the page is written


@dataclass(frozen=True)
class Pairs:
    """Pictures, two side by side."""

    drawings: tuple[Drawing, ...]


Block = Text | Notes | Definitions | Values | ReportTable | Commands | Drawing | Pairs


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


def write_page(
    folder: Path, name: str, page: Page, pictures: str = "", html: Callable[[Page], str] | None = None
) -> tuple[Path, Path]:
    """Write NAME.md and NAME.html into a folder, which is made; return their paths.

    The Markdown links to pictures, which are drawn into the folder `pictures` (by default NAME_files). The
    HTML is one file: pictures, curves and style are inside it, no script, no network; or what `html` makes of
    the page with its pictures. Equal pages give equal bytes. Words are escaped wherever they appear. Raises
    UserError where the disk refuses.
    """
    drawn_into = folder / (pictures or f"{name}_files")
    if (drawn_into / "run.json").exists():
        raise UserError(f"{drawn_into}: is a run, but the pictures of {name}.md belong there; rename the run")
    with mendable(drawn_into):
        drawn_into.mkdir(parents=True, exist_ok=True)
    page = drawn(folder, page, drawn_into)
    paths = folder / f"{name}.md", folder / f"{name}.html"
    write_text(paths[0], render_markdown(page))
    write_text(paths[1], html(page) if html else render_html("page.html.j2", page=page))
    return paths


def render_markdown(page: Page) -> str:
    """A page, its pictures drawn, as Markdown; words are escaped."""
    return _markdown().get_template("page.md.j2").render(page=page)


def render_html(template: str, **values: Any) -> str:
    """A template of this package with values, which are escaped."""
    return _html().get_template(template).render(**values)


def drawn(folder: Path, page: Page, drawn_into: Path | None = None) -> Page:
    """A page with its pictures. folder: of paths in it. drawn_into: where they are written, if anywhere."""
    sections = tuple(
        PageSection(section.title, tuple(_drawn(folder, drawn_into, block) for block in section.blocks))
        for section in page.sections
        if section.blocks
    )
    return replace(page, sections=sections)


def _drawn(folder: Path, drawn_into: Path | None, block: Block) -> Block:
    """The block, its pictures on disk if it has any."""
    if isinstance(block, Pairs):
        figures = (
            replace(drawing, figure=_figure(folder, drawn_into, drawing, WIDEST_IN_PAIRS))
            for drawing in block.drawings
        )
        return Pairs(tuple(figures))
    return replace(block, figure=_figure(folder, drawn_into, block)) if isinstance(block, Drawing) else block


def _figure(folder: Path, drawn_into: Path | None, drawing: Drawing, widest: int = WIDEST) -> Figure:
    picture = drawing.drawn
    if isinstance(picture, Path):
        return Figure(quote(picture.as_posix()), data_address((folder / picture).read_bytes(), widest))
    link = f"{quote(drawn_into.name)}/{quote(drawing.name)}.png" if drawn_into else ""
    if isinstance(picture, Image.Image):
        png = encode_png(picture)
        figure = Figure(link, data_address(png, widest))
    else:
        png = to_png(picture) if drawn_into else b""
        figure = Figure(link, svg=Markup(inline_svg(picture, drawing.name, drawing.caption)))
    if drawn_into:
        write_bytes(drawn_into / f"{drawing.name}.png", png)
    return figure


def data_address(png: bytes, widest: int = WIDEST, heaviest: int = HEAVIEST) -> str:
    """A data: address of a PNG; of a JPEG, `widest` pixels wide, where it is wider or heavier."""
    with Image.open(io.BytesIO(png)) as picture:
        if picture.format == "PNG" and picture.width <= widest and len(png) <= heaviest:
            return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        shown = picture.convert("RGB")
    shown.thumbnail((widest, shown.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=86, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@cache
def _html() -> Environment:
    return _environment(autoescape=True)


@cache
def _markdown() -> Environment:
    environment = _environment(finalize=finalize, keep_trailing_newline=True)
    environment.filters |= {"code": code, "code_block": code_block, "verbatim": Verbatim}
    return environment


def _environment(**options: Any) -> Environment:
    loader = PackageLoader("safelight.render")
    common: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=loader, **common, **options)
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment


class Verbatim(str):
    """Markdown that is already safe: `finalize` leaves it as it is."""


def finalize(value: object) -> str:
    """What Jinja2 prints for every expression of the Markdown template: escaped unless Verbatim.

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
