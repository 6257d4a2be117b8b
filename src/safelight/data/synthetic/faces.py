"""Cartoon faces whose attributes are known: male and female (probabilities), hair, mouth and eyes.

Item i is a pure function of i. Each attribute shows in a continuous way: hair from black to platinum, mouth
and eyes from shut to wide open, and with male and female, which add up to one, the length of the hair, the
jaw, the brows, the lips, the lashes and the beard. All else (skin, paper, shirt, glasses, where the
head is and how it is held) is left to a latent to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError, nearest
from safelight.data import columns as condition
from safelight.data.config import Data
from safelight.data.images import fit
from safelight.data.source import DrawnReader, Items, Pixels, Source, key
from safelight.data.synthetic.ink import Colour, Paper, box, ellipse
from safelight.randomness import key as draw_key

COUNT = 16_864  # items
NAMES = ("male", "female", "hair", "mouth", "eyes")
VERSION = 1  # of the drawing: another one makes other pictures
GLASSES = 0.2  # share of faces
HAIR = ((24, 20, 24), (74, 44, 28), (142, 74, 36), (214, 164, 84), (248, 234, 188))  # from 0 to 1
SKIN = ((92, 58, 42), (150, 100, 70), (205, 150, 112), (236, 190, 155), (250, 218, 190))
EYES = ((70, 45, 30), (95, 75, 40), (60, 105, 70), (60, 110, 165))
PAPERS = ((214, 226, 238), (238, 222, 206), (208, 228, 212), (232, 214, 232), (244, 236, 206))
SHIRTS = ((178, 64, 62), (64, 96, 158), (74, 130, 96), (222, 176, 76), (120, 84, 142), (70, 76, 88))
LIPS = ((176, 96, 84), (200, 50, 70))  # from male to female
DARK, WHITE, GOLD = np.array((40.0, 26, 30)), np.array((250.0, 250, 250)), np.array((150.0, 110, 60))
BLUSH, THROAT, TONGUE = np.array((232.0, 110, 100)), np.array((92.0, 22, 34)), np.array((214.0, 96, 96))


class Appearance(NamedTuple):
    """What no attribute tells, each in [0, 1]."""

    tone: float  # of the skin
    wide: float
    long: float
    sideways: float
    upwards: float
    near: float
    tilt: float
    iris: float
    apart: float
    nose: float
    smile: float
    brow: float
    paper: float
    shirt: float
    glasses: float
    frame: float
    fringe: float
    light: float
    blush: float
    curls: float


@dataclass(frozen=True)
class Face:
    """What is true of a face. All lie in [0, 1]."""

    female: float
    hair: float
    mouth: float
    eyes: float
    looks: Appearance

    @property
    def male(self) -> float:
        return 1 - self.female

    @property
    def attributes(self) -> tuple[float, ...]:
        """Values by NAMES."""
        return (self.male, self.female, self.hair, self.mouth, self.eyes)

    @property
    def skin(self) -> Colour:
        return _along(SKIN, self.looks.tone)

    @property
    def hair_colour(self) -> Colour:
        return _along(HAIR, self.hair)

    @property
    def half_axes(self) -> tuple[float, float]:
        """Of the head."""
        return 0.60 + 0.10 * self.looks.wide + 0.03 * self.male, 0.80 + 0.08 * self.looks.long

    @property
    def spread(self) -> float:
        """Of an eye from the middle."""
        return 0.25 + 0.06 * self.looks.apart


def face(index: int) -> Face:
    """The face of an item. Few are in the middle between male and female."""
    numbers = np.random.Generator(np.random.Philox(key=draw_key("faces", index)))
    side, hair, mouth, eyes, *rest = numbers.random(4 + len(Appearance._fields)).tolist()
    side = 2 * side - 1
    female = 0.5 + (0.5 if side > 0 else -0.5) * abs(side) ** 0.5
    return Face(female, hair, mouth, eyes, Appearance(*rest))


def draw(what: Face, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of a face."""
    looks = what.looks
    off = (looks.sideways - 0.5) * 0.16, (looks.upwards - 0.5) * 0.14
    ink = Paper.seen_from(size, *off, zoom=0.98 + 0.16 * looks.near, tilt=(looks.tilt - 0.5) * 0.3)
    ink.light(_pick(PAPERS, looks.paper), looks.light)
    _behind(ink, what)
    _head(ink, what)
    _hair(ink, what)
    for side in (-1, 1):
        _eye(ink.near(side * what.spread, 0.0, 0.36), what, side)
    if looks.glasses < GLASSES:
        bridge = np.maximum(np.abs(ink.y) - 0.014, np.abs(ink.x) - (what.spread - 0.19))
        ink.put(bridge, _rim(what))
    _mouth(ink.near(0.0, 0.42, 0.42), what)
    return ink.pixels()


def _behind(ink: Paper, what: Face) -> None:
    """Long hair, shoulders, neck."""
    x, y, (a, b), curls = ink.x, ink.y, what.half_axes, 0.05 * what.looks.curls
    length = 0.15 + 1.15 * _step(0.35, 0.95, what.female)
    crown = np.maximum(ellipse(x, y + 0.12, a + 0.20 + curls, b + 0.20), y - length)
    hanging = np.maximum(box(x, y - length / 2, a + 0.15 + curls, length / 2, 0.16), -y)
    ink.put(np.minimum(crown, hanging), what.hair_colour * 0.82)
    ink.put(ellipse(x, y - 1.72, 1.05 + 0.14 * what.male, 0.66), _pick(SHIRTS, what.looks.shirt))
    neck = np.minimum(
        box(x, y - 0.95, 0.25 + 0.07 * what.male, 0.30, 0.12),
        ellipse(x, y - 1.13, 0.30 + 0.07 * what.male, 0.16),
    )
    ink.put(neck, what.skin * 0.82)


def _head(ink: Paper, what: Face) -> None:
    """Ears, a jaw that is square or pointed, beard, cheeks."""
    x, y, (a, b), male = ink.x, ink.y, what.half_axes, what.male
    for side in (-1, 1):
        ink.put(ellipse(x - side * (a + 0.01), y - 0.06, 0.10, 0.16), what.skin * 0.82)
    jaw = ellipse(x, y - 0.30, a * (0.80 + 0.16 * male), b * (0.68 + 0.04 * male))
    head = np.minimum(ellipse(x, y, a, b), jaw)
    ink.put(head, what.skin)
    beard = np.maximum(head + 0.01, 0.30 - y - 0.35 * (x / a) ** 4)
    ink.put(beard, what.hair_colour * 0.75, 0.62 * _step(0.60, 1.0, male))
    for side in (-1, 1):
        cheek = ellipse(x - side * 0.36, y - 0.26, 0.15, 0.11)
        ink.put(cheek, BLUSH, 0.10 + 0.3 * what.looks.blush * what.female)


def _hair(ink: Paper, what: Face) -> None:
    """A cap cut by the forehead, with a parting on either side."""
    x, y, (a, b), curls = ink.x, ink.y, what.half_axes, 0.05 * what.looks.curls
    lean = (what.looks.fringe - 0.5) * 0.7
    forehead = ellipse(x - lean * 0.35, y - 0.22, a * 0.92, b * 0.80)
    cap = np.maximum(ellipse(x, y + 0.10, a + 0.11 + curls, b + 0.08 + curls), -forehead)
    ink.put(np.maximum(cap, y - 0.05 - 0.30 * what.female), what.hair_colour)
    shine = ellipse(x + lean * 0.5, y + 0.68, a * 0.62, 0.10)
    ink.put(np.maximum(shine, cap - 0.02), what.hair_colour * 0.6 + 100, 0.35)


def _eye(ink: Paper, what: Face, side: int) -> None:
    """What the lids leave of white, iris and pupil; lash, brow and half a pair of glasses."""
    x, y, looks = ink.x - side * what.spread, ink.y - 0.02, what.looks
    opening = 0.015 + 0.125 * what.eyes
    edge = 0.022 + 0.014 * what.female
    lids = ellipse(x, y, 0.145, opening)
    ink.put(ellipse(x, y, 0.145 + edge, opening + edge), DARK, 0.85)
    ink.put(lids, WHITE)
    ink.put(np.maximum(lids, ellipse(x, y, 0.082, 0.082)), _pick(EYES, looks.iris))
    ink.put(np.maximum(lids, ellipse(x, y, 0.040, 0.040)), DARK)
    ink.put(np.maximum(lids, ellipse(x - 0.03, y + 0.03, 0.018, 0.018)), WHITE)
    lash = np.maximum(np.abs(ellipse(x, y, 0.17, opening + 0.03)) - 0.018, y + 0.2 * opening)
    ink.put(np.maximum(lash, -side * x - 0.02), DARK, _step(0.5, 0.9, what.female))
    tilted = 0.12 * (looks.brow - 0.4) * side * x
    arch = y + 0.185 + 0.05 * what.eyes + 0.02 * looks.brow - tilted + 0.9 * x * x
    brow = np.maximum(np.abs(arch) - 0.020 - 0.026 * what.male, np.abs(x) - 0.155)
    ink.put(brow, what.hair_colour * 0.62)
    if looks.glasses < GLASSES:
        ink.put(np.abs(box(x, y - 0.01, 0.20, 0.165, 0.08 + 0.08 * looks.frame)) - 0.016, _rim(what))
        near, far = what.spread + 0.2, what.half_axes[0]
        temple = np.abs(np.abs(ink.x) - (far + near) / 2) - (far - near) / 2
        ink.put(np.maximum(np.abs(ink.y) - 0.014, temple), _rim(what), 0.9)


def _mouth(ink: Paper, what: Face) -> None:
    """A nose, and a mouth whose teeth show when it opens."""
    x, y, looks = ink.x, ink.y, what.looks
    nostrils = np.abs(ellipse(x, y - 0.24, 0.07 + 0.04 * looks.nose, 0.075)) - 0.016
    ink.put(np.maximum(nostrils, 0.25 - y), what.skin * 0.7)
    half, opening = 0.20 + 0.03 * looks.smile, 0.008 + 0.135 * what.mouth
    y = y - 0.50 + 0.55 * (0.2 + looks.smile) * (x * x - 0.02)
    edge = 0.024 + 0.022 * what.female
    lips = _along(LIPS, what.female) * (0.55 + 0.45 * looks.tone)
    ink.put(ellipse(x, y, half + edge, opening + edge), lips)
    inside = ellipse(x, y, half, opening)
    ink.put(inside, THROAT)
    ink.put(np.maximum(inside, y + 0.35 * opening), WHITE, _step(0.1, 0.3, what.mouth))
    tongue = ellipse(x, y - 0.85 * opening, half * 0.6, opening * 0.6)
    ink.put(np.maximum(inside, tongue), TONGUE)


def _rim(what: Face) -> Colour:
    """Of glasses."""
    return DARK if what.looks.frame < 0.6 else GOLD


def _step(low: float, high: float, value: float) -> float:
    """0 below, 1 above, smooth between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _along(colours: tuple[tuple[int, int, int], ...], value: float) -> Colour:
    """A colour of a scale, between its neighbours."""
    place = value * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    below, above = np.array(colours[low], np.float64), np.array(colours[low + 1], np.float64)
    return below + (place - low) * (above - below)


def _pick(colours: tuple[tuple[int, int, int], ...], value: float) -> Colour:
    """One of the colours, and how much of a grey it is, by one number."""
    place = value * len(colours)
    chosen = np.array(colours[int(place)], np.float64)
    return chosen * (0.9 + 0.14 * (place - int(place)))


def faces(config: Data) -> Source:
    """The drawn faces; needs no file and no network. Raises UserError for a column they do not have."""
    if (column := config.column()) not in (None, "attributes"):
        raise UserError(f"data.{column}: names a column, but faces have nothing but attributes")
    height, width = config.height_width or (120, 120)
    shape = (height, width, config.channels or 3)
    names = NAMES if config.attributes is None else config.attributes
    for name in names:
        if name not in NAMES:
            raise UserError(f"data.attributes: {name!r} is no attribute of faces{nearest(name, NAMES)}")

    def items() -> Items:
        values = np.array([face(index).attributes for index in range(COUNT)], np.float32)
        chosen = values[:, [NAMES.index(name) for name in names]]
        columns = {"attributes": condition.attributes(chosen, tuple(names))} if names else {}
        reader = DrawnReader(lambda index: Pixels(fit(Image.fromarray(draw(face(index), shape[:2])), shape)))
        return Items([f"{index:05d}" for index in range(COUNT)], shape, reader, columns)

    return Source("faces", key("faces", VERSION, shape, tuple(names)), items)
