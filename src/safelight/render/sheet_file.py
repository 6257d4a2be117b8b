"""Contact sheets on disk: PNG that says where its images are.

No image of a sheet is resampled, so a saved sheet is also data: `read_sheet` cuts the images out, exactly.
"""

from __future__ import annotations

import io
import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safelight.config import UserError
from safelight.files import opened
from safelight.render.sheet import LAYOUT_KEY, Images, Layout
from safelight.store.durable import mendable, write_bytes


def encode_png(picture: Image.Image) -> bytes:
    """The picture as PNG, with its layout. Equal pictures give equal bytes."""
    text = PngInfo()
    if LAYOUT_KEY in picture.info:
        text.add_text(LAYOUT_KEY, str(picture.info[LAYOUT_KEY]))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def save_png(picture: Image.Image, path: Path) -> None:
    """Write the picture as PNG, whole or not at all; its directory is made. Raises UserError."""
    with mendable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, encode_png(picture))


def open_picture(path: Path) -> Image.Image:
    """A picture, decoded. Raises UserError where the file is missing or not a picture."""
    try:
        with (
            opened(path, links=False) as file,
            Image.open(file, formats=["PNG", "JPEG", "WEBP", "GIF"]) as picture,
        ):
            picture.load()
            return picture
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # Pillow's words for "not a PNG after all"
        raise UserError(f"{path}: is not a readable picture; delete it or draw it again") from error


def layout_of(picture: Image.Image) -> Layout | None:
    """Where the images of a picture are, or None where it does not say, or says what cannot be."""
    try:
        layout = Layout(**json.loads(picture.info[LAYOUT_KEY]))
    except (KeyError, TypeError, ValueError):
        return None
    if not all(type(value) is int and value >= 0 for value in astuple(layout)):
        return None
    if 0 in (layout.count, layout.columns, layout.height, layout.width, layout.scale):
        return None
    right = layout.box(min(layout.count, layout.columns) - 1)[2]
    bottom = layout.box(layout.count - 1)[3]
    inside = right <= picture.width and bottom <= picture.height
    return layout if inside and layout.channels in (1, 3) else None


def read_sheet(path: Path) -> Images:
    """The images (N, H, W, C) of a saved sheet, exactly as they were given to `sheet`.

    Raises UserError where the file is not a picture or no layout is stored in it.
    """
    picture = open_picture(path)
    layout = layout_of(picture)
    if layout is None:
        raise UserError(f"{path}: is not a contact sheet (it no layout is stored in it); draw it again")
    pixels = np.asarray(picture.convert("RGB"))
    boxes = map(layout.box, range(layout.count))
    step, channels = layout.scale, layout.channels
    return np.stack([pixels[y0:y1:step, x0:x1:step, :channels] for x0, y0, x1, y1 in boxes])
