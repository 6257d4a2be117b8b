"""The batch of a step, as a pure function of (seed, step, row): nothing is carried from step to step.

Row r of step s is image number s * batch_size + r of an endless sequence, which is one keyed permutation
of the training items after another. A batch may straddle two of them; each visits every item exactly once.

Masks go out with a channel for each class, mirrored with their image. Of several text features of an image
one is drawn at random, anew each time; held-out items have their first.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.pack import Pack
from safelight.data.space import Space
from safelight.draw import RowDraw, permutation
from safelight.types import Batch

ORDERS_KEPT = 2  # permutations in memory; a batch rarely meets more than two epochs


class Stream:
    """Batches of a pack. Raises UserError where there is nothing to train on."""

    def __init__(
        self,
        pack: Pack,
        seed: int,
        batch_size: int,
        *,
        flip: bool = False,
        device: torch.device | str = "cpu",
        space: Space | None = None,
    ) -> None:
        if not len(pack.train):
            raise UserError(f"{pack.name}: holds no image to train on; add images or lower data.held_out")
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: should be 1 or more")
        self.pack, self.seed, self.batch_size, self.flip = pack, seed, batch_size, flip
        self.device, self.space = torch.device(device), space or Space()
        self._images = np.asarray(pack.images)  # memmap's own indexing costs more than the copy
        self._given = {name: np.asarray(values) for name, values in pack.given.items()}
        self._masks = pack.described["mask"][1] if "mask" in pack.described else 0  # classes
        self._orders: dict[int, NDArray[np.int64]] = {}

    def images_seen(self, step: int) -> int:
        """Images shown by the time `step` begins."""
        return step * self.batch_size

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that the first row of a step belongs to."""
        return self.images_seen(step) // len(self.pack.train)

    def parts(self, step: int, accumulate: int = 1, rank: int = 0, world: int = 1) -> list[Batch]:
        """Process `rank`'s share of the step's global batch, in `accumulate` parts of b rows each.

        Part k of process r owns the rows from (r * accumulate + k) * b on.
        Raises UserError where the batch does not divide.
        """
        count = world * accumulate
        size, rest = divmod(self.batch_size, count)
        if rest:
            nearest = [str(near) for near in (size * count, (size + 1) * count) if near]
            raise UserError(
                f"batch size {self.batch_size}: does not divide by {world} process(es) x {accumulate} "
                f"accumulated part(s); the nearest that do: {', '.join(nearest)}"
            )
        first = rank * accumulate
        return [self.batch(step, range(k * size, (k + 1) * size)) for k in range(first, first + accumulate)]

    def batch(self, step: int, rows: range) -> Batch:
        """Some rows of the step's global batch."""
        draw = RowDraw(self.seed, step, "data", rows)
        mirrored = self._send(draw.uniform("flip") < 0.5) if self.flip else None
        caption = draw.uniform("caption").numpy() if self.pack.first is not None else 0.0
        return self._gather(self.items(step, rows), rows, self.batch_size, mirrored, caption)

    def items(self, step: int, rows: range) -> NDArray[np.int64]:
        """Which items of the pack those rows are, (b,)."""
        begin, length = self.images_seen(step) + rows.start, len(self.pack.train)
        end = begin + len(rows)
        pieces = [
            self._order(epoch)[max(begin - epoch * length, 0) : end - epoch * length]
            for epoch in range(begin // length, (end - 1) // length + 1)
        ]
        return self.pack.train[np.concatenate(pieces)]

    @property
    def held_out_count(self) -> int:
        return len(self.pack.held_out)

    def held_out(self, count: int, offset: int = 0) -> Batch:
        """`count` held-out items from `offset` on, or as many as there are, unflipped; the same in every run.

        Raises UserError where none is left.
        """
        items = self.pack.held_out[offset : offset + count]
        if not len(items):
            raise UserError(
                f"{self.pack.name}: {self.held_out_count} images are held out, none from number {offset} on; "
                "raise data.held_out or add images"
            )
        return self._gather(items, range(offset, offset + len(items)), self.held_out_count)

    def pick(self, items: NDArray[np.int64]) -> Batch:
        """Any items of the pack by number, unflipped, in the order given."""
        return self._gather(items, range(len(items)), len(items))

    def _gather(
        self,
        items: NDArray[np.int64],
        rows: range,
        total: int,
        mirrored: Tensor | None = None,
        caption: NDArray[np.float32] | float = 0.0,
    ) -> Batch:
        """Items as a batch. mirrored: (b,) bool. caption: (b,) in [0, 1), which of each item's captions."""
        pixels = self._send(self._images[items])
        given = {
            name: self._send(values[self._rows(name, items, caption)]) for name, values in self._given.items()
        }
        if mirrored is not None:
            pixels = _mirrored(pixels, mirrored)
            if "mask" in given:
                given["mask"] = _mirrored(given["mask"], mirrored)
        if "mask" in given:
            given["mask"] = one_hot(given["mask"], self._masks)
        present = self._send(self.pack.present[items])
        return Batch(self.space.from_pixels(pixels), given, present, rows, total)

    def _rows(
        self, name: str, items: NDArray[np.int64], caption: NDArray[np.float32] | float
    ) -> NDArray[np.int64]:
        """Which rows of a condition's values are those items'."""
        if name != "text" or self.pack.first is None:
            return items
        start, end = self.pack.first[items], self.pack.first[items + 1]
        chosen = start + (np.asarray(caption, np.float64) * (end - start)).astype(np.int64)
        return np.minimum(chosen, len(self._given[name]) - 1)  # an item without any has some row, not present

    def _send(self, values: NDArray[np.generic] | Tensor) -> Tensor:
        tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
        if self.device.type == "cuda":  # only pinned memory is copied while the device computes
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The permutation of an epoch. The dictionary is never changed in place: threads may share it."""
        order = self._orders.get(epoch)
        if order is None:
            order = permutation(len(self.pack.train), self.seed, "order", epoch)
            kept = [*self._orders.items()][-(ORDERS_KEPT - 1) :]
            self._orders = {**dict(kept), epoch: order}
        return order


def examples(stream: Stream, count: int) -> Batch:
    """Real items with conditions, as many as that or as there are: held out, or trained on where none is."""
    held_out, train = (
        items[stream.pack.present[items]] for items in (stream.pack.held_out, stream.pack.train)
    )
    return stream.pick((held_out if len(held_out) else train)[:count])


def one_hot(ids: Tensor, classes: int) -> Tensor:
    """Class numbers (b, H, W) uint8 as (b, classes, H, W) float32; a number beyond them is all zeros."""
    numbers = torch.arange(classes, dtype=torch.uint8, device=ids.device)
    return (ids[:, None] == numbers[:, None, None]).float()


def _mirrored(rows: Tensor, which: Tensor) -> Tensor:
    """Rows (b, H, W, ...) with some of them left to right."""
    return torch.where(which.view(-1, *[1] * (rows.ndim - 1)), rows.flip(2), rows)
