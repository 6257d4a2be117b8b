"""A folder of images: all below it, in classes by subfolder, split by train/ and test/ if it has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from safelight.config import UserError
from safelight.data.config import Data
from safelight.data.image import decode, look
from safelight.data.source import BadItem, Item, Items, Source, key, stamp
from safelight.types import Condition

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2"),
)
NOT_DATA = (".", "__MACOSX")  # hidden files, and what archivers leave behind
HELD_OUT = ("test", "val", "valid", "validation")


def folder(config: Data) -> Source:
    """The images below data.path. Raises UserError where there are none."""
    root = Path(config.path or "").expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data.path: {config.path} is not a folder; give the folder that holds the images")
    names = sorted(_images(root, "", frozenset()))
    if not names:
        raise UserError(f"data.path: {config.path} holds no image; looked for {' '.join(SUFFIXES)}")
    choices = (config.height_width, config.channels, config.labels)
    stamps = tuple(stamp(root / name) for name in names)
    return Source(root.name, key("folder", choices, stamps), lambda: _items(root, names, config))


def _images(root: Path, below: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Names of the images, relative to the root. Links are followed, but not back up."""
    stat = (root / below).stat()
    above |= {(stat.st_dev, stat.st_ino)}
    with os.scandir(root / below) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.name.startswith(NOT_DATA):
                continue
            if entry.is_dir():
                stat = os.stat(entry.path)
                if (stat.st_dev, stat.st_ino) not in above:
                    yield from _images(root, f"{name}/", above)
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                yield name


@dataclass(frozen=True)
class _Folder:
    """Reads one image; a plain value, so that it can be sent to another process."""

    root: Path
    names: Sequence[str]
    labels: Sequence[int | None]
    held_out: Sequence[bool | None]
    shape: tuple[int, int, int]

    def read(self, index: int) -> Item:
        path, label = self.root / self.names[index], self.labels[index]
        try:
            image = decode(path, self.shape)
        except UnidentifiedImageError as error:
            raise BadItem("not an image") from error
        except Exception as error:  # decoders raise anything at all for broken content
            if isinstance(error, OSError) and error.errno is not None:  # the disk, not the content
                raise UserError(f"{path}: cannot be read ({error.strerror})") from error
            raise BadItem(str(error).partition("\n")[0] or type(error).__name__) from error
        return Item(image, {} if label is None else {"label": np.int64(label)}, self.held_out[index])


def _items(root: Path, names: Sequence[str], config: Data) -> Items:
    shape = _shape(root, names, config)
    below, held_out = _split(names)
    classes, labels = _classes(below) if config.labels else ((), [None] * len(names))
    conditions = {"label": Condition("label", len(classes), classes)} if classes else {}
    return Items(shape, conditions, names, _Folder(root, names, labels, held_out, shape).read)


def _split(names: Sequence[str]) -> tuple[list[str], list[bool | None]]:
    """Names below train/ and test/ (or val/, valid/, validation/), and the side each lies on.

    Only where every image lies in one of them, and each side has some; otherwise these are just names.
    """
    tops = [name.partition("/")[0].lower() if "/" in name else "" for name in names]
    sides = set(tops)
    if "train" not in sides or len(sides) == 1 or not sides <= {"train", *HELD_OUT}:
        return list(names), [None] * len(names)
    return [name.partition("/")[2] for name in names], [top != "train" for top in tops]


def _classes(names: Sequence[str]) -> tuple[tuple[str, ...], list[int | None]]:
    """The first subfolders as classes, and each image's; None for one that lies in no subfolder.

    A single subfolder tells nothing apart, and is no class.
    """
    tops = [name.partition("/")[0] if "/" in name else None for name in names]
    classes = tuple(sorted({top for top in tops if top is not None}))
    if len(classes) < 2:
        return (), [None] * len(names)
    number = {name: index for index, name in enumerate(classes)}
    return classes, [None if top is None else number[top] for top in tops]


def _shape(root: Path, names: Sequence[str], config: Data) -> tuple[int, int, int]:
    """(H, W, C) of the pack; what the recipe leaves open is taken from the headers of all images."""
    if config.height_width and config.channels:
        return (*config.height_width, config.channels)
    first: dict[tuple[int, int], str] = {}  # an image of each size
    channels = 1
    for name in names:
        try:
            height, width, colours = look(root / name)
        except Exception:  # a bad file is reported when it is decoded
            continue
        first.setdefault((height, width), name)
        channels = max(channels, colours)
    if not first:
        raise UserError(f"{root}: none of its {len(names)} images can be decoded")
    if len(first) > 1 and not config.height_width:
        (one, a), (other, b) = list(first.items())[:2]
        raise UserError(
            f"data.size: is needed, as images differ: {a} is {one[0]}x{one[1]} (height x width), "
            f"{b} is {other[0]}x{other[1]}; for example data.size={min(*one, *other)}"
        )
    return (*(config.height_width or next(iter(first))), config.channels or channels)
