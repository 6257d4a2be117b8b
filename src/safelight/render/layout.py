"""Where the images of a contact sheet are: what drawing, reading back and pointing at one agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
