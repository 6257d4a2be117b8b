"""Masks as class numbers: from grey levels, palettes, colours, alpha channels, and outlines of objects."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from safelight import files
from safelight.config import UserError
from safelight.data.source import NOT_MASKED, BadItem, Note

if TYPE_CHECKING:
    from safelight.data.tree import Tree

ALPHA, OUTLINES = "alpha:", "outlines:"  # beginnings of masks that are made from something else
MOST_CLASSES = 64  # more are taken for an oversight where the recipe does not state them
COLOURS = 32  # of a mask, that are named
MOST_PIXELS = 178_956_970  # of a mask, as of a picture
FAR = 1e6  # pixels
SAMPLED = 16  # masks that are looked into for colours


@dataclass(frozen=True)
class MaskTree:
    """A tree in which masks lie that are made when they are opened: from alpha, or from outlines of objects.

    "alpha:NAME" is the alpha channel of a picture; "outlines:HEIGHTxWIDTH:CLASS@PLACE,...:NAME" paints the
    outlines that stand at those bytes of the file `outlines`, at the picture's size where it is 0x0.
    """

    kind: ClassVar = "masks"
    tree: Tree
    outlines: str = ""

    def open(self, name: str) -> IO[bytes]:
        """The file, or the mask as a PGM file. Raises what the tree raises, and BadItem."""
        if name.startswith(ALPHA):
            return _pgm(self._alpha(name.removeprefix(ALPHA)))
        if not name.startswith(OUTLINES):
            return self.tree.open(name)
        _, size, places, picture = name.split(":", 3)
        height, width = map(int, size.split("x"))
        if not height:
            from safelight.data.images import open_image

            with self.tree.open(picture) as file, open_image(file) as image:
                height, width = image.height, image.width
        if height * width > MOST_PIXELS:
            raise BadItem(f"outlines of a picture of {height}x{width} would fill the memory")
        objects = []
        with files.opened(self.outlines) as file:
            for number, place in (part.split("@") for part in places.split(",") if part):
                file.seek(int(place))
                objects.append((int(number), json.loads(file.readline())))
        return _pgm(paint(objects, height, width))

    def _alpha(self, name: str) -> NDArray[np.uint8]:
        from safelight.data.images import UPRIGHT, open_image, orientation

        with self.tree.open(name) as file, open_image(file) as image:
            turned = orientation(image)
            if not image.has_transparency_data:
                raise BadItem("has no alpha channel")
            alpha = image.convert("RGBA").getchannel("A")
            return np.asarray(alpha.transpose(UPRIGHT[turned]) if turned in UPRIGHT else alpha)


def _pgm(levels: NDArray[np.uint8]) -> IO[bytes]:
    return io.BytesIO(b"P5 %d %d 255\n" % levels.shape[::-1] + levels.tobytes())


def class_numbers(image: Image.Image, values: str = "auto", colours: Sequence[str] = ()) -> Image.Image:
    """An opened mask in mode L, a class number a pixel. Raises BadItem.

    values: as data.mask_values; "white" makes 255 class 1 where the mask holds nothing but 0 and 255, and
    cuts one with levels from MOST_CLASSES on at one half; "soft" keeps grey levels, "alpha" cuts an alpha
    channel at one half. colours: of the classes, by their number.
    """
    if colours:
        return _by_colour(image, colours)
    numbers = np.asarray(_numbers(image))
    if values == "alpha":
        numbers = (numbers >= 128).astype(np.uint8)
    elif values == "white" and ((numbers >= MOST_CLASSES) & (numbers < 255)).any():
        numbers = (numbers >= 128).astype(np.uint8)  # black and white, with the edges of JPEG or of smoothing
    elif values == "white" and not ((numbers > 0) & (numbers < 255)).any():
        numbers = numbers // 255
    return Image.fromarray(numbers)


def _numbers(image: Image.Image) -> Image.Image:
    """Grey levels or palette entries in mode L; of a mask of one colour throughout, its alpha."""
    if image.mode in ("P", "L", "1"):
        return Image.fromarray(np.asarray(image).astype(np.uint8))
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 255:
            raise BadItem("holds numbers beyond 255")
        return Image.fromarray(values.astype(np.uint8))
    if image.mode in ("LA", "PA", "RGB", "RGBA"):
        values = np.asarray(image)
        levels = values[:, :, :1] if image.mode in ("LA", "PA") else values[:, :, :3]
        alpha = values[:, :, -1]
        shaped = image.mode != "RGB" and alpha.min() != alpha.max()
        if shaped and (levels == levels[0, 0]).all():  # a shape cut out of one colour
            return Image.fromarray(np.where(alpha >= 128, np.uint8(255), np.uint8(0)))
        if (levels == levels[:, :, :1]).all():  # a grey, perhaps saved as colour
            return Image.fromarray(np.ascontiguousarray(levels[:, :, 0]))
    known = colours_of([image])
    listed = ", ".join(known[:COLOURS]) if len(known) <= COLOURS else f"{len(known)} of them, as JPEG makes"
    raise BadItem(
        f"has colours; expected class numbers as grey levels or palette entries, or state data.mask_colours "
        f"({listed})"
    )


def colours_of(images: Iterable[Image.Image]) -> list[str]:
    """The colours of masks, "#rrggbb", from dark to light; COLOURS + 1 at most of each."""
    known: set[int] = set()
    for image in images:
        pixels = np.asarray(image.convert("RGB"), np.uint32) @ np.array([65536, 256, 1], np.uint32)
        known |= set(np.unique(pixels)[: COLOURS + 1].tolist())
    return [f"#{colour:06x}" for colour in sorted(known)]


def in_colours(tree: Tree, masks: Sequence[str | None]) -> Note | None:
    """What masks in colours need to be classes, of some masks; None where those have no colours."""
    from safelight.data.images import open_image, quiet

    listed = [mask for mask in masks if mask and ":" not in mask]
    coloured: list[str] = []
    known: set[str] = set()
    for name in listed[:: max(1, len(listed) // SAMPLED)]:
        try:
            with quiet(), tree.open(name) as file, open_image(file) as image:
                try:
                    class_numbers(image)
                except BadItem:
                    if image.mode in ("RGB", "RGBA"):
                        coloured.append(name)
                        known.update(colours_of([image]))
        except Exception:  # whoever decodes it says what is wrong
            continue
    if not coloured:
        return None
    words = ", ".join(f'"{colour}"' for colour in sorted(known))
    reason = f"data.mask_colours=[{words}] makes them classes"
    if len(known) > COLOURS:
        reason = f"over {COLOURS} colours are no classes; save class numbers, and not as JPEG"
    return Note("mask in colours", len(coloured), coloured[0], reason)


def colour_table(colours: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The colours 0xRRGGBB of the classes, and their names, of "#rrggbb" or "NAME=#rrggbb".

    Raises ValueError.
    """
    numbers, names = [], []
    for place, text in enumerate(colours):
        name, _, colour = text.rpartition("=")
        red, green, blue = ImageColor.getrgb(colour.strip())[:3]
        numbers.append(red << 16 | green << 8 | blue)
        names.append(name.strip() or f"class {place}")
    if len(set(numbers)) < len(numbers):
        raise ValueError("states a colour twice")
    named = any("=" in text for text in colours)
    return tuple(numbers), tuple(names) if named else ()


def _by_colour(image: Image.Image, colours: Sequence[str]) -> Image.Image:
    table = np.array(colour_table(colours)[0], np.uint32)
    if image.mode == "P" or image.has_transparency_data:
        image = image.convert("RGBA")
    pixels = np.asarray(image.convert("RGB"), np.uint32) @ np.array([65536, 256, 1], np.uint32)
    order = np.argsort(table)
    places = np.minimum(np.searchsorted(table[order], pixels), len(table) - 1)
    numbers = order[places].astype(np.uint8)
    if (strange := pixels[table[numbers] != pixels]).size:
        known = [f"#{colour:06x}" for colour in np.unique(strange)[:3].tolist()]
        raise BadItem(f"has {', '.join(known)} on {strange.size:,} pixels, which data.mask_colours lacks")
    return Image.fromarray(numbers)


def paint(objects: Iterable[tuple[int, Any]], height: int, width: int) -> NDArray[np.uint8]:
    """Objects (class number, outline) as class numbers (H, W), the smaller over the larger; 0 elsewhere.

    An outline is COCO's: polygons [[x, y, x, y, ...], ...] or a run-length encoding. Raises BadItem.
    """
    shapes = [(number, _shape(outline, height, width)) for number, outline in objects]
    canvas = np.zeros((height, width), np.uint8)
    for number, shape in sorted(shapes, key=lambda pair: -int(pair[1].sum())):
        canvas[shape] = number
    return canvas


def _shape(outline: Any, height: int, width: int) -> NDArray[np.bool_]:
    if isinstance(outline, Mapping):
        size = tuple(outline["size"])
        runs = outline["counts"]
        runs = _runs(runs) if isinstance(runs, str) else runs
        if sum(runs) != size[0] * size[1] or size != (height, width):
            raise BadItem(f"its outline is of {size[0]}x{size[1]} pixels, not of {height}x{width}")
        bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return bits.reshape(width, height).T  # COCO goes down columns
    canvas = Image.new("1", (width, height))
    for polygon in outline:  # pixels are numbered by their centres, coordinates count from the corner
        points = np.asarray(polygon, np.float64) - 0.5
        if not (np.abs(points) < FAR).all():
            raise BadItem("its outline has a corner far from the picture")
        ImageDraw.Draw(canvas).polygon(points.tolist(), fill=1)
    return np.asarray(canvas)


def _runs(text: str) -> list[int]:
    """The run lengths of COCO's compressed encoding: groups of five bits from 48 on, differences to the last
    but one (pycocotools, rleFrString)."""
    runs: list[int] = []
    value = shift = 0
    for character in text.encode():
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or min(runs, default=0) < 0:
        raise BadItem("its outline's run lengths are damaged")
    return runs


def is_outline(outline: Any) -> bool:
    """Whether this is COCO's outline of an object: polygons of three points or more, or run lengths."""
    if isinstance(outline, Mapping):
        return {"size", "counts"} <= outline.keys() and isinstance(outline["counts"], str | list)
    return isinstance(outline, list) and bool(outline) and all(
        isinstance(polygon, list) and len(polygon) >= 6 and not len(polygon) % 2 for polygon in outline
    )  # fmt: skip


def numbering(
    seen: Collection[int], mixed: bool, stated: int | None, values: str = "auto"
) -> tuple[int, NDArray[np.uint8] | None]:
    """How many classes masks of those numbers have, and what the numbers become, None where they stay.

    mixed: whether some masks are of 0 and 255 alone and others of 0 and 1, none of all three. Masks of 0 and
    255 alone are black and white: two classes. In others 255 is no class.
    Raises UserError where the numbers are too large for classes, or black is the only thing masks agree on.
    """
    if values == "soft":
        return 1, None  # a share, one channel
    white = values == "auto" and stated in (None, 2) and NOT_MASKED in seen and {0, 1, 255}.issuperset(seen)
    if white and (1 not in seen or (mixed and stated)):
        numbers = np.arange(256, dtype=np.uint8)
        numbers[255] = 1
        return 2, numbers
    if white and mixed:
        raise UserError(
            "data.mask: some masks hold 0 and 255, others 0 and 1; set data.mask_values=white (255 and 1 are "
            "the same class) or data.mask_values=numbers (255 is no class)"
        )
    largest = max((number for number in seen if number != NOT_MASKED), default=0)
    if stated is None and largest >= MOST_CLASSES:
        raise UserError(
            f"data.mask: masks hold numbers up to {largest}; expected class numbers from 0, or black and "
            "white alone (no JPEG); set data.mask_values=white to cut them at one half, "
            "data.mask_values=soft for soft edges, or data.mask_classes if there are so many"
        )
    return stated or max(2, largest + 1), None
