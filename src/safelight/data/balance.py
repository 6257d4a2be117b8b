"""Which classes an item has, by the pixels of its mask or by its label, and draws balanced by them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.pack import Pack
from safelight.store.durable import publish
from safelight.types import Draw

CHUNK = 256  # masks read at once
MOST_REPEATED = 1 << 26  # items of an epoch
FILE = "mask-pixels.npy"


def mask_pixels(pack: Pack) -> NDArray[np.int64]:
    """(N, K) pixels of each class in the mask of each item; counted once, and kept with the pack."""
    path, classes = pack.folder / FILE, pack.mask_classes
    try:
        stored: NDArray[np.int64] = np.load(path)
        if stored.shape == (len(pack), classes):
            return stored
    except (OSError, ValueError, EOFError):
        pass  # not counted yet, or cut off
    counted = np.zeros((len(pack), classes), np.int64)
    for start in range(0, len(pack), CHUNK):
        rows = pack.mask_numbers(slice(start, start + CHUNK)).reshape(-1, pack.images[0, ..., 0].size)
        for number in range(classes):
            counted[start : start + CHUNK, number] = (rows == number).sum(1)
    partial = pack.folder / f"{FILE}.{os.getpid()}.partial"
    with partial.open("wb") as file:
        np.save(file, counted)
    publish(partial, path)
    return counted


def mask_shares(pack: Pack) -> tuple[float, ...]:
    """The share of each class in the training pixels that are of any class; () without masks."""
    if "mask" not in pack.described:
        return ()
    pixels = np.sum([mask_pixels(part)[part.train].sum(0) for part in pack.parts], axis=0)
    return tuple((pixels / max(1, pixels.sum())).tolist())


class Weighted:
    """Items drawn by their weights, each time anew."""

    def __init__(self, pack: Pack) -> None:
        assert pack.weights is not None
        self.train = pack.train
        self.edges = np.cumsum(pack.weights[pack.train].astype(np.float64))

    def items(self, draw: Draw) -> NDArray[np.int64]:
        """An item for each row of a draw, (b,)."""
        u = draw.uniform("item").numpy().astype(np.float64)
        last = int(np.flatnonzero(np.diff(self.edges, prepend=0.0) > 0)[-1])  # edges may be rounded
        places = np.searchsorted(self.edges, u * self.edges[-1], side="right")
        chosen: NDArray[np.int64] = self.train[np.minimum(places, last)]
        return chosen


def repeated(pack: Pack) -> NDArray[np.int64] | None:
    """The training items, each as often as its weight says; None where weights are no whole numbers.

    Raises UserError where no training item is to be drawn.
    """
    if pack.weights is None:
        return pack.train
    weights = pack.weights[pack.train]
    if not weights.any():
        raise UserError("data.weights: every training image has the weight 0; raise one")
    whole = (weights == np.round(weights)).all() and weights.sum() <= MOST_REPEATED
    return np.repeat(pack.train, weights.astype(np.int64)) if whole else None


class Balance:
    """Items drawn by class: a class by its share, then any of its training items, each as often.

    One share more than there are classes is that of items without any, such as images without a mask.
    """

    def __init__(self, pack: Pack, shares: Sequence[float]) -> None:
        """Raises UserError where a class that is to be drawn has no item, or shares and classes differ."""
        if "mask" in pack.described:
            kind, has = "mask", mask_pixels(pack) > 0
        elif "label" in pack.described:
            labels = np.where(pack.covered["label"], np.asarray(pack.given["label"]), -1)
            kind, has = "label", labels[:, None] == np.arange(pack.described["label"][1])
        else:
            raise UserError("data.balance: the data has neither masks nor labels to balance by; remove it")
        classes = has.shape[1]
        if len(shares) == classes + 1:
            has = np.column_stack([has, ~has.any(1)])
        elif len(shares) != classes:
            raise UserError(
                f"data.balance: states {len(shares)} shares, but the {kind} has {classes} classes; one share "
                "more is for images of none"
            )
        self.members = [pack.train[has[pack.train, number]] for number in range(has.shape[1])]
        for number, (share, members) in enumerate(zip(shares, self.members, strict=True)):
            if share and not len(members):
                group = f"class {number}" if number < classes else "no class"
                raise UserError(
                    f"data.balance: no training image is of {group} of the {kind}; make its share 0"
                )
        self.edges = np.cumsum(np.asarray(shares, np.float64) / sum(shares))

    def items(self, draw: Draw) -> NDArray[np.int64]:
        """An item for each row of a draw, (b,)."""
        u = draw.uniform("class").numpy().astype(np.float64)
        last = int(
            np.flatnonzero(np.diff(self.edges, prepend=0.0) > 0)[-1]
        )  # its edge may be rounded below 1
        classes = np.minimum(np.searchsorted(self.edges, u, side="right"), last)
        place = draw.uniform("item").numpy().astype(np.float64)
        members = [self.members[number] for number in classes]
        return np.array(
            [group[int(u * len(group))] for group, u in zip(members, place, strict=True)], np.int64
        )
