"""Watched samples judged beside real images, which are looked at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from safelight.data.pack import Pack
from safelight.draw import permutation
from safelight.monitor.pictures import Images, copies, coverage, drift, features, nearest_class, noise, spread

MOST, MOST_BYTES = 20_000, 2**30  # training images searched for copies, and their pixels
BLOCK = 2**26  # bytes of pixels at once


class Beside:
    """Real images for samples of given conditions.

    labels: (n,) the class of each sample, None where there are none; then samples are one group. flip:
    whether training mirrors images, so that a mirrored copy is one. factor: pixels a side of a latent's
    pixel.
    """

    def __init__(
        self, pack: Pack, count: int, labels: NDArray[np.int64] | None, flip: bool, factor: int = 1
    ) -> None:
        order = pack.train[permutation(len(pack.train), "monitor")]
        self._factor = factor
        self.groups = torch.zeros(count, dtype=torch.int64) if labels is None else torch.from_numpy(labels)
        known = None if labels is None else np.asarray(pack.given["label"])
        self._images = [pack.images[_alike(order, known, labels, count, turn)] for turn in range(2)]
        self._real = [features(own) for own in self._images]
        self._spread = sum(spread(own, self.groups) for own in self._real) / 2
        self._coverage = coverage(self._real[0], self._real[1])
        self._drift = drift(*self._images)
        most = max(1, min(MOST, MOST_BYTES // pack.images[0].nbytes))
        self._training = _all_features(pack, order[:most], flip)
        self._labels = None if known is None else torch.from_numpy(known[order[:most]]).repeat(1 + flip)
        held_out = _all_features(pack, pack.held_out[:256], False) if len(pack.held_out) else None
        self._copies = 0.0 if held_out is None else copies(held_out, self._training)

    def columns(self, images: Images) -> dict[str, float]:
        """Samples (n, H, W, C) as metrics. Shares of what real images have, but "colour" and "copies".

        colour: how far channels are from those of real images, past what real images differ by. copies:
        share of samples that are training images, past that of held-out images. classes: distinct ones,
        by the nearest training image, of those asked for. noise: share of white noise in how they differ.
        """
        x = features(images)
        found = {
            "diversity": spread(x, self.groups) / self._spread if self._spread else math.nan,
            "coverage": coverage(self._real[0], x) / self._coverage,
            "noise": noise(images, self._images[0], self._factor),
            "colour": max(0.0, drift(np.concatenate(self._images), images) - self._drift),
            "copies": max(0.0, copies(x, self._training) - self._copies),
        }
        if self._labels is not None:
            classes = nearest_class(x, self._training, self._labels)
            found["classes"] = len(set(classes.tolist())) / len(set(self.groups.tolist()))
        return {f"monitor/{name}": value for name, value in found.items() if not math.isnan(value)}


def reaction(images: Images, others: Images) -> float:
    """How much images change with their condition alone, as a share of how they differ among themselves.

    others: from the same latents, under other conditions.
    """
    x, y = features(images), features(others)
    among = spread(x, torch.zeros(len(x), dtype=torch.int64))
    return float((x - y).norm(dim=1).mean()) / among if among else math.nan


def _alike(
    order: NDArray[np.int64],
    known: NDArray[np.int64] | None,
    labels: NDArray[np.int64] | None,
    count: int,
    turn: int,
) -> NDArray[np.int64]:
    """`count` training items, each of the wanted class: others at every turn, while there are enough."""
    if known is None or labels is None:
        return order[(turn * count + np.arange(count)) % len(order)]
    items = np.empty(count, np.int64)
    for wanted in np.unique(labels):
        places = np.flatnonzero(labels == wanted)
        own = order[known[order] == wanted]
        own = own if len(own) else order
        items[places] = own[(turn * len(places) + np.arange(len(places))) % len(own)]
    return items


def _all_features(pack: Pack, items: NDArray[np.int64], flip: bool) -> torch.Tensor:
    size = max(1, BLOCK // pack.images[0].nbytes)
    blocks = [pack.images[items[start : start + size]] for start in range(0, len(items), size)]
    mirrored = [block[:, :, ::-1] for block in blocks] if flip else []
    return torch.cat([features(block) for block in [*blocks, *mirrored]])
