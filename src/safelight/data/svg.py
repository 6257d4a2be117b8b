"""SVG as pixels, by resvg (the extra svg): nothing outside of the file is read, no script runs."""

from __future__ import annotations

import io
import re
import zlib
from typing import IO

from PIL import Image

from safelight.data.source import BadItem

SHORTER = 512  # pixels of the shorter side that a drawing gets, whatever it says of its size
LONGEST = 32  # times the shorter side
MOST = 1 << 25  # bytes of a drawing
ROOT = re.compile(rb"<(?:\w+:)?svg\b[^>]*>")
REFERENCE = re.compile(rb"<(?:\w+:)?image\b[^>]*?\bhref\s*=\s*[\"']\s*(?!data:)([^\"']*)", re.DOTALL)


def is_svg(start: bytes) -> bool:
    """Whether a file that begins so is SVG, or gzip, which no picture of another kind is."""
    return start.startswith(b"\x1f\x8b") or (
        start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and b"<svg" in start
    )


def open_svg(file: IO[bytes]) -> Image.Image:
    """The drawing in mode RGBA, SHORTER pixels a side at least. Raises BadItem, or ValueError of resvg."""
    import resvg_py

    content = file.read(MOST)
    if content.startswith(b"\x1f\x8b"):
        unpacked = zlib.decompressobj(wbits=31)
        content = unpacked.decompress(content, MOST)
    if outside := REFERENCE.search(content):
        raise BadItem(f"shows {outside[1].decode('utf-8', 'replace')[:60]!r}, which lies outside of it")
    ratio = _ratio(content)
    if not 1 / LONGEST <= ratio <= LONGEST:
        raise BadItem(f"is {ratio:.3g} times as wide as high; expected 1/{LONGEST} to {LONGEST}")
    width, height = (SHORTER, None) if ratio <= 1 else (None, SHORTER)
    fonts = b"<text" not in content  # those of the system take long to list
    text = content.decode("utf-8-sig", "replace")
    image = Image.open(
        io.BytesIO(
            resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=fonts, width=width, height=height)
        )
    )
    image.load()
    image.format = "SVG"
    return image


def _ratio(content: bytes) -> float:
    """Width to height, by what the outermost element says; 1 where it says nothing."""
    root = ROOT.search(content)
    said = root[0] if root else b""
    sides = [re.search(rb"\s" + name + rb"\s*=\s*[\"']\s*([\d.]+)(?:px|mm|cm|pt|in)?\s*[\"']", said)
             for name in (b"width", b"height")]  # fmt: skip
    box = re.search(rb"\sviewBox\s*=\s*[\"']([^\"']*)", said)
    try:
        if all(sides):
            width, height = (float(side[1]) for side in sides if side)
        else:
            _, _, width, height = map(float, re.split(rb"[\s,]+", box[1].strip())) if box else (0, 0, 1, 1)
        return width / height
    except (ValueError, ZeroDivisionError):
        return 1.0
