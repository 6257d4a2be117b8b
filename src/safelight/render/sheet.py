"""Contact sheets: images in a grid, each enlarged by a whole number, with frame numbers and labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from safelight.render.lettering import AMBER, ASH, DARKROOM, SAFELIGHT, Letters

GUTTER = 4  # pixels between images


@dataclass(frozen=True)
class Layout:
    """Where the images of a sheet are, in pixels of the picture."""

    count: int  # images; the last row may be incomplete
    columns: int
    height: int  # of one image, before scaling
    width: int
    channels: int  # 1 or 3
    scale: int  # each pixel of an image is scale x scale pixels of the picture
    left: int  # of the first image
    top: int
    lane: int = 0  # height of the lettering under each row of images

    @property
    def rows(self) -> int:
        return math.ceil(self.count / self.columns)

    def box(self, index: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of image `index`; right and bottom are exclusive."""
        row, column = divmod(index, self.columns)
        left = self.left + column * (self.width * self.scale + GUTTER)
        top = self.top + row * (self.height * self.scale + self.lane + GUTTER)
        return left, top, left + self.width * self.scale, top + self.height * self.scale

    def at(self, x: int, y: int) -> int | None:
        """The index of the image under a pixel of the picture, or None between images."""
        for index in range(self.count):
            left, top, right, bottom = self.box(index)
            if left <= x < right and top <= y < bottom:
                return index
        return None


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
    images = images[..., :3]  # alpha left out: the colours are over a background
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


COLOURS = (
    "#e8d9cf", "#3d2b56", "#d9a441", "#b23a1e", "#7d4f8c",
    "#3f7a74", "#7d8a4a", "#3d5a80", "#d9772f", "#a7bfc9",
)  # fmt: skip
NOWHERE = "#241f1c"  # a pixel of no class


def coloured(ids: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """Class numbers (..., H, W) as (..., H, W, 3); after ten classes the colours come again, darker."""
    table = np.zeros((256, 3), np.uint8)
    table[:] = _rgb(NOWHERE)
    for number in range(min(classes, 255)):
        table[number] = _rgb(COLOURS[number % len(COLOURS)]) * 0.7 ** (number // len(COLOURS))
    return table[ids]


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.float64)


ACROSS = 10  # images in a row, at most
DOWN = 8  # rows, at most, unless the runs alone are more
ROUNDS = 3  # sets of noises, at most
PROMPT_ROWS = 12  # rows, at most, where each prompt has its own


def side_by_side(
    sheets: Sequence[tuple[str, Images]], conditions: Sequence[str] = (), prompts: Sequence[str] = ()
) -> Image.Image:
    """A row a run, a column a noise; then the same runs with the next noises, while there is room.

    sheets: (label, images (N, H, W, C)) of one shape; the n-th image of every sheet has the same noise and
    condition. conditions: names of those that take turns; a column each, if they fit. prompts: texts of
    equally many images each, one after another: then all runs with one text, below them with the next.
    """
    count = min(len(images) for _, images in sheets)
    if prompts and count % len(prompts) == 0:
        each = count // len(prompts)
        rows = [
            (f"{prompt}: {label}", reduced(images[start : start + min(each, ACROSS)], STRIP_SIDE))
            for prompt, start in zip(
                prompts[: max(1, PROMPT_ROWS // len(sheets))], range(0, count, each), strict=False
            )
            for label, images in sheets
        ]
        return panel(np.stack([images for _, images in rows]), row_labels=[label for label, _ in rows])
    named = 1 < len(conditions) <= min(count, 1.2 * ACROSS)
    across = len(conditions) if named else min(count, ACROSS)
    rounds = max(1, min(ROUNDS, count // across, DOWN // len(sheets)))
    rows = [
        (label, reduced(images[start : start + across], STRIP_SIDE))
        for start in range(0, rounds * across, across)
        for label, images in sheets
    ]
    return panel(
        np.stack([images for _, images in rows]),
        row_labels=[label for label, _ in rows],
        column_labels=conditions if named else (),
    )


@dataclass(frozen=True)
class Picture:
    """A figure the report draws: samples, or a panel of the family.

    images: uint8 (rows, columns, H, W, C), C 1 or 3.
    """

    images: Images
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    caption: str = ""


STRIP_ROWS, STRIP_COLUMNS, STRIP_SIDE = 6, 9, 192  # most rows and columns of the strip; pixels of its images


def reduced(images: Images, side: int) -> Images:
    """Images (N, H, W, C) averaged over the smallest whole boxes that bring them to `side` pixels or less."""
    factor = math.ceil(max(images.shape[1:3]) / side)
    if factor == 1:
        return images
    images = images[..., :3]
    flat = images[..., 0] if images.shape[3] == 1 else images
    small = np.stack([np.asarray(Image.fromarray(image).reduce(factor)) for image in flat])
    return small.reshape(*small.shape[:3], images.shape[3])
