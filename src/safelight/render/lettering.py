"""Letters inside pictures, measured, wrapped and shortened to stay in place. The colours of all pictures:
a darkroom, its red lamp, and paper.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL.ImageDraw import ImageDraw
from PIL.ImageFont import FreeTypeFont, Layout, truetype

ELLIPSIS = "…"
LINE = 1.35  # line spacing, in letter sizes

DARKROOM = "#171413"  # behind pictures: neutral, slightly warm, dark enough not to tint a judgement
SAFELIGHT = "#c23b22"  # the lamp: one accent, used sparingly
AMBER = "#e0a15a"  # lettering on DARKROOM
ASH = "#a89f97"  # quiet lettering on DARKROOM
PAPER = "#fbf9f5"  # behind curves and text
INK = "#241f1c"  # lettering and axes on PAPER
PENCIL = "#857b73"  # quiet lettering on PAPER
RAW = "#d98c5f"  # a curve before smoothing; SAFELIGHT after
BANDS = ("#5b1a12", "#b23a1e", "#d9772f", "#c9a13b", "#7d8a4a", "#3f7a74", "#3d5a80", "#6b4c6e")
EVENTS = {
    "intervention": "#8a5a12",
    "resume": PENCIL,
    "checkpoint": PENCIL,
    "fork": "#3d5a80",
    "verdict": SAFELIGHT,
    "remedy": "#3f7a74",
}


@dataclass(frozen=True)
class Letters:
    """A size in pixels and a colour to write in."""

    size: int
    colour: str

    @property
    def line(self) -> int:
        """Pixels from one line to the next."""
        return int(self.size * LINE)

    def wrapped(self, labels: Sequence[str], width: int, lines: int) -> list[list[str]]:
        """Each label in at most `lines` lines of at most `width` pixels."""
        return [wrap(label, font(self.size), width, lines) for label in labels]

    def breadth(self, blocks: Sequence[Sequence[str]]) -> int:
        """Pixels the widest line takes."""
        lengths = (font(self.size).getlength(text) for lines in blocks for text in lines)
        return math.ceil(max(lengths, default=0))

    def height(self, blocks: Sequence[Sequence[str]]) -> int:
        """Pixels the block of most lines takes."""
        return max(map(len, blocks), default=0) * self.line

    def write(self, pen: ImageDraw, lines: Sequence[str], x: float, y: float, anchor: str) -> None:
        """Write lines from y downwards. anchor: Pillow's "la", "ma" or "ra"; x is left, middle or right."""
        for number, text in enumerate(lines):
            pen.text((x, y + number * self.line), text, self.colour, font(self.size), anchor=anchor)


@cache
def font(pixels: int) -> FreeTypeFont:
    """DejaVu Sans at a size in pixels, the copy that ships with matplotlib (which is not imported)."""
    spec = importlib.util.find_spec("matplotlib")
    origin = spec.origin if spec else None
    assert origin, "matplotlib is a dependency of safelight"
    path = Path(origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    # The basic layout engine is in every Pillow, so that equal input gives equal pixels everywhere.
    return truetype(str(path), pixels, layout_engine=Layout.BASIC)


def shorten(text: str, face: FreeTypeFont, width: int) -> str:
    """The text, or as much of it as fits `width` pixels, ended by an ellipsis."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text.rstrip() + ELLIPSIS) > width:
        text = text[:-1]
    return text.rstrip() + ELLIPSIS if text else ""


def wrap(text: str, face: FreeTypeFont, width: int, lines: int) -> list[str]:
    """The text in at most `lines` lines of at most `width` pixels, the last one shortened if need be."""
    words = text.split()
    wrapped: list[str] = []
    while words and len(wrapped) < lines - 1:
        taken = 1
        while taken < len(words) and face.getlength(" ".join(words[: taken + 1])) <= width:
            taken += 1
        wrapped.append(shorten(" ".join(words[:taken]), face, width))
        words = words[taken:]
    if words and lines > 0:
        wrapped.append(shorten(" ".join(words), face, width))
    return wrapped
