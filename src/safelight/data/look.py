"""What an item is before it is brought to one size: its own size, mode and pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.data.blocks import digest
from safelight.data.images import FileReader, blamed, decode, height_width, open_image, orientation
from safelight.data.source import BadItem, ImageReader


@dataclass(frozen=True)
class Look:
    """One item. `bad` is the reason why it cannot be decoded, "" where it can."""

    height: int
    width: int
    mode: str  # Pillow's: L, RGB, RGBA, I;16, CMYK ...
    format: str  # PNG, JPEG ...; "" for arrays
    digest: str  # of the pixels upright, so that copies are found whatever their file
    classes: tuple[int, ...] = ()  # class numbers in its mask
    bad: str = ""

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)


def look(reader: ImageReader, item: int) -> Look:
    """Decode an item at its own size, and its mask. Raises UserError where the disk is at fault."""
    try:
        if isinstance(reader, FileReader):
            try:
                return _look_at_file(reader, item)
            except Exception as error:
                raise blamed(error, reader.files[item]) from error
        pixels = reader.read(item)
    except BadItem as reason:
        return Look(0, 0, "", "", "", bad=str(reason))
    height, width, channels = pixels.image.shape
    mode = "L" if channels == 1 else "RGB"
    return Look(height, width, mode, "", digest(pixels.image).hex(), _classes(pixels.mask))


def _look_at_file(reader: FileReader, item: int) -> Look:
    name = reader.files[item]
    with reader.tree.open(name) as file, open_image(file) as image:
        turned, mode, kind = orientation(image), image.mode, image.format or ""
        size = height_width(image, turned)
        pixels = decode(image, turned, size, 0)
    return Look(*size, mode, kind, digest(pixels).hex(), _classes(reader.mask(item, size, size)))


def _classes(mask: NDArray[np.uint8] | None) -> tuple[int, ...]:
    return () if mask is None else tuple(np.unique(mask).tolist())
