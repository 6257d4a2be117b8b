"""Watched samples judged by their pixels, without an extractor, beside real images that are looked at once.

Pixels are averaged to at most SIDE a side first, so that distances see shapes and not grain. Features are
(n, d) in [0, 1].
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from safelight.data.pack import Pack
from safelight.evaluate.distances import NEIGHBOURS, blocks, prdc
from safelight.evaluate.originals import copies
from safelight.randomness import permutation

Images = NDArray[np.uint8]  # (n, H, W, C)
SIDE = 16
FEWEST = 4 * NEIGHBOURS  # images, for a coverage that means anything
FAINT = 0.05  # of the variance between real images: below this, images are alike and no noise


def features(images: Images) -> Tensor:
    """Images as features (n, d)."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    height, width = x.shape[2:]
    return adaptive_avg_pool2d(x, (min(SIDE, height), min(SIDE, width))).flatten(1)


def spread(x: Tensor, groups: Tensor) -> float:
    """Mean distance between the features of a group; NaN where no group (n,) has two."""
    distances = torch.cdist(x.double(), x.double())
    pairs = (groups[:, None] == groups[None]) & ~torch.eye(len(x), dtype=torch.bool)
    return float(distances[pairs].mean())


def coverage(real: Tensor, x: Tensor) -> float:
    """Share of real images with a sample near them (Naeem 2020); NaN of fewer than FEWEST."""
    if min(len(real), len(x)) < FEWEST:
        return float("nan")
    return prdc(real, x).coverage


def drift(a: Images, b: Images) -> float:
    """Wasserstein distance between the histograms of a channel, mean over channels; 1 = black to white."""
    levels = []
    for images in (a, b):
        counts = [np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])]
        levels.append(np.cumsum(counts, axis=1) / images[..., 0].size)
    return float(np.abs(levels[0] - levels[1]).sum(1).mean() / 255)


def grain(images: Images, factor: int = 1) -> tuple[float, float]:
    """Variance of pixels between images, and that of what neighbours do not share: equal for white noise.

    factor: pixels a side that one number of a latent decodes to, averaged first. NaN of a single image.
    """
    x = avg_pool2d(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).double() / 255, factor)
    steps = [(x[..., 1:, :] - x[..., :-1, :]), (x[..., 1:] - x[..., :-1])]
    return float(x.var(0).mean()), float(torch.cat([step.flatten(1) for step in steps], 1).var(0).mean() / 2)


def noise(images: Images, real: Images, factor: int = 1) -> float:
    """Share of white noise in how images differ, 0 to 1, past the grain that real images have.

    Of variance v and grain g, g = r (v - w) + w with the real images' r = g / v; w / v is the share. Images
    that are all alike but for rounding have none: v counts as FAINT of the real images' at least. NaN where
    the real images are noise themselves.
    """
    (real_spread, real_grain), (coarse, fine) = grain(real, factor), grain(images, factor)
    if not real_spread or not real_grain < real_spread:
        return math.nan
    r = real_grain / real_spread
    return min(1.0, max(0.0, (fine - r * coarse) / (1 - r) / max(coarse, FAINT * real_spread)))


def nearest_class(x: Tensor, training: Tensor, labels: Tensor) -> Tensor:
    """The class (n,) of the training image nearest to each feature. labels: (m,)."""
    centre = training.mean(0)
    return torch.cat([labels[block.argmin(1)] for _, block in blocks(x - centre, training - centre)])


MOST, MOST_BYTES = 20_000, 2**30  # training images searched for copies, and their pixels
BLOCK = 2**26  # bytes of pixels at once


class RealImages:
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
        self._real = [features(images) for images in self._images]
        self._spread = sum(spread(images, self.groups) for images in self._real) / 2
        self._coverage = coverage(self._real[0], self._real[1])
        self._drift = drift(*self._images)
        most = max(1, min(MOST, MOST_BYTES // pack.images[0].nbytes))
        self._training = all_features(pack, order[:most], flip)
        self._labels = None if known is None else torch.from_numpy(known[order[:most]]).repeat(1 + flip)
        held_out = all_features(pack, pack.held_out[:256], False) if len(pack.held_out) else None
        self._copies = 0.0 if held_out is None else copies(held_out, self._training)

    def columns(self, images: Images) -> dict[str, float]:
        """Samples (n, H, W, C) as metrics. Shares of what real images have, but "colour" and "copies".

        colour: how far channels are from those of real images, past what real images differ by. copies:
        share of samples that are training images, past that of held-out images. classes: distinct ones,
        by the nearest training image, of those asked for. noise: share of white noise in how they differ.
        """
        x = features(images)
        columns = {
            "diversity": spread(x, self.groups) / self._spread if self._spread else math.nan,
            "coverage": coverage(self._real[0], x) / self._coverage,
            "noise": noise(images, self._images[0], self._factor),
            "colour": max(0.0, drift(np.concatenate(self._images), images) - self._drift),
            "copies": max(0.0, copies(x, self._training) - self._copies),
        }
        if self._labels is not None:
            classes = nearest_class(x, self._training, self._labels)
            columns["classes"] = len(set(classes.tolist())) / len(set(self.groups.tolist()))
        return {f"monitor/{name}": value for name, value in columns.items() if not math.isnan(value)}


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
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        alike = order[known[order] == label]
        alike = alike if len(alike) else order
        items[places] = alike[(turn * len(places) + np.arange(len(places))) % len(alike)]
    return items


def all_features(pack: Pack, items: NDArray[np.int64], flip: bool) -> torch.Tensor:
    """`features` of items of a pack, and then of all of them mirrored where flip."""
    size = max(1, BLOCK // pack.images[0].nbytes)
    blocks = [pack.images[items[start : start + size]] for start in range(0, len(items), size)]
    mirrored = [block[:, :, ::-1] for block in blocks] if flip else []
    return torch.cat([features(block) for block in [*blocks, *mirrored]])
