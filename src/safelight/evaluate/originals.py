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
from torch import Tensor

from safelight.evaluate.distances import blocks

SURROUNDINGS = 50  # training images that the nearest one is compared with
COPY = 1 / 3  # of their mean distance
QUANTILE = 0.05  # of held-out images
TAIL = 0.025  # of cases on either side of an interval


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


def _ways(k: Tensor, n: int) -> Tensor:
    """log of how many ways there are to choose k of n."""
    return -_log_beta(k + 1, n - k + 1) - math.log(n + 1)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()


def _least(count: int, n: int) -> float:
    """The rate at which `count` or more of n come in TAIL of all cases, by halving where it lies; 0 for 0."""
    k, low, high = torch.arange(count, n + 1, dtype=torch.float64), 0.0, 1.0
    ways = _ways(k, n)
    for _ in range(50 if count else 0):
        rate = (low + high) / 2
        often = float((ways + k * math.log(rate) + (n - k) * math.log1p(-rate)).exp().sum())
        low, high = (rate, high) if often < TAIL else (low, rate)
    return low


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
        return cls(count / n, _least(count, n), 1 - _least(n - count, n), count, n)

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
        n, m = len(self.ratios), len(self.held_out)
        if not m:
            return 0.0, 1.0
        k, place = torch.arange(n + 1, dtype=torch.float64), self._place
        share = _ways(k, n) + _log_beta(k + place, n - k + m + 1 - place)
        whole = share.softmax(0).cumsum(0)
        low, high = torch.searchsorted(whole, torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64)).tolist()
        return low / n, high / n

    @property
    def flagged(self) -> Tensor:
        """(n,) which samples are copies, or lie nearer than every held-out image."""
        least = self.held_out.min() if len(self.held_out) else 0.0
        return (self.ratios < COPY) | (self.ratios < least)
