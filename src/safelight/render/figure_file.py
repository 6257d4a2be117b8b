"""matplotlib figures as SVG and PNG, equal bytes for equal figures, in safelight's style."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.figure import Figure

from safelight.render.lettering import INK, PAPER, PENCIL

SETTINGS: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": PENCIL,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.titlecolor": INK,
    "axes.titlepad": 4,
    "axes.labelsize": 7.5,
    "axes.labelcolor": PENCIL,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6dfd6",
    "grid.linewidth": 0.5,
    "xtick.color": PENCIL,
    "ytick.color": PENCIL,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7.5,
    "lines.linewidth": 1.3,
    "font.family": ["DejaVu Sans"],
    "text.parse_math": False,  # a name with two dollar signs is a name
    "svg.fonttype": "none",  # text stays text: small, searchable
    "svg.hashsalt": "safelight",  # equal figures, equal ids
}


@contextmanager
def style() -> Iterator[None]:
    """safelight's style while figures are made or written; matplotlib's own settings come back after it."""
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # A name in a script the font lacks is drawn as boxes in PNG and in full in SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def to_svg(figure: Figure) -> str:
    """The figure as SVG, its text as text. Equal figures give equal text."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def inline_svg(figure: Figure, prefix: str, title: str) -> str:
    """The figure as an <svg> element for an HTML page: no prolog, no namespaces, ids led by `prefix`."""
    svg = to_svg(figure)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    for before in (' id="', 'href="#', "url(#"):
        svg = svg.replace(before, f"{before}{prefix}-")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG. Equal figures give equal bytes."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
