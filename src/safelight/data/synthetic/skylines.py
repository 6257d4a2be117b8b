"""Skylines: a sky between dawn and night, three rows of houses, lit windows, a landmark, often water."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safelight.data.config import Data
from safelight.data.images import fit
from safelight.data.source import DrawnReader, Items, Pixels, Source, key
from safelight.data.synthetic import landmarks
from safelight.data.synthetic.canvas import Canvas, Colour, Dice, mix, shade

COUNT = 2000
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the height
LIGHTS: tuple[Colour, ...] = ((255, 214, 130), (255, 232, 176), (255, 190, 96), (214, 232, 255))


@dataclass(frozen=True)
class Hour:
    """A time of day: how sky and houses look, and how many windows are lit."""

    top: Colour
    middle: Colour
    horizon: Colour
    walls: tuple[Colour, ...]
    glass: Colour  # of a window without light
    lit: float  # share of windows
    sun: Colour
    stars: bool = False


HOURS = (
    Hour((62, 92, 158), (206, 152, 168), (255, 218, 172), ((72, 66, 92), (92, 74, 92), (58, 62, 88)),
         (124, 112, 136), 0.18, (255, 240, 206)),
    Hour((52, 116, 196), (126, 182, 230), (222, 238, 246), ((112, 122, 138), (150, 134, 118), (92, 108, 130),
         (168, 160, 148)), (64, 84, 112), 0.0, (255, 252, 232)),
    Hour((36, 34, 92), (176, 70, 112), (255, 164, 84), ((44, 30, 58), (58, 34, 58), (34, 30, 60)),
         (72, 46, 74), 0.4, (255, 214, 128)),
    Hour((5, 8, 26), (14, 24, 60), (50, 62, 112), ((14, 16, 32), (20, 22, 42), (16, 20, 44)),
         (26, 30, 54), 0.6, (236, 238, 226), stars=True),
)  # fmt: skip


@dataclass(frozen=True)
class BuildingRow:
    """A row of houses, as shares of the picture's height."""

    narrow: float
    broad: float
    low: float
    high: float
    haze: float  # share of the horizon's colour
    windows: bool


ROWS = (
    BuildingRow(0.04, 0.09, 0.10, 0.34, 0.62, False),
    BuildingRow(0.07, 0.13, 0.14, 0.50, 0.30, True),
    BuildingRow(0.08, 0.17, 0.06, 0.20, 0.0, True),
)


def skylines(config: Data) -> Source:
    """The drawn skylines, 64x64 unless data.size says otherwise; need no file and no network."""
    height, width = config.height_width or (64, 64)
    shape = (height, width, config.channels or 3)

    def items() -> Items:
        reader = DrawnReader(lambda index: Pixels(fit(draw(index, height, width).finished(), shape)))
        return Items([f"{index:04d}" for index in range(COUNT)], shape, reader)

    return Source("skylines", key("skylines", 1, shape), items)


def draw(index: int, height: int, width: int) -> Canvas:
    """Skyline `index`, to be `height` times `width` pixels."""
    dice = Dice("skylines", index)
    canvas = Canvas(height, width)
    hour = dice.choose(HOURS)
    water = dice.chance(0.7)
    shore = dice.uniform(0.70, 0.80) if water else dice.uniform(0.84, 0.94)
    _sky(canvas, dice, hour, shore)
    centre = dice.uniform(0.25, 0.75) * canvas.wide
    spread = dice.uniform(0.35, 0.7) * canvas.wide
    mark = dice.choose(landmarks.ALL) if dice.chance(0.75) else None
    place = min(max(centre + dice.uniform(-0.2, 0.2), 0.15), canvas.wide - 0.15)
    for number, row in enumerate(ROWS):
        if number == 1 and mark is not None:
            wall = mix(dice.choose(hour.walls), hour.horizon, 0.15)
            light = LIGHTS[0] if hour.lit else shade(wall, 1.3)
            mark(canvas, dice, place, shore, wall, light)
        _houses(canvas, dice, hour, row, shore, centre, spread)
    (_water if water else _trees)(canvas, dice, hour, shore)
    return canvas


def _sky(canvas: Canvas, dice: Dice, hour: Hour, shore: float) -> None:
    """A gradient of three colours, the sun or moon with its glow, stars, streaks of cloud."""
    rows = np.arange(canvas.unit, dtype=np.float64)[:, None] / (canvas.unit * shore)
    turn = dice.uniform(0.4, 0.7)
    stops = [
        np.array(shade(colour, dice.uniform(0.88, 1.1))) for colour in (hour.top, hour.middle, hour.horizon)
    ]
    upper = stops[0] + (stops[1] - stops[0]) * np.clip(rows / turn, 0, 1)
    sky = upper + (stops[2] - stops[1]) * np.clip((rows - turn) / (1 - turn), 0, 1)
    pixels = np.repeat(sky[:, None], canvas.picture.width, axis=1)
    x, y = dice.uniform(0.1, 0.9) * canvas.wide, shore * dice.uniform(0.15, 0.8)
    shines = dice.chance(0.6)
    if shines:
        pixels += (np.array(hour.sun) - pixels) * _glow(canvas, x, y, 0.2 if hour.stars else 0.45)
    canvas.paint(pixels)
    if hour.stars:
        for _ in range(dice.whole(20, 50)):
            star = shade((255, 255, 255), dice.uniform(0.4, 0.95))
            canvas.disc(dice.uniform() * canvas.wide, dice.uniform() * shore * 0.8, 0.004, star)
    if shines:
        canvas.disc(x, y, dice.uniform(0.03, 0.055), hour.sun)
    for _ in range(dice.whole(0, 4)):
        _cloud(canvas, dice, hour, shore)


def _glow(canvas: Canvas, x: float, y: float, radius: float) -> NDArray[np.float64]:
    """How much of the sun's colour is in the sky, (H, W, 1): half of it at the middle, none at `radius`."""
    down = np.arange(canvas.picture.height, dtype=np.float64)[:, None] / canvas.unit - y
    across = np.arange(canvas.picture.width, dtype=np.float64)[None] / canvas.unit - x
    near = np.clip(1 - np.sqrt(down * down + across * across) / radius, 0, 1)
    glow: NDArray[np.float64] = (0.5 * near * near)[:, :, None]
    return glow


def _cloud(canvas: Canvas, dice: Dice, hour: Hour, shore: float) -> None:
    """A streak: flat discs, hardly lighter than the sky behind them."""
    x, y = dice.uniform() * canvas.wide, dice.uniform(0.08, 0.75) * shore
    behind = canvas.pixels(y, y + 1 / canvas.unit).mean((0, 1))
    white = mix(hour.sun, hour.horizon, 0.5)
    colour = mix((behind[0], behind[1], behind[2]), white, dice.uniform(0.12, 0.4))
    for _ in range(dice.whole(2, 4)):
        along = x + dice.uniform(-0.15, 0.15)
        canvas.disc(along, y + dice.uniform(-0.01, 0.01), dice.uniform(0.08, 0.22), colour, flat=0.12)


def _houses(
    canvas: Canvas, dice: Dice, hour: Hour, row: BuildingRow, shore: float, centre: float, spread: float
) -> None:
    """One row of houses from left to right, higher towards the centre of the town."""
    x = -dice.uniform(0, row.broad)
    while x < canvas.wide:
        width = dice.uniform(row.narrow, row.broad)
        away = (x + width / 2 - centre) / spread
        hill = max(0.0, 1 - away * away)
        height = (row.low + (row.high - row.low) * hill) * dice.uniform(0.55, 1.0)
        wall = mix(shade(dice.choose(hour.walls), dice.uniform(0.85, 1.2)), hour.horizon, row.haze)
        _house(canvas, dice, hour, row, (x, shore - height, x + width, shore), wall)
        x += width + (dice.uniform(0, 0.03) if dice.chance(0.3) else 0)


def _house(canvas: Canvas, dice: Dice, hour: Hour, row: BuildingRow, at: Box, wall: Colour) -> None:
    """A wall with a darker side, one of four roofs, and windows in a grid."""
    x0, top, x1, shore = at
    width, dark = x1 - x0, shade(wall, 0.78)
    side = x0 + width * dice.uniform(0.6, 0.85)
    match dice.whole(0, 5):
        case 0:  # a storey set back
            canvas.box(x0 + width * 0.2, top - width * 0.3, x1 - width * 0.25, top, wall)
        case 1:  # a slanting roof
            canvas.polygon([(x0, top), (x1, top), (x1, top - width * 0.35)], dark)
        case 2:  # an antenna
            canvas.box(x0 + width * 0.48, top - width * 0.8, x0 + width * 0.56, top, dark)
    canvas.box(x0, top, side, shore, wall)
    canvas.box(side, top, x1, shore, dark)
    if row.windows:
        _windows(canvas, dice, hour, row, at, wall)


def _windows(canvas: Canvas, dice: Dice, hour: Hour, row: BuildingRow, at: Box, wall: Colour) -> None:
    """A grid of windows; in the evening some storeys are brighter than others."""
    x0, top, x1, shore = at
    across, down = dice.uniform(0.026, 0.036), dice.uniform(0.03, 0.042)
    light, glass = dice.choose(LIGHTS), mix(mix(wall, hour.glass, 0.55), hour.horizon, row.haze * 0.5)
    busy = dice.uniform(0.4, 1.4)
    y = top + down * 0.5
    while y + down * 0.6 < shore:
        storey = hour.lit * busy * dice.uniform(0.6, 1.3)
        x = x0 + across * 0.4
        while x + across * 0.6 < x1:
            lit = dice.chance(storey)
            colour = mix(shade(light, dice.uniform(0.75, 1)), hour.horizon, row.haze * 0.4) if lit else glass
            canvas.box(x, y, x + across * 0.55, y + down * 0.55, colour)
            x += across
        y += down


def _water(canvas: Canvas, dice: Dice, hour: Hour, shore: float) -> None:
    """The town upside down, a little squeezed, darker and rippled."""
    above = canvas.pixels(0, shore)
    below = canvas.picture.height - len(above)
    tint = np.array(mix(hour.middle, (20, 40, 70), 0.5))
    squeeze, ripple, sway = 1.35, max(1, canvas.unit // 96), 0
    mirrored = np.empty((below, *above.shape[1:]))
    for line in range(below):
        source = above[max(len(above) - 1 - int(line * squeeze), 0)]
        depth = line / below
        if line % ripple == 0:
            sway = round(dice.uniform(-1, 1) * (0.004 + 0.012 * depth) * canvas.unit)
        rolled = np.roll(source, sway, axis=0)
        mirrored[line] = rolled + (tint - rolled) * (0.25 + 0.35 * depth)
    canvas.paint(mirrored, shore)
    canvas.box(0, shore - 0.006, canvas.wide, shore + 0.006, shade(hour.walls[0], 0.6))


def _trees(canvas: Canvas, dice: Dice, hour: Hour, shore: float) -> None:
    """A dark park in front."""
    green = mix((30, 46, 34), hour.walls[0], 0.4 if hour.lit else 0.2)
    canvas.box(0, shore, canvas.wide, 1, shade(green, 0.8))
    x = 0.0
    while x < canvas.wide:
        radius = dice.uniform(0.02, 0.05)
        canvas.disc(x, shore + 0.005, radius, shade(green, dice.uniform(0.7, 1.25)))
        x += radius * dice.uniform(0.8, 1.5)
