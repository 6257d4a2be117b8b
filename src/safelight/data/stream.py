"""The batch of a step, as a pure function of (seed, step, row): nothing is carried from step to step.

Row r of step s is image number s * batch_size + r of an endless sequence, which is one keyed permutation
of the training items after another. A batch may straddle two of them; each visits every item exactly once.

With shares of classes a row is drawn by class instead, at random, and an epoch is just as many images.
Without those, items of whole weights come that often in a permutation, and by other weights rows are drawn.

Of a pack in buckets each step takes one, see turns.py; everything but batches is of the first bucket.

Masks go out with a channel for each class, mirrored and turned with their image, and in a space of latents as
shares of each class in a latent's pixel. Of several text features of an image one is drawn at random, anew
each time; held-out items have their first. A latent is drawn from its posterior for training, and is the mean
of that otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.balance import Balance, Weighted, repeated
from safelight.data.encoded import Encoded, Latents
from safelight.data.pack import Pack
from safelight.data.space import Space
from safelight.data.turns import Turns
from safelight.data.views import Views, seen
from safelight.randomness import RowDraw, permutation, sent
from safelight.types import Batch, DataSpec

ORDERS_KEPT = 2  # permutations in memory; a batch rarely meets more than two epochs


class Stream:
    """Batches of a pack. Raises UserError where there is nothing to train on."""

    def __init__(
        self, pack: Pack, seed: int, batch_size: int, *,
        views: Views = Views(), balance: Sequence[float] | None = None,  # noqa: B008 it is frozen
        device: torch.device | str = "cpu", space: Space = Space(), latents: Sequence[Latents] = (),  # noqa: B008
    ) -> None:  # fmt: skip
        """latents: of each part of the pack."""
        if not pack.trained:
            raise UserError(f"{pack.name}: holds no image to train on; add images or lower data.held_out")
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: should be 1 or more")
        self.pack, self.seed, self.batch_size, self.views = pack, seed, batch_size, views
        self.device, self.space, self.latents = torch.device(device), space, latents[0] if latents else None
        self.features: Encoded | None = None
        self._weights: NDArray[np.float32] | None = None  # (N,) of the items' losses, see edits.py
        self._kept = pack.train  # of a weight
        self._sequence = repeated(pack)  # what a permutation orders
        self._drawn = (
            Balance(pack, balance) if balance else Weighted(pack) if self._sequence is None else None
        )
        self._images = np.asarray(pack.images)  # memmap's own indexing costs more than the copy
        self._given = {name: np.asarray(values) for name, values in pack.given.items()}
        self._masks = pack.described["mask"][1] if "mask" in pack.described else 0  # classes
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._turns, self.buckets = None, tuple[Stream, ...]()
        if pack.buckets:
            shares = [float(len(part.train) if part.weights is None else part.weights[part.train].sum())
                      for part in pack.buckets]  # fmt: skip
            whole = all(share.is_integer() for share in shares)
            scale = 1.0 if whole or not sum(shares) else pack.trained / sum(shares)
            places = [place for place, share in enumerate(shares) if share]
            self._turns = Turns(tuple(max(1, round(shares[place] * scale)) for place in places), seed)
            self.buckets = tuple(
                Stream(pack.buckets[place], seed, batch_size, views=views, device=device, space=space,
                       latents=latents[place : place + 1])
                for place in places
            )  # fmt: skip

    @property
    def alone(self) -> Stream:
        """The batches of the first bucket alone; the same stream where there are no buckets."""
        if not self.buckets:
            return self
        other = copy(self)
        other._turns, other.buckets = None, ()
        return other

    @property
    def spec(self) -> DataSpec:
        """The data as methods see them: (C, H, W) in model space, and conditions."""
        spec = self.pack.spec
        return DataSpec(self.space.shape(spec.shape), spec.conditions, spec.alpha and not self.space.codec)

    def of(self, batch_size: int) -> Stream:
        """The same images in the same order, in batches of another size."""
        other = copy(self)
        other.batch_size = batch_size
        other.buckets = tuple(bucket.of(batch_size) for bucket in self.buckets)
        return other

    def with_features(self, features: Encoded | None) -> Stream:
        """The same batches with what a network makes of their images, or without."""
        if features and self.pack.whole:
            raise UserError(
                'data.crop: "random" does not go with features of whole images; use crop="centre"'
            )
        other = copy(self)
        other.features = features
        return other

    def weighed(self, weights: Sequence[NDArray[np.float32]] | None) -> Stream:
        """The same batches with losses weighed by item: (N,) for each part of the pack; see edits.py."""
        other = copy(self)
        if self.buckets:
            parts = {id(part): weight for part, weight in zip(self.pack.buckets, weights or (), strict=True)}
            other.buckets = tuple(bucket.weighed([parts[id(bucket.pack)]]) for bucket in self.buckets)
        elif weights:
            (other._weights,) = weights
            other._kept = self.pack.train[weights[0][self.pack.train] > 0]
        return other

    def images_seen(self, step: int) -> int:
        """Images shown by the time `step` begins."""
        return step * self.batch_size

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

    def batch(self, step: int, rows: range, turn: int | None = None) -> Batch:
        """Some rows of the step's global batch. turn: batches given before, the step's number by default."""
        if self._turns:
            bucket, turn = self._turns.at(step)
            return self.buckets[bucket].batch(step, rows, turn)
        draw = RowDraw(self.seed, step, "data", rows)
        which = self.views.drawn(draw) if len(self.views.all) > 1 else None
        caption = draw.uniform("caption").numpy() if self.pack.first is not None else 0.0
        corner = self._corner(draw) if self.pack.whole else None
        items, weight = self.items(step, rows, turn), None
        if self._weights is not None:
            counts = self._weights[self.items(step, range(self.batch_size), turn)]
            weight = self._send(counts * np.float32(self.batch_size / max(float(counts.sum()), 1e-12)))
            if len(self._kept):  # none: the whole batch counts for nothing
                place = draw.integers("stand-in", len(self._kept)).numpy()
                items = np.where(self._weights[items] > 0, items, self._kept[place])
        batch = self._gather(items, rows, self.batch_size, which, caption, draw, corner)
        return replace(batch, weight=weight)

    def items(self, step: int, rows: range, turn: int | None = None) -> NDArray[np.int64]:
        """Which items of the pack those rows are, (b,). turn: as of `batch`."""
        if self._drawn or self._sequence is None:
            assert self._drawn
            return self._drawn.items(RowDraw(self.seed, step, "data", rows))
        begin, length = self.images_seen(step if turn is None else turn) + rows.start, len(self._sequence)
        end = begin + len(rows)
        pieces = [
            self._order(epoch)[max(begin - epoch * length, 0) : end - epoch * length]
            for epoch in range(begin // length, (end - 1) // length + 1)
        ]
        return self._sequence[np.concatenate(pieces)]

    @property
    def held_out_count(self) -> int:
        """How many items are held out."""
        return len(self.pack.held_out)

    def held_out(self, count: int, offset: int = 0) -> Batch:
        """`count` held-out items from `offset` on, or as many as there are, unturned; the same in every run.

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
        """Any items of the pack by number, as they are, in the order given."""
        return self._gather(items, range(len(items)), len(items))

    def conditions(self, items: NDArray[np.int64], rows: range | None = None) -> Batch:
        """As `pick`, of some rows, without the images, which are neither read nor encoded: x is (b, 0)."""
        given, present = self._conditions(items, None, 0.0, None)
        return Batch(torch.empty(len(items), 0), given, present, rows or range(len(items)), len(items))

    def _conditions(
        self, items: NDArray[np.int64], which: Tensor | None, caption: NDArray[np.float32] | float,
        corner: NDArray[np.int64] | None,
    ) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
        given = {name: self._send(values[self._rows(name, items, caption)])
                 for name, values in self._given.items()}  # fmt: skip
        if "mask" in given and corner is not None:
            given["mask"] = self._send(self._cut("mask", items, corner))
        if "mask" in given:
            given["mask"] = one_hot(self._seen(given["mask"], which), self._masks, self.space.factor)
        return given, self._send(self.pack.present[items])

    def _gather(
        self, items: NDArray[np.int64], rows: range, total: int, which: Tensor | None = None,
        caption: NDArray[np.float32] | float = 0.0, draw: RowDraw | None = None,
        corner: NDArray[np.int64] | None = None,
    ) -> Batch:  # fmt: skip
        """Items as a batch. which: (b,) of `views.all`. caption: (b,) in [0, 1), which of each item's
        captions. draw: of latents from their posteriors; without it their means. corner: (b, 2) of the crops,
        down and across; without it the centres.
        """
        given, present = self._conditions(items, which, caption, corner)
        view = None if which is None else which.numpy()
        if self.latents:
            mean, std = self.latents.moments(items, view)
            z = mean if draw is None else mean + std * draw.normal("posterior", *mean.shape[1:])
            x = self.space.normalised(self._send(z))
        else:
            pixels = self._images[items] if corner is None else self._cut("images", items, corner)
            x = self.space.from_pixels(self._seen(self._send(pixels), which))
        features = self._send(self.features.read(items, view)) if self.features else None
        return Batch(x, given, present, rows, total, features)

    def _corner(self, draw: RowDraw) -> NDArray[np.int64]:
        """Where each row's crop begins, (b, 2), down and across."""
        room = np.subtract(self.pack.whole["images"].shape[1:3], self._images.shape[1:3]) + 1
        axes = zip(("crop down", "crop across"), room.tolist(), strict=True)
        return np.stack([draw.integers(name, high).numpy() for name, high in axes], axis=1)

    def _cut(self, name: str, items: NDArray[np.int64], corner: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The crops (b, H, W, ...) of images or masks that begin at those corners."""
        height, width = self._images.shape[1:3]
        down, across = corner[:, :1] + np.arange(height), corner[:, 1:] + np.arange(width)
        rows = np.asarray(self.pack.whole[name])
        return np.asarray(rows[items[:, None, None], down[:, :, None], across[:, None, :]])

    def _seen(self, rows: Tensor, which: Tensor | None) -> Tensor:
        return rows if which is None else seen(rows, self.views.all, which)

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
        return sent(tensor, self.device)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The permutation of an epoch. The dictionary is never changed in place: threads may share it."""
        order = self._orders.get(epoch)
        if order is None:
            assert self._sequence is not None
            order = permutation(len(self._sequence), self.seed, "order", epoch)
            kept = [*self._orders.items()][-(ORDERS_KEPT - 1) :]
            self._orders = {**dict(kept), epoch: order}
        return order


def examples(stream: Stream, count: int) -> Batch:
    """Real items with conditions, as many as that or as there are: held out, or trained on where none is."""
    return stream.pick(conditioned(stream.pack)[:count])


def conditioned(pack: Pack) -> NDArray[np.int64]:
    """All items of `examples`."""
    held_out, train = (items[pack.present[items]] for items in (pack.held_out, pack.train))
    return held_out if len(held_out) else train


def one_hot(ids: Tensor, classes: int, factor: int = 1) -> Tensor:
    """Class numbers (b, H, W) uint8 as (b, classes, H, W) float32; a number beyond them is all zeros.

    Of one class alone they are shares to 255, as (b, 1, H, W) in [0, 1].
    factor: pixels a side that become one, which holds their share of each class.
    """
    numbers = torch.arange(classes, dtype=torch.uint8, device=ids.device)
    mask = ids[:, None].float() / 255 if classes == 1 else (ids[:, None] == numbers[:, None, None]).float()
    return F.avg_pool2d(mask, factor) if factor > 1 else mask
