"""What every kind of data offers: a key that is cheap to compute, and items that are decoded one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safelight.types import Condition

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


@dataclass(frozen=True, eq=False)
class Item:
    """One picture with its conditions.

    given: a value for each condition that this item has; one it lacks is left out.
    held_out: the side of an official split; None leaves it to the item's content.
    """

    image: NDArray[np.uint8]  # (H, W, C), the shape its Items state
    given: Mapping[str, np.generic | NDArray[np.generic]] = field(default_factory=dict)
    held_out: bool | None = None


class BadItem(Exception):
    """An item that cannot be decoded; the message is the reason, without the item's name."""


@dataclass(frozen=True)
class Items:
    """The items of a source, in the order of their sorted names. `read` raises BadItem."""

    shape: tuple[int, int, int]  # (H, W, C)
    conditions: Mapping[str, Condition]
    names: Sequence[str]
    read: Callable[[int], Item]


@dataclass(frozen=True)
class Source:
    """Where items come from. Equal keys mean the same items, although nothing has been decoded yet."""

    name: str
    key: str
    items: Callable[[], Items]  # may take long: reads headers or whole archives


def key(*parts: object) -> str:
    """32 hexadecimal digits that stand for plain values (strings, numbers, tuples of them)."""
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def stamp(path: Path) -> tuple[str, int, int]:
    """What tells one state of a file from the next without reading it: path, bytes, time of change (ns)."""
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns
