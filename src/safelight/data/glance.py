"""A cheap look at a folder: all files are listed, the headers of a few hundred read, a few pictures decoded.

`inspection` looks at every picture; this takes about a second, however many there are.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import find_source
from safelight.data.config import Data
from safelight.data.images import FileReader, blamed, height_width, open_image, orientation, quiet
from safelight.data.masks import numbering
from safelight.data.source import NOT_MASKED, BadItem, Items, Progress
from safelight.terminal import plain

HEADERS, DECODED = 400, 64  # pictures whose headers are read, and that are decoded, evenly spread
PIXELS = 1e8  # of those decoded, together; twelve are decoded in any case
GREYS = 16  # levels in masks, beyond which they are soft
SIDE = 32  # pixels a side that those are decoded to
CAPTIONS = 2000  # pictures whose captions are read
CLEAR = 8  # pictures whose alpha channel is looked at
EDGES, EDGED, NEAR = 16, 0.8, 12  # pictures whose edges are looked at; the share alike; grey levels apart
SIDES = re.compile(r"\b(left|right|links|rechts|gauche|droite|izquierda|derecha)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Glance:
    """What a look at some of the pictures tells about all."""

    name: str
    images: int  # all, by their names
    sizes: NDArray[np.int64]  # (n, 2) heights and widths of those whose headers were read
    colour: bool
    transparent: bool  # in part, those of which that was looked at
    classes: dict[str, int]
    attributes: tuple[str, ...]
    share: dict[str, float]  # of all pictures that have a condition: label, attributes, text, mask
    captions: float  # a captioned picture has
    distinct: float  # share of captions that are unlike the others
    sides: bool  # whether captions name left and right
    mask_classes: int
    mask_problem: str  # why masks are no class numbers; soft ones still have two classes
    copies: float  # share of the pictures decoded that are like another one
    symmetry: float  # asymmetry of the mean picture, in units of what chance explains
    edge: str  # the colour "#rrggbb" of the edges of most pictures; "" where they differ, or all are squares
    seconds: float  # to decode a picture
    bad: tuple[str, ...]  # of those looked at, with the reason

    @property
    def median(self) -> tuple[int, int]:
        """Height and width of a picture in the middle."""
        height, width = np.median(self.sizes, axis=0)
        return int(height), int(width)

    @property
    def least(self) -> int:
        """The side, in pixels, that nine of ten pictures have in both directions."""
        return int(np.quantile(self.sizes.min(1), 0.1))

    @property
    def cut(self) -> float:
        """The share of the median picture that a square crop cuts off."""
        height, width = self.median
        return 1 - min(height, width) / max(height, width)

    @property
    def same(self) -> bool:
        """Whether all have one size."""
        return bool((self.sizes == self.sizes[0]).all())

    def to_dict(self) -> dict[str, Any]:
        """In plain values."""
        height, width = self.median
        return {
            "name": self.name, "images": self.images, "height": height, "width": width, "least": self.least,
            "colour": self.colour, "transparent": self.transparent, "classes": self.classes,
            "attributes": list(self.attributes), "share": self.share, "captions": self.captions,
            "copies": self.copies, "edge": self.edge, "mask_classes": self.mask_classes,
            "mask_problem": self.mask_problem, "bad": list(self.bad),
        }  # fmt: skip


def glance(config: Data, progress: Progress = lambda what, done, total: None) -> Glance:
    """Look at the data of a recipe. Raises UserError where there are no pictures, or none can be read."""
    source = find_source(config.model_copy(update={"text_encoder": None, "size": SIDE}), progress)
    items = source.items()
    what = f"looking at {plain(source.name)}"
    read, transparent, bad = _headers(items, config, what, progress)
    whole = float(np.median(read.prod(1))) if len(read) else 1.0
    began = time.perf_counter()
    pictures, masks, wrong = _pictures(items, min(DECODED, max(12, int(PIXELS / whole))), what, progress)
    seconds = (time.perf_counter() - began) / max(1, len(pictures))
    bad = {**bad, **wrong}
    reasons = tuple(f"{plain(items.names[item])} ({reason})" for item, reason in sorted(bad.items()))
    if not len(read) or not len(pictures):
        raise UserError(f"data.path: {config.place}: no picture can be read; first {reasons[0]}")
    count = len(items.names)
    label, attributes = items.columns.get("label"), items.columns.get("attributes")
    texts = items.texts[:: max(1, count // CAPTIONS)] if items.texts else []
    words = Counter(text for some in texts for text in some)
    share = {name: float(column.present.mean()) for name, column in items.columns.items()}
    if items.texts:
        share["text"] = sum(map(bool, items.texts)) / count
    classes, problem = 0, ""
    if items.masks:
        share["mask"] = float(items.masks.present.mean())
        held = {tuple(np.unique(mask).tolist()) for mask in masks}
        numbers = {number for each in held for number in each}
        mixed = (0, 255) in held and not any(255 in each and {*each} - {0, 255} for each in held)
        try:
            classes = numbering(numbers, mixed, items.masks.classes, items.masks.values)[0]
        except UserError as error:
            problem = str(error)
            if len(numbers) > GREYS and {0, NOT_MASKED} <= numbers:
                classes = 2  # as soft masks
    return Glance(
        name=source.name,
        images=count,
        sizes=read,
        colour=bool(any((picture != picture[..., :1]).any() for picture in pictures)),
        transparent=transparent,
        classes=dict(zip(label.names, np.bincount(label.values[label.present], minlength=label.size).tolist(),
                         strict=True)) if label else {},
        attributes=attributes.names if attributes else (),
        share=share,
        captions=sum(words.values()) / max(1, sum(map(bool, texts))),
        distinct=len(words) / max(1, sum(words.values())),
        sides=any(SIDES.search(text) for text in words),
        mask_classes=classes,
        mask_problem=problem,
        copies=_copies(pictures),
        symmetry=_asymmetry(pictures),
        edge=_edge(items) if (read[:, 0] != read[:, 1]).any() else "",  # a square cuts nothing of squares
        seconds=seconds,
        bad=reasons,
    )  # fmt: skip


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the items, from the first to the last."""
    return [int(item) for item in np.unique(np.linspace(0, count - 1, min(most, count)).round())]


def _headers(
    items: Items, config: Data, what: str, progress: Progress
) -> tuple[NDArray[np.int64], bool, dict[int, str]]:
    """(n, 2) sizes of some pictures, whether the first CLEAR are transparent, those that cannot be opened."""
    reader, bad = items.reader, dict[int, str]()
    if not isinstance(reader, FileReader):
        # arrays have one size; what was set to SIDE is not it
        shape = find_source(config.model_copy(update={"text_encoder": None})).items().shape
        return np.array([[shape[0], shape[1]]]), False, bad
    sizes, clear, chosen = [], 0, _spread(len(items.names), HEADERS)
    for place, item in enumerate(chosen):
        progress(what, place, len(chosen))
        try:
            with quiet(), reader.tree.open(reader.files[item]) as file, open_image(file) as image:
                sizes.append(height_width(image, orientation(image)))
                if image.has_transparency_data and clear == place and place < CLEAR:
                    clear += int(np.asarray(image.convert("RGBA").getchannel("A")).min() < 128)
        except Exception as error:
            problem = blamed(error, reader.files[item])
            if isinstance(problem, UserError):
                raise problem from error
            bad[item] = str(problem)
    return np.array(sizes, np.int64).reshape(-1, 2), clear >= min(CLEAR, len(chosen)), bad


def _pictures(
    items: Items, count: int, what: str, progress: Progress
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]], dict[int, str]]:
    """Some pictures (SIDE, SIDE, 1 or 3), their masks, and those that cannot be decoded."""
    reader, chosen = items.reader, _spread(len(items.names), count)
    if isinstance(reader, FileReader):
        reader = replace(reader, size=(SIDE, SIDE), like=None)
    pictures, masks, bad = [], [], {}
    for place, item in enumerate(chosen):
        progress(f"{what}: decoding some", place, len(chosen))
        try:
            with quiet():
                pixels = reader.read(item)
        except BadItem as error:
            bad[item] = str(error)
            continue
        pictures.append(pixels.image)
        if pixels.mask is not None:
            masks.append(pixels.mask)
    return pictures, masks, bad


def _edge(items: Items) -> str:
    """The colour of the outermost pixels of EDGED of some pictures, "#rrggbb"; "" where there is none.

    A picture's edge is the median of its pixels' colours, if nine of ten of them are within NEAR of it.
    """
    if not isinstance(items.reader, FileReader):
        return ""
    whole = replace(items.reader, how=replace(items.reader.how, fit="stretch"), masks=())
    pictures = _pictures(replace(items, reader=whole), EDGES, "", lambda what, done, total: None)[0]
    colours = []
    for picture in pictures:
        rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(int)
        colour = np.median(rim, axis=0)
        if (abs(rim - colour) <= NEAR).all(1).mean() >= 0.9:
            colours.append(np.broadcast_to(colour, 3))
    if len(colours) < EDGED * len(pictures):
        return ""
    middle = np.median(colours, axis=0)
    if (abs(np.array(colours) - middle) <= NEAR).all(1).sum() < EDGED * len(pictures):
        return ""
    return "#" + bytes(middle.astype(np.uint8)).hex()


def _grey(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return np.stack([picture.mean(-1) for picture in pictures])


def _copies(pictures: Sequence[NDArray[np.uint8]]) -> float:
    """The share of pictures whose difference hash (8x8 signs, within 4 of 64) another one has.

    The hash says which of two neighbouring 4x4 blocks is brighter (Krawetz 2013); flat pictures have none.
    """
    grey = _grey(pictures)
    height, width = grey.shape[1] // 8 * 8, grey.shape[2] // 8 * 8
    blocks = grey[:, :height, :width].reshape(len(grey), 8, height // 8, 8, width // 8).mean((2, 4))
    steps = np.diff(blocks, axis=2, append=blocks[:, :, :1]).reshape(len(grey), -1)
    signs = np.where(np.abs(steps) < 2, 0, np.sign(steps))
    unlike = (signs[:, None] != signs[None]).sum(-1)
    flat = (signs != 0).sum(-1) < 16
    np.fill_diagonal(unlike, 64)
    unlike[flat] = 64
    return float((unlike <= 4).any(1).mean())


def _asymmetry(pictures: Sequence[NDArray[np.uint8]]) -> float:
    """How far the mean picture is from its mirror image, over what as many pictures differ by chance.

    |mean d|² against mean |d|² / n, d a picture less its mirror image: 1 on average where sides are alike.
    """
    difference = _grey(pictures)
    difference = difference - difference[:, :, ::-1]
    chance = float(np.square(difference).mean()) / len(difference)
    return float(np.square(difference.mean(0)).mean()) / chance if chance else 0.0
