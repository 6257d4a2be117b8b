"""A picture that is drawn large and then made small, so that every edge is soft, in whole numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from safelight.randomness import key

Colour = tuple[float, float, float]  # 0 to 255
Point = tuple[float, float]  # x to the right, y down; the picture is 1 high


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour `share` of the way from a to b."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made lighter (factor above 1) or darker."""
    return (min(colour[0] * factor, 255), min(colour[1] * factor, 255), min(colour[2] * factor, 255))


class Canvas:
    """Shapes by coordinates in which the picture is 1 high and `wide` wide."""

    def __init__(self, height: int, width: int) -> None:
        """Of the finished picture, in pixels."""
        finer = 4 if max(height, width) <= 512 else 2
        self.size = (height, width)
        self.unit = height * finer  # pixels
        self.wide = width / height
        self.picture = Image.new("RGB", (width * finer, height * finer))
        self._pen = ImageDraw.Draw(self.picture)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """A rectangle without its right and lower edge, where its neighbours begin; 1 pixel at least."""
        left, top = self._whole(x0), self._whole(y0)
        right, bottom = max(self._whole(x1) - 1, left), max(self._whole(y1) - 1, top)
        self._pen.rectangle((left, top, right, bottom), fill=_bytes(colour))

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._pen.polygon([(self._whole(x), self._whole(y)) for x, y in points], fill=_bytes(colour))

    def disc(self, x: float, y: float, radius: float, colour: Colour, flat: float = 1.0) -> None:
        """A filled ellipse about (x, y), `flat` times as high as it is wide."""
        across, down = max(self._whole(radius), 1), max(self._whole(radius * flat), 1)
        middle = self._whole(x), self._whole(y)
        corners = (middle[0] - across, middle[1] - down, middle[0] + across, middle[1] + down)
        self._pen.ellipse(corners, fill=_bytes(colour))

    def line(self, points: Sequence[Point], thickness: float, colour: Colour) -> None:
        """A line through points."""
        pixels = [(self._whole(x), self._whole(y)) for x, y in points]
        self._pen.line(pixels, fill=_bytes(colour), width=max(self._whole(thickness), 1))

    def paint(self, pixels: NDArray[np.floating], top: float = 0.0) -> None:
        """Lay pixels (h, W, 3) of 0 to 255 over the full width, from `top` on."""
        image = Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))
        self.picture.paste(image, (0, self._whole(top)))

    def pixels(self, top: float, bottom: float) -> NDArray[np.float64]:
        """The pixels drawn so far between two heights, (h, W, 3)."""
        rows = slice(self._whole(top), self._whole(bottom))
        return np.asarray(self.picture)[rows].astype(np.float64)

    def finished(self) -> Image.Image:
        """The picture at its own size."""
        return self.picture.resize((self.size[1], self.size[0]), Image.Resampling.BOX)

    def _whole(self, length: float) -> int:
        return round(length * self.unit)


def _bytes(colour: Colour) -> tuple[int, int, int]:
    return (round(colour[0]), round(colour[1]), round(colour[2]))


# --- Keyed numbers, one after another: what a drawn picture is decided by ---

T = TypeVar("T")
BLOCK = 256  # words drawn at once


class Dice:
    """An endless sequence of numbers for a key: `Dice("skylines", 17)` is the same on every machine.

    Raw words of Philox, so that no version of NumPy can deal them out in another way.
    """

    def __init__(self, *parts: object) -> None:
        self._words = _words(np.random.Philox(key=key(*parts)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * (next(self._words) >> 11) * 2.0**-53

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """True for a share of the throws."""
        return self.uniform() < share

    def choose(self, values: Sequence[T]) -> T:
        """One of the values."""
        return values[self.whole(0, len(values) - 1)]


def _words(stream: np.random.Philox) -> Iterator[int]:
    while True:
        yield from stream.random_raw(BLOCK).tolist()
