"""What watched samples tell without an extractor: their pixels beside those of real images.

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

from safelight.evaluate.distances import blocks
from safelight.evaluate.prdc import NEIGHBOURS, prdc

Images = NDArray[np.uint8]  # (n, H, W, C)
SIDE = 16
FEWEST = 4 * NEIGHBOURS  # images, for a coverage that means anything
FAINT = 0.05  # of the variance between real images: below this, images are alike and no noise
SURROUNDINGS = 50  # training images that the nearest one is compared with (Carlini 2023)


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
    for own in (a, b):
        counts = [np.bincount(own[..., c].ravel(), minlength=256) for c in range(own.shape[3])]
        levels.append(np.cumsum(counts, axis=1) / own[..., 0].size)
    return float(np.abs(levels[0] - levels[1]).sum(1).mean() / 255)


def grain(images: Images, factor: int = 1) -> tuple[float, float]:
    """Variance of pixels between images, and that of what neighbours do not share: equal for white noise.

    factor: pixels a side that one number of a latent decodes to, averaged first. NaN of a single image.
    """
    x = avg_pool2d(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).double() / 255, factor)
    steps = [(x[..., 1:, :] - x[..., :-1, :]), (x[..., 1:] - x[..., :-1])]
    return float(x.var(0).mean()), float(torch.cat([own.flatten(1) for own in steps], 1).var(0).mean() / 2)


def noise(images: Images, real: Images, factor: int = 1) -> float:
    """Share of white noise in how images differ, 0 to 1, past the grain that real images have.

    Of variance v and grain g, g = r (v - w) + w with the real images' r = g / v; w / v is the share. Images
    that are all alike but for rounding have none: v counts as FAINT of the real images' at least. NaN where
    the real images are noise themselves.
    """
    (real_spread, real_grain), (own, fine) = grain(real, factor), grain(images, factor)
    if not real_spread or not real_grain < real_spread:
        return math.nan
    r = real_grain / real_spread
    return min(1.0, max(0.0, (fine - r * own) / (1 - r) / max(own, FAINT * real_spread)))


def copies(x: Tensor, training: Tensor) -> float:
    """Share of images that lie much nearer to one training image than to those around it.

    Nearer than a third of the mean distance to the SURROUNDINGS nearest (as Carlini 2023, Yoon 2023): that
    of a smooth image to all is small too, but much the same.
    """
    centre = training.mean(0)
    count = min(SURROUNDINGS + 1, len(training))
    copied = 0
    for _, block in blocks(x - centre, training - centre):
        near = block.topk(count, largest=False).values.sqrt()
        copied += int((near[:, 0] < near[:, 1:].mean(1) / 3).sum())
    return copied / len(x)


def nearest_class(x: Tensor, training: Tensor, labels: Tensor) -> Tensor:
    """The class (n,) of the training image nearest to each feature. labels: (m,)."""
    centre = training.mean(0)
    return torch.cat([labels[block.argmin(1)] for _, block in blocks(x - centre, training - centre)])
