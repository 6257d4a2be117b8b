"""Keyed numbers, one after another: what a drawn picture is decided by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from safelight.draw import key

T = TypeVar("T")
BLOCK = 256  # words drawn at once


class Dice:
    """An endless sequence of numbers for a key: `Dice("skylines", 17)` is the same on every machine.

    Raw words of Philox, so that no version of NumPy can deal them out in another way.
    """

    def __init__(self, *parts: object) -> None:
        self._words = _words(np.random.Philox(key=key(*parts)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * (next(self._words) >> 11) * 2.0**-53

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """True for a share of the throws."""
        return self.uniform() < share

    def choose(self, values: Sequence[T]) -> T:
        """One of the values."""
        return values[self.whole(0, len(values) - 1)]


def _words(stream: np.random.Philox) -> Iterator[int]:
    while True:
        yield from stream.random_raw(BLOCK).tolist()
