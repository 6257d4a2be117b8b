"""Two coloured shapes and captions whose truth is known: "a red circle left of a blue square".

Item i is a pure function of i: its scene, where and how large the shapes lie, and the paper they lie on. Some
pairs of objects are never trained on in any arrangement; scenes of them are the held-out items, so that
what a model makes of a combination that it has not seen can be told.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.config import Data
from safelight.data.source import HELD_OUT, TRAIN, DrawnReader, Items, Pixels, Source, key
from safelight.randomness import key as draw_key

COUNT = 16_000  # items
SEEN = 7 / 8  # of the pairs of objects, about
COLOURS = {
    "red": (214, 47, 47),
    "yellow": (240, 190, 40),
    "green": (60, 160, 75),
    "blue": (50, 100, 215),
    "purple": (150, 70, 170),
}
SHAPES = ("circle", "square", "triangle", "diamond")
RELATIONS = ("left of", "above")  # of the first object to the second; their reverses:
REVERSED = {"right of": "left of", "below": "above"}
OBJECT = rf"(?:a |the )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
SENTENCE = re.compile(
    rf"{OBJECT} (?:to the |is )?({'|'.join([*RELATIONS, *REVERSED])}) {OBJECT}", re.IGNORECASE
)
Object = tuple[str, str]  # colour, shape
OBJECTS: tuple[Object, ...] = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True)
class Scene:
    """What is true of an image."""

    first: Object
    relation: str  # one of RELATIONS: how the first object lies to the second
    second: Object

    @property
    def captions(self) -> tuple[str, ...]:
        """Ways to say it, each of which `read` understands."""
        first, second = " ".join(self.first), " ".join(self.second)
        back = next(word for word, other in REVERSED.items() if other == self.relation)
        return (
            f"a {first} {self.relation} a {second}",
            f"a {second} {back} a {first}",
            f"the {first} is {self.relation} the {second}",
            f"{second} {back} {first}",
        )

    @property
    def seen(self) -> bool:
        """Whether scenes of these two objects are trained on."""
        return _trained_on(frozenset((self.first, self.second)))


def read(caption: str) -> Scene | None:
    """The scene that a caption describes; None where it describes none."""
    match = SENTENCE.search(caption)
    if not match:
        return None
    colour, shape, relation, other_colour, other_shape = (word.lower() for word in match.groups())
    first, second = (colour, shape), (other_colour, other_shape)
    if relation in REVERSED:
        return Scene(second, REVERSED[relation], first)
    return Scene(first, relation, second)


def scene(index: int) -> Scene:
    """The scene of an item: two different objects, one left of or above the other."""
    chance = np.random.Generator(np.random.Philox(key=draw_key("shapes", "scene", index)))
    first, second = chance.choice(len(OBJECTS), 2, replace=False)
    return Scene(OBJECTS[first], RELATIONS[chance.integers(2)], OBJECTS[second])


def draw(what: Scene, index: int, size: int) -> NDArray[np.uint8]:
    """A picture (size, size, 3) of a scene. index: of all that the scene leaves open."""
    chance = np.random.Generator(np.random.Philox(key=draw_key("shapes", "places", index)))
    paper = 225 + 30 * chance.random()
    image = np.full((size, size, 3), paper, np.float64)
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    for side, (colour, shape) in ((-1, what.first), (1, what.second)):
        radius = size * (0.13 + 0.06 * chance.random())
        along = size * (0.5 + side * (0.25 + 0.04 * (2 * chance.random() - 1)))
        across = size * (0.5 + 0.2 * (2 * chance.random() - 1))
        x, y = (along, across) if what.relation == "left of" else (across, along)
        ink = np.clip(0.5 - outside(shape, columns - x, rows - y, radius), 0, 1)[..., None]
        image += ink * (np.array(COLOURS[colour]) + 16 * (chance.random(3) - 0.5) - image)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def outside(shape: str, x: NDArray[np.float64], y: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """How many pixels a point (x, y) from the shape's centre lies outside its edge; negative within it.

    All shapes have about the area of the circle of that radius, so that size tells nothing.
    """
    match shape:
        case "circle":
            return np.hypot(x, y) - radius
        case "square":
            return np.maximum(abs(x), abs(y)) - 0.89 * radius
        case "diamond":
            return (abs(x) + abs(y)) / math.sqrt(2) - 0.89 * radius
        case _:  # an upright triangle with equal sides, its centre of gravity in the middle
            slope = math.sqrt(0.75) * abs(x) - 0.5 * y
            return np.maximum(slope, y) - 0.77 * radius


def shapes(config: Data) -> Source:
    """The embedded scenes; needs no file and no network."""
    height, width = config.height_width or (32, 32)
    if height != width or config.channels in (1, 4):
        raise UserError("data.size: shapes are square and in colour; set one number, and no data.channels")
    size = height

    def items() -> Items:
        scenes = [scene(index) for index in range(COUNT)]
        return Items(
            names=[f"{index:05d}" for index in range(COUNT)],
            shape=(size, size, 3),
            reader=DrawnReader(lambda index: Pixels(draw(scenes[index], index, size))),
            official=np.array([TRAIN if what.seen else HELD_OUT for what in scenes], np.int8),
            texts=[what.captions for what in scenes],
        )

    return Source("shapes", key("shapes", 1, size), items)


@cache
def _trained_on(pair: frozenset[Object]) -> bool:
    """Every object, colour and shape is met in training: only some pairs of objects are not."""
    pairs = [frozenset(two) for two in combinations(OBJECTS, 2)]
    order = np.random.Generator(np.random.Philox(key=draw_key("shapes", "seen"))).permutation(len(pairs))
    return bool(order[pairs.index(pair)] < SEEN * len(pairs)) if pair in pairs else True
