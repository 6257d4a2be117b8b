"""Captions of a pack, several for each image, read from disk where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class Texts(Sequence[tuple[str, ...]]):
    """The captions of item i are texts[i]; there may be none.

    texts.bin holds them as UTF-8, one after another; texts.npy (M + 1,) where each begins;
    texts-first.npy (N + 1,) which of them is an item's first. Raises OSError or ValueError where damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.first = np.load(folder / "texts-first.npy")
        self._starts = np.load(folder / "texts.npy", mmap_mode="r")
        self._bytes = np.memmap(folder / "texts.bin", np.uint8, "r")
        if self._starts[-1] != len(self._bytes) or len(self._starts) != self.first[-1] + 1:
            raise ValueError(f"{folder}: captions are cut off")

    def __len__(self) -> int:
        return len(self.first) - 1

    @overload
    def __getitem__(self, item: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, item: slice) -> Sequence[tuple[str, ...]]: ...

    def __getitem__(self, item: int | slice) -> tuple[str, ...] | Sequence[tuple[str, ...]]:
        if isinstance(item, slice):
            return [self[index] for index in range(*item.indices(len(self)))]
        if not -len(self) <= item < len(self):
            raise IndexError(item)
        start = item % len(self)
        return tuple(self.caption(number) for number in range(self.first[start], self.first[start + 1]))

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return (self[item] for item in range(len(self)))

    def caption(self, number: int) -> str:
        """One caption, counted over all items."""
        return self._bytes[self._starts[number] : self._starts[number + 1]].tobytes().decode()


def write_texts(folder: Path, texts: Sequence[Sequence[str]]) -> None:
    """Put captions down, by item. There must be one at least."""
    first, starts, end = [0], [0], 0
    with (folder / "texts.bin").open("wb") as file:
        for own in texts:
            for text in own:
                end += file.write(text.encode())
                starts.append(end)
            first.append(len(starts) - 1)
    np.save(folder / "texts.npy", np.array(starts, np.int64))
    np.save(folder / "texts-first.npy", np.array(first, np.int64))
