"""Tissue: drawn sections of skin, stained, each with a mask of five classes.

Every class has a colour and a grain of its own, and every section its own stain, so that a mask tells what is
to be seen where, and nothing of how it looks. Of all pixels about 74 % are of class 0, then 4, 6, 2 and 14 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from safelight.data.config import Data
from safelight.data.images import fit
from safelight.data.source import DrawnReader, Items, Masks, Pixels, Source, key
from safelight.data.synthetic.canvas import Dice

COUNT = 4000
CLASSES = ("dermis", "nest", "gland", "vessel", "epidermis")
FINER = 4  # drawn so many times larger, then averaged: edges are soft in the image, sharp in the mask
Point = tuple[float, float]  # x to the right, y down; the picture is 1 high


@dataclass(frozen=True)
class Stain:
    """How a class looks: its colour, that of the grain's other end, and the grain's cells across and down."""

    colour: tuple[int, int, int]
    other: tuple[int, int, int]
    across: int
    down: int


STAINS = (
    Stain((240, 190, 206), (214, 140, 172), 5, 11),
    Stain((74, 52, 122), (128, 92, 170), 20, 20),
    Stain((236, 214, 236), (176, 140, 206), 12, 12),
    Stain((206, 58, 66), (168, 28, 52), 7, 7),
    Stain((172, 96, 168), (120, 62, 138), 13, 13),
)


def tissue(config: Data) -> Source:
    """The drawn sections, 64x64 unless data.size says otherwise; need no file and no network."""
    height, width = config.height_width or (64, 64)
    shape = (height, width, config.channels or 3)
    masked = config.mask != "none"

    def read(index: int) -> Pixels:
        image, mask = draw(index, height, width)
        return Pixels(fit(image, shape), mask if masked else None)

    def items() -> Items:
        masks = Masks(np.ones(COUNT, bool), len(CLASSES), CLASSES) if masked else None
        return Items([f"{index:04d}" for index in range(COUNT)], shape, DrawnReader(read), masks=masks)

    return Source("tissue", key("tissue", 1, shape, masked), items)


def draw(index: int, height: int, width: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Section `index`: the image, and its mask (H, W) of class numbers."""
    dice = Dice("tissue", index)
    classes = _classes(dice, height * FINER, width * FINER)
    warm, bright = dice.uniform(-14, 14), dice.uniform(0.9, 1.06)  # of this section's stain
    slant = dice.uniform(0, math.pi)
    pixels = np.zeros((height * FINER, width * FINER, 3))
    for number, stain in enumerate(STAINS):
        grain = _grain(dice, stain, height * FINER, width * FINER, slant if number == 0 else 0.0)
        ends = np.array(stain.colour, float), np.array(stain.other, float)
        where = classes == number
        pixels[where] = ends[0] + (ends[1] - ends[0]) * grain[where][:, None]
    pixels = (pixels + np.array([warm, 0.0, -warm])) * bright
    image = Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))
    middle = FINER // 2
    return image.resize((width, height), Image.Resampling.BOX), classes[middle::FINER, middle::FINER].copy()


def _classes(dice: Dice, height: int, width: int) -> NDArray[np.uint8]:
    """Class numbers (height, width): epidermis along one side, and what lies in the dermis."""
    picture = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(picture)
    wide = width / height

    def fill(points: list[Point], number: int) -> None:
        pen.polygon([(round(x * height), round(y * height)) for x, y in points], fill=number)

    for _ in range(dice.whole(0, 3)):
        fill(_blob(dice, dice.uniform(0, wide), dice.uniform(0, 1), dice.uniform(0.09, 0.2)), 2)
    for _ in range(dice.whole(0, 4)):
        fill(_blob(dice, dice.uniform(0, wide), dice.uniform(0, 1), dice.uniform(0.07, 0.125)), 1)
    for _ in range(dice.whole(0, 2)):
        line, thick = _curve(dice, wide), dice.uniform(0.045, 0.075)
        pixels = [(round(x * height), round(y * height)) for x, y in line]
        pen.line(pixels, fill=3, width=max(1, round(thick * height)), joint="curve")
    if dice.chance(0.8):
        _epidermis(dice, pen, height, width)
    return np.asarray(picture)


def _epidermis(dice: Dice, pen: ImageDraw.ImageDraw, height: int, width: int) -> None:
    """A band along one of the four sides, its inner edge a wave."""
    side, depth = dice.whole(0, 3), dice.uniform(0.09, 0.235)
    long, short = (width, height) if side < 2 else (height, width)
    waves = [(dice.uniform(0.01, 0.035), dice.whole(1, 5), dice.uniform(0, 2 * math.pi)) for _ in range(3)]
    edge = []
    for step in range(65):
        along = step / 64
        wave = sum(size * math.cos(2 * math.pi * often * along + phase) for size, often, phase in waves)
        edge.append((along * long, (depth + wave) * short))
    points = [(0.0, 0.0), *edge, (float(long), 0.0)]
    if side % 2:
        points = [(x, short - y) for x, y in points]
    pen.polygon([(round(x), round(y)) if side < 2 else (round(y), round(x)) for x, y in points], fill=4)


def _blob(dice: Dice, x: float, y: float, radius: float) -> list[Point]:
    """A round shape, dented by three waves."""
    flat, turn = dice.uniform(0.65, 1.0), dice.uniform(0, math.pi)
    waves = [(dice.uniform(0, 0.14), often, dice.uniform(0, 2 * math.pi)) for often in (2, 3, 5)]
    points = []
    for step in range(48):
        angle = 2 * math.pi * step / 48
        r = radius * (1 + sum(size * math.cos(often * angle + phase) for size, often, phase in waves))
        across, down = r * math.cos(angle), r * flat * math.sin(angle)
        points.append((x + across * math.cos(turn) - down * math.sin(turn),
                       y + across * math.sin(turn) + down * math.cos(turn)))  # fmt: skip
    return points


def _curve(dice: Dice, wide: float) -> list[Point]:
    """A bent line through the picture (a quadratic Bézier curve)."""
    a, b, c = ((dice.uniform(0, wide), dice.uniform(0, 1)) for _ in range(3))
    length = dice.uniform(0.35, 0.8)
    points = []
    for step in range(17):
        t = length * step / 16
        shares = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        x, y = (sum(s * p[axis] for s, p in zip(shares, (a, b, c), strict=True)) for axis in (0, 1))
        points.append((x, y))
    return points


def _grain(dice: Dice, stain: Stain, height: int, width: int, slant: float) -> NDArray[np.float64]:
    """Smooth noise in [0, 1], (height, width), its cells stretched along `slant`.

    Pillow resizes and turns 8-bit images in integers, which gives the same pixels on every machine.
    """
    size = math.ceil(math.hypot(height, width)) if slant else max(height, width)
    cells = np.array([[dice.whole(0, 255) for _ in range(stain.across)] for _ in range(stain.down)], np.uint8)
    noise = Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)
    if slant:
        noise = noise.rotate(math.degrees(slant), Image.Resampling.BILINEAR)
    left, top = (size - width) // 2, (size - height) // 2
    return np.asarray(noise.crop((left, top, left + width, top + height)), float) / 255
