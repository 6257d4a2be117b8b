"""Which training items count, and how much: data.without and data.weight, also changed while a run trains.

Rows keep their places: the order of items and every draw of a step stay what they were. The loss of a row is
weighed by its item, and the loss of a batch is the weighted mean: sum w l / sum w, so that a batch with an
item that does not count trains on the mean of the others, as a training without the item would. The place of
an item of weight 0 is taken by another one, drawn by (seed, step, row), whose loss is not counted there
either: no batch norm, queue or contrastive loss sees a pixel of what was left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError, nearest
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.types import Batch

KEYS = ("data.without", "data.weight")
LISTED = 64  # items that are named one by one; more are ranges of numbers
HASH = 12  # hexadecimal digits of an item's pixels
NUMBERS = re.compile(r"numbers=([\d,-]+)(?:@([0-9a-f]+))?")

Weights = Sequence[NDArray[np.float32]]  # (N,) of each part of a pack


def is_edit(key: str) -> bool:
    """Whether a dotted key says which items count."""
    return key in KEYS or key.startswith("data.weight.")


class Items:
    """The items of a pack by what they are called, those of all its parts numbered one after another."""

    def __init__(self, pack: Pack) -> None:
        self.pack, self.parts = pack, pack.parts
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.names = [name for part in self.parts for name in part.names]
        self.numbers: dict[str, int] = {name: number for number, name in enumerate(self.names)}
        placed = zip(self.parts, self.starts.tolist(), strict=False)
        self.trained = np.concatenate([part.train + start for part, start in placed])
        described = pack.described.get("label")
        self.classes: tuple[str, ...] = tuple(map(str, range(described[1]))) if described else ()
        self.titles: tuple[str, ...] = described[2] if described else ()

    def hash_of(self, number: int) -> str:
        """The beginning of the hash of an item's pixels."""
        return str(self._digests[number].tobytes().hex()[:HASH])

    def digest_of(self, numbers: NDArray[np.int64]) -> str:
        """A digest of the hashes of several items."""
        rows = np.ascontiguousarray(self._digests[numbers])
        return blake2b(rows.tobytes(), digest_size=HASH // 2).hexdigest()

    @cached_property
    def _digests(self) -> NDArray[np.uint64]:
        """(N, 2) of the items' pixels."""
        return np.concatenate([np.load(part.folder / "digests.npy") for part in self.parts])

    def find(self, text: str) -> NDArray[np.int64]:
        """The numbers of the items meant: a class, an item, or ranges of numbers. Raises UserError."""
        if (number := self._numbered(text)) is not None:
            return np.array([number])
        if ranges := NUMBERS.fullmatch(text):
            return self._ranges(text, *ranges.groups())
        labels = self._labels(self.class_of(text))
        numbers: NDArray[np.int64] = self.trained[labels[self.trained]]
        return numbers

    def _numbered(self, text: str) -> int | None:
        """The item of that name, NAME or NAME@HASH; a renamed one is known by its hash."""
        name, at, digest = text.rpartition("@")
        if not at:
            return self.numbers.get(text)
        if NUMBERS.fullmatch(text) or not re.fullmatch(rf"[0-9a-f]{{{HASH}}}", digest):
            return self.numbers.get(text)  # an @ in the name
        number = self.numbers.get(name)
        if number is not None and self.hash_of(number) == digest:
            return number
        renamed = [number for number in range(len(self.names)) if self.hash_of(number) == digest]
        if not renamed:
            raise UserError(f"{self.pack.name}: no image has the pixels of {text}; put {name} back")
        return renamed[0]

    def _ranges(self, text: str, ranges: str, digest: str | None) -> NDArray[np.int64]:
        ends = [piece.partition("-")[::2] for piece in ranges.split(",")]
        try:
            numbers = np.concatenate([np.arange(int(first), int(last or first) + 1) for first, last in ends])
        except ValueError as error:
            raise UserError(f"{text}: expected ranges such as numbers=0-99,105") from error
        if not len(numbers) or numbers.max() >= len(self.names):
            raise UserError(f"{text}: {self.pack.name} has the images 0 to {len(self.names) - 1:,}")
        if digest and self.digest_of(numbers) != digest:
            raise UserError(f"{self.pack.name}: the images of {text} are others now; put them back")
        return np.asarray(np.unique(numbers))

    def class_of(self, text: str) -> int:
        """The class meant by "label=7", "label=cat" or "cat". Raises UserError."""
        key, equals, value = text.partition("=")
        value = value if equals and key == "label" else text
        for names in (self.titles, self.classes if equals else ()):
            if value in names:
                return names.index(value)
        known = [*self.names, *self.titles, *(f"label={name}" for name in self.titles or self.classes)]
        raise UserError(f"{self.pack.name}: has no image and no class {text!r}{nearest(text, known)}")

    def _labels(self, number: int) -> NDArray[np.bool_]:
        return np.concatenate([
            np.asarray(part.given["label"] == number) & part.covered["label"] for part in self.parts
        ])  # fmt: skip

    def pinned(self, text: str) -> str:
        """What is meant, with the hash of what it was. Raises UserError for items that are not trained on."""
        numbers = self.find(text)
        trained = np.isin(numbers, self.trained)
        if not trained.any():
            raise UserError(f"{text}: is not trained on, but held out; name a training image")
        if len(numbers) == 1 and self._numbered(text) is not None:
            return f"{self.names[numbers[0]]}@{self.hash_of(int(numbers[0]))}"
        if NUMBERS.fullmatch(text):
            return self.as_ranges(numbers)
        number = self.class_of(text)
        return f"label={(self.titles or self.classes)[number]}"

    def as_ranges(self, numbers: NDArray[np.int64]) -> str:
        """Items as ranges of their numbers, with a digest of what they are."""
        numbers = np.unique(numbers)
        pieces = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
        ranges = ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in pieces)
        return f"numbers={ranges}@{self.digest_of(numbers)}"

    def all_pinned(self, texts: Iterable[str]) -> list[str]:
        """`pinned` of several; of many single items one list of ranges."""
        pinned = list(dict.fromkeys(map(self.pinned, texts)))
        single = [text for text in pinned if self._numbered(text) is not None]
        if len(single) <= LISTED:
            return pinned
        numbers = np.concatenate([self.find(text) for text in single])
        return [*(text for text in pinned if text not in {*single}), self.as_ranges(numbers)]

    def weights(self, data: Data) -> Weights | None:
        """The weight of every item of each part, later keys over earlier ones; None where all are 1.

        Raises UserError where no training item is left.
        """
        if not (data.without or data.weight):
            return None
        weights = np.ones(len(self.names), np.float32)
        for text, weight in {**(data.weight or {}), **dict.fromkeys(data.without or (), 0.0)}.items():
            weights[self.find(text)] = weight
        if not weights[self.trained].any():
            raise UserError("data.without: leaves no image to train on; keep some")
        return np.split(weights, self.starts[1:-1])


def pinned(changes: Mapping[str, Any], now: Data, pack: Pack) -> dict[str, Any]:
    """Changes whose items have the hash of what they are, so that they mean the same for good.

    now: in force before. One weight of several is changed with the others kept. Raises UserError.
    """
    edits = {key: value for key, value in changes.items() if is_edit(key)}
    if not edits:
        return dict(changes)
    rest = {key: value for key, value in changes.items() if key not in edits}
    items, weight = Items(pack), dict(now.weight or {})
    for key, value in edits.items():
        if key == "data.without":
            names = value if isinstance(value, list | tuple) else [value]
            rest[key] = items.all_pinned(map(str, names))
        elif key == "data.weight":
            if not isinstance(value, Mapping):
                raise UserError('data.weight: expected such as {"cat" = 0.5}, or data.weight.cat=0.5')
            weight = {items.pinned(name): number for name, number in value.items()}
        else:
            weight[items.pinned(key.removeprefix("data.weight."))] = value
    if edits.keys() - {"data.without"}:
        rest["data.weight"] = weight
    return rest


def pinned_data(data: Data, pack: Pack) -> dict[str, Any]:
    """What a recipe says of items, as `pinned` changes; {} where it says nothing."""
    stated = {"data.without": data.without, "data.weight": data.weight}
    return pinned({key: value for key, value in stated.items() if value is not None}, data, pack)


def require_items(data: Data, pack: Pack) -> None:
    """Raises UserError where [data] names an item that is not there, or leaves none."""
    if data.without or data.weight:
        Items(pack).weights(data)


class EditedStream:
    """Batches with the weights in force at their step. data_at: [data] at a step."""

    def __init__(self, stream: Stream, data_at: Callable[[int], Data]) -> None:
        self._stream, self._data_at = stream, data_at
        self._made: tuple[object, Stream] = ((None, None), stream)  # the newest, by what it was made for

    def at(self, step: int) -> Stream:
        """The stream in force at a step."""
        data = self._data_at(step)
        if not (data.without or data.weight):
            return self._stream
        key = (data.without, tuple((data.weight or {}).items()))
        if self._made[0] != key:
            self._made = key, self._stream.weighed(Items(self._stream.pack).weights(data))
        return self._made[1]

    def parts(self, step: int, accumulate: int = 1, rank: int = 0, world: int = 1) -> list[Batch]:
        """As of `Stream`."""
        return self.at(step).parts(step, accumulate, rank, world)
