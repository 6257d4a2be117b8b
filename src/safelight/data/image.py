"""Image files to uint8 arrays of one size: rotation, modes, transparency, crop, resize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N")
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
DETAIL = 2  # times the size asked for, at least, is what Lanczos is given; cheaper filters come before it


def look(path: Path) -> tuple[int, int, int]:
    """(H, W, C) an image file decodes to, from its header alone. Raises whatever Pillow raises."""
    with Image.open(path) as image:
        height, width = image.height, image.width
        if image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS:
            height, width = width, height
        return height, width, 1 if image.mode in GREY_MODES else 3


def decode(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """An image file as a picture of `shape` (H, W, C), upright.

    Raises ValueError for pixels without a known white, and whatever Pillow raises for a broken file.
    """
    with Image.open(path) as image:
        longest = DETAIL * max(shape[:2])
        image.draft(None, (longest, longest))  # JPEG only: decodes at 1/2, 1/4 or 1/8, a multiple faster
        return fit(_eight_bits(ImageOps.exif_transpose(image)), shape)


def fit(image: Image.Image, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """An image of mode L or RGB cropped about its centre and resized to `shape` (H, W, C)."""
    height, width, channels = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        scale = min(image.width / width, image.height / height)
        left = max(0.0, (image.width - scale * width) / 2)
        top = max(0.0, (image.height - scale * height) / 2)
        crop = (left, top, image.width - left, image.height - top)
        image = image.resize((width, height), Image.Resampling.LANCZOS, box=crop, reducing_gap=DETAIL)
    return np.array(image, np.uint8).reshape(shape)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB; 16-bit greys are scaled to 255, transparency is laid on white."""
    grey = image.mode in GREY_MODES
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known white")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixels beyond 16 bits have no known white")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")
