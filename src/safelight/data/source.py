"""Sources of data: a key that is cheap to compute, items known by name, each decoded by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.columns import ConditionColumn

Progress = Callable[[str, int, int], None]  # the work, how much of it is done, of how much

TRAIN, HELD_OUT, UNDECIDED = 0, 1, -1  # sides of an official split; undecided is left to the item's content
NOT_MASKED = 255  # in a mask, a pixel of no class; an item without a mask is this all over


@dataclass(frozen=True, eq=False)
class Pixels:
    """One decoded item: image (H, W, C), and mask (H, W) of class numbers where it has one."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None


class BadItem(Exception):
    """An item that cannot be decoded; the message is the reason, without the item's name."""


class ImageReader(Protocol):
    """Decodes an item by its number. Raises BadItem."""

    def read(self, index: int) -> Pixels: ...


@dataclass(frozen=True)
class DrawnReader:
    """Items that a function draws by their number."""

    read: Callable[[int], Pixels]


@dataclass(frozen=True, eq=False)
class Masks:
    """Which items have a mask (N,), and how many classes those have; None where the masks decide."""

    present: NDArray[np.bool_]
    classes: int | None = None
    names: tuple[str, ...] = ()  # of the classes, where they are known


@dataclass(frozen=True, eq=False)
class Items:
    """The N items of a source, in the order of their sorted names, and all that is known undecoded."""

    names: Sequence[str]
    shape: tuple[int, int, int]  # (H, W, C); C = 0: 3 as soon as one image has colour, otherwise 1
    reader: ImageReader
    columns: Mapping[str, ConditionColumn] = field(default_factory=dict)  # conditions that are not pictures
    masks: Masks | None = None
    official: NDArray[np.int8] | None = None  # (N,) TRAIN, HELD_OUT or UNDECIDED
    texts: Sequence[Sequence[str]] = ()  # captions, by item; empty where there are none at all
    bad: Sequence[str] = ()  # what should be an item and cannot be, found without decoding: name (reason)
    passed_over: Mapping[str, int] = field(default_factory=dict)  # what is no item: how many, by kind


@dataclass(frozen=True)
class Source:
    """Where items come from. Equal keys mean the same items, although nothing has been decoded yet."""

    name: str
    key: str
    items: Callable[[], Items]  # may take long: reads metadata or whole archives


def key(*parts: object) -> str:
    """32 hexadecimal digits, a hash of plain values (strings, numbers, tuples of them)."""
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def stamp(path: Path, where: str = "data.path") -> tuple[str, int, int]:
    """The state of a file without reading it: path, bytes, time of change (ns). Raises UserError."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{where}: {path} cannot be read ({error.strerror})") from error
    return str(path), stat.st_size, stat.st_mtime_ns
