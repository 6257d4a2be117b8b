"""Sources of data: a key that is cheap to compute, items known by name, each decoded by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    whole: tuple[int, int] | None = None  # the (H, W) of its file, before it was brought to its size


@dataclass(frozen=True)
class Note:
    """What a reading passed over, or took in a way worth saying."""

    kind: str  # such as ".heic file"
    count: int
    example: str = ""  # the first one's name
    reason: str = ""  # why, or what to do about it

    def __str__(self) -> str:
        """Such as ".zip file: 2, such as cats.zip; give it as data.path"."""
        known = f"{self.kind}: {self.count:,}" if self.count > 1 or not self.reason else self.kind
        example = f", such as {self.example}" if self.example else ""
        return f"{known}{example}" + (f"; {self.reason}" if self.reason else "")


class Notes:
    """Notes while they are gathered: one for each kind."""

    def __init__(self) -> None:
        self._noted: dict[str, Note] = {}

    def add(self, kind: str, example: str = "", reason: str = "", count: int = 1) -> None:
        """Count what is passed over; of a kind the first example is kept."""
        known = self._noted.get(kind)
        if count:
            self._noted[kind] = replace(known, count=known.count + count) if known else Note(
                kind, count, example, reason
            )  # fmt: skip

    def add_all(self, kind: str, names: Iterable[str], reason: str = "") -> None:
        """Count every one of those names."""
        for name in names:
            self.add(kind, name, reason)

    def extend(self, notes: Iterable[Note]) -> None:
        """Add the counts of other notes."""
        for note in notes:
            self.add(note.kind, note.example, note.reason, note.count)

    def __iter__(self) -> Iterator[Note]:
        return iter(self._noted.values())


class BadItem(Exception):
    """An item that cannot be decoded; the message is the reason, without the item's name."""


class LeftOut(BadItem):
    """An item that the recipe leaves out; it is not at fault."""


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
    values: str = "auto"  # as data.mask_values


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
    notes: Sequence[Note] = ()  # what is no item, and how things were read
    layout: str = ""  # of files: how they were read, in words
    weights: NDArray[np.float32] | None = None  # (N,) how often each is drawn; None: all alike
    crop: tuple[int, int] | None = None  # (H, W) that each step cuts out of larger images
    groups: Sequence[str | None] = ()  # what stays on one side of the split; None: the item alone


@dataclass(frozen=True)
class Source:
    """Where items come from. Equal keys mean the same items, although nothing has been decoded yet."""

    name: str
    key: str
    items: Callable[[], Items]  # may take long: reads metadata or whole archives
    notes: Sequence[Note] = ()  # what a listing alone passes over


def key(*parts: object) -> str:
    """32 hexadecimal digits, a hash of plain values (strings, numbers, tuples of them)."""
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def stamp(path: Path, where: str = "data.path") -> tuple[str, int, int, int]:
    """The state of a file without reading it: path, bytes, times of change (ns). Raises UserError.

    The second time is the inode's, which a program that edits a file and puts its time back cannot set.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{where}: {path} cannot be read ({error.strerror})") from error
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
