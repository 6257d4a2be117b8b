"""How near samples lie to the images they were trained on, beside how near held-out images lie.

A smooth image is near to everything, so a distance alone says little. An image is a copy where its nearest
training image is nearer than a third of the mean distance to the 50 nearest (Carlini et al. 2023). Besides,
of samples that copy nothing 5 % lie nearer, in that measure, than 95 % of the held-out images do; more than
chance allows is memorised (in the manner of the test of Meehan et al. 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.special import betaincinv  # type: ignore[import-untyped]
from torch import Tensor

from safelight.evaluate.distances import blocks

SURROUNDINGS = 50  # training images that the nearest one is compared with
COPY = 1 / 3  # of their mean distance
QUANTILE = 0.05  # of held-out images


def nearness(x: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """The distance (n,) of features (n, d) to the nearest of training features (m, d), in units of the mean
    distance to the SURROUNDINGS next, and which it is, (n,)."""
    centre = training.mean(0)
    count = min(SURROUNDINGS + 1, len(training))
    ratios, places = [], []
    for _, block in blocks(x - centre, training - centre):
        near = block.topk(count, largest=False)
        values = near.values.sqrt()
        ratios.append(values[:, 0] / values[:, 1:].mean(1))
        places.append(near.indices[:, 0])
    return torch.cat(ratios), torch.cat(places)


def copies(x: Tensor, training: Tensor) -> float:
    """Share of images that are copies of a training image."""
    return int((nearness(x, training)[0] < COPY).sum()) / len(x)


@dataclass(frozen=True)
class Rate:
    """A share of n, with its 95 % interval (Clopper and Pearson 1934)."""

    share: float
    low: float
    high: float
    count: int
    n: int

    @classmethod
    def of(cls, count: int, n: int) -> Rate:
        """From how many of how many; NaN of none."""
        if not n:
            return cls(math.nan, 0.0, 1.0, 0, 0)
        low = float(betaincinv(count, n - count + 1, 0.025)) if count else 0.0
        high = float(betaincinv(count + 1, n - count, 0.975)) if count < n else 1.0
        return cls(count / n, low, high, count, n)

    def __str__(self) -> str:
        return f"{self.share:.1%} ({self.low:.1%} to {self.high:.1%})" if self.n else "–"


@dataclass(frozen=True, eq=False)
class Nearest:
    """Samples and held-out images against the training images, in one space."""

    ratios: Tensor  # (n,) of the samples
    places: Tensor  # (n,) the training image nearest to each
    held_out: Tensor  # (m,) ratios

    @classmethod
    def of(cls, samples: Tensor, training: Tensor, held_out: Tensor) -> Nearest:
        """From features (n, d), (N, d) and (m, d)."""
        ratios, places = nearness(samples, training)
        return cls(ratios, places, nearness(held_out, training)[0] if len(held_out) else ratios[:0])

    @property
    def copies(self) -> Rate:
        """Samples that are copies."""
        return Rate.of(int((self.ratios < COPY).sum()), len(self.ratios))

    @property
    def held_out_copies(self) -> Rate:
        """Held-out images that would be called copies."""
        return Rate.of(int((self.held_out < COPY).sum()), len(self.held_out))

    @property
    def _place(self) -> int:
        """Of the held-out image, in the order of nearness, that samples are compared with; from 1."""
        return max(1, round(QUANTILE * (len(self.held_out) + 1)))

    @property
    def nearer(self) -> Rate:
        """Samples that lie nearer than all but QUANTILE of the held-out images."""
        if not len(self.held_out):
            return Rate.of(0, 0)
        threshold = self.held_out.sort().values[self._place - 1]
        return Rate.of(int((self.ratios < threshold).sum()), len(self.ratios))

    @property
    def chance(self) -> tuple[float, float]:
        """Between which shares `nearer` lies in 95 % of cases, where samples are like held-out images.

        Of n exchangeable ones those below the k-th of m follow a beta-binomial (n, k, m + 1 - k).
        """
        from scipy.stats import betabinom  # type: ignore[import-untyped]

        n, m = len(self.ratios), len(self.held_out)
        low, high = betabinom(n, self._place, m + 1 - self._place).interval(0.95) if m else (0, n)
        return float(low) / n, float(high) / n

    @property
    def flagged(self) -> Tensor:
        """(n,) which samples are copies, or lie nearer than every held-out image."""
        least = self.held_out.min() if len(self.held_out) else 0.0
        return (self.ratios < COPY) | (self.ratios < least)
