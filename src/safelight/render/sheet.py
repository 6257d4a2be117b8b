"""Contact sheets: images in a grid, each enlarged by a whole number, with frame numbers and labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from safelight.render.layout import GUTTER, Layout
from safelight.render.lettering import Letters
from safelight.render.palette import AMBER, ASH, DARKROOM, SAFELIGHT

Images = NDArray[np.uint8]

CELL = 72  # pixels: about the side a tiny image is enlarged to
MARGIN = 18  # pixels around everything
LABEL, FRAME, CAPTION = 12, 10, 13  # pixels: sizes of letters
SHOWN = 850  # pixels: about the width a sheet is looked at; on a wider one letters grow
LAYOUT_KEY = "safelight"  # under which a picture, and the PNG it is saved as, carries its layout


def fitting_scale(height: int, width: int) -> int:
    """The whole number that brings an image nearest to CELL pixels: 9 for 8x8, 3 for 28x28, 1 for 64x64."""
    return max(1, round(CELL / max(height, width)))


def sheet(
    images: Images,
    columns: int | None = None,
    *,
    frames: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    caption: str = "",
    scale: int | None = None,
) -> Image.Image:
    """A contact sheet of uint8 images (N, H, W, C), C 1 or 3, as an RGB picture.

    columns: images in a row; as square as can be where None.
    frames: lettering under each image (a number, a class); row_labels, column_labels: beside and above.
    scale: whole enlargement; `fitting_scale` where None.
    The picture carries its `Layout` (see `layout_of`). Raises ValueError where shapes or label counts
    do not agree.
    """
    count, height, width, channels = _checked(images)
    columns = columns or max(1, math.ceil(math.sqrt(count)))
    scale = scale or fitting_scale(height, width)
    rows = math.ceil(count / columns)
    for name, labels, expected in (
        ("frames", frames, count),
        ("row_labels", row_labels, rows),
        ("column_labels", column_labels, columns),
    ):
        if labels and len(labels) != expected:
            raise ValueError(f"{name}: {len(labels)} for {expected}")

    cell_height, cell_width = height * scale, width * scale
    grow = max(1, round(columns * cell_width / SHOWN))
    frame, label, title = (
        Letters(FRAME * grow, AMBER),
        Letters(LABEL * grow, ASH),
        Letters(CAPTION * grow, AMBER),
    )
    beside = label.wrapped(row_labels, 150 * grow, max(1, cell_height // label.line))
    above = label.wrapped(column_labels, cell_width, 2)
    layout = Layout(
        count, columns, height, width, channels, scale,
        left=MARGIN + (label.breadth(beside) + label.size if beside else 0),
        top=MARGIN + (label.height(above) + 4 if above else 0),
        lane=frame.line + 3 if frames else 0,
    )  # fmt: skip
    right = layout.left + columns * (cell_width + GUTTER) - GUTTER
    bottom = layout.top + rows * (cell_height + layout.lane + GUTTER) - GUTTER
    picture_width = max(right + MARGIN, 200 if caption else 0)
    legend = title.wrapped([caption], picture_width - 2 * MARGIN - title.size, 4)
    below = title.size + title.height(legend) if caption else 0
    picture = Image.new("RGB", (picture_width, bottom + below + MARGIN), DARKROOM)

    for index, image in enumerate(images):
        enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
        pixels = np.ascontiguousarray(np.broadcast_to(enlarged, (cell_height, cell_width, 3)))
        picture.paste(Image.fromarray(pixels), layout.box(index)[:2])

    pen = ImageDraw.Draw(picture)
    for index, lines in enumerate(frame.wrapped(frames, cell_width, 1)):
        x0, _, _, y1 = layout.box(index)
        frame.write(pen, lines, x0, y1 + 2, "la")
    for row, lines in enumerate(beside):
        _, y0, _, y1 = layout.box(row * columns)
        label.write(pen, lines, layout.left - label.size, (y0 + y1 - label.line * len(lines)) // 2, "ra")
    for column, lines in enumerate(above):
        x0, y0, x1, _ = layout.box(column)
        label.write(pen, lines, (x0 + x1) // 2, y0 - 4 - label.line * len(lines), "ma")
    if caption:
        y = bottom + title.size
        pen.rectangle((MARGIN, y + 2, MARGIN + title.size // 4, y + 2 + title.size), fill=SAFELIGHT)
        title.write(pen, legend[0], MARGIN + title.size, y, "la")

    picture.info[LAYOUT_KEY] = json.dumps(asdict(layout))
    return picture


def panel(
    images: Images,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    caption: str = "",
    scale: int | None = None,
) -> Image.Image:
    """A figure of uint8 images (rows, columns, H, W, C): a strip, a grid, triples. See `sheet`."""
    if images.ndim != 5:
        raise ValueError(f"images: expected (rows, columns, H, W, C), found {images.shape}")
    return sheet(
        images.reshape(-1, *images.shape[2:]),
        images.shape[1],
        row_labels=row_labels,
        column_labels=column_labels,
        caption=caption,
        scale=scale,
    )


def _checked(images: Images) -> tuple[int, int, int, int]:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"images: expected uint8 (N, H, W, 1 or 3), found {images.dtype} {images.shape}")
    count, height, width, channels = images.shape
    return count, height, width, channels
