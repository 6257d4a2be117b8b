"""Distances between two sets of features.

Fréchet distance of fitted Gaussians (Heusel et al. 2017), kernel distance (Bińkowski et al. 2018), precision
and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.randomness import permutation

BLOCK = 2**24  # distances in memory at once: 64 MB
CHUNK = 4096  # features at once in float64
TIMES = 32  # a distance of few features is measured: its chance is of a fifth of it
SUBSETS, SUBSET_SIZE = 100, 1000
NEIGHBOURS = 5


def blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared Euclidean distances of a few rows of `a` (n, d) to all of `b` (m, d): (slice, (rows, m)).

    Each block is new and may be changed. |x|² + |y|² - 2 x·y loses digits far from the origin, so centre
    the features first; distances of a feature to itself are left with a little of that rounding.
    """
    squares = b.square().sum(1)
    rows = max(1, BLOCK // len(b))
    for start in range(0, len(a), rows):
        part = slice(start, min(start + rows, len(a)))
        block = squares + a[part].square().sum(1, keepdim=True)
        yield part, block.addmm_(a[part], b.T, alpha=-2).clamp_(min=0)


def blocks_within(a: Tensor, itself: float) -> Iterator[tuple[slice, Tensor]]:
    """`blocks(a, a)` with the distance of every feature to itself set to a value."""
    for part, block in blocks(a, a):
        rows = torch.arange(block.shape[0], device=block.device)
        block[rows, rows + part.start] = itself
        yield part, block


@dataclass(frozen=True)
class Moments:
    """A Gaussian fitted to features."""

    count: int
    mean: Tensor  # (d,) float64
    covariance: Tensor  # (d, d) float64, divided by count - 1


def moments(chunks: Iterable[Tensor]) -> Moments:
    """Mean and covariance of features that come in chunks (n, d), in memory for one chunk and two (d, d).

    Accumulated in float64 about the running mean (Chan et al. 1979), so that neither the number of features
    nor their distance from zero costs digits. Raises ValueError for fewer than two features.
    """
    count, mean, scatter = 0, None, None
    for chunk in chunks:
        features = chunk.double()
        centred = features - features.mean(0)
        if mean is None or scatter is None:
            count, mean, scatter = len(features), features.mean(0), centred.T @ centred
            continue
        shift = features.mean(0) - mean
        total = count + len(features)
        scatter.addmm_(centred.T, centred).addr_(shift, shift, alpha=count * len(features) / total)
        mean = mean + shift * (len(features) / total)
        count = total
    if mean is None or scatter is None or count < 2:
        raise ValueError(f"a covariance needs two features, not {count}")
    return Moments(count, mean, scatter / (count - 1))


def frechet(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance, which is what is reported as FID; 0 for equal moments.

        d² = |μ₁ - μ₂|² + tr(Σ₁) + tr(Σ₂) - 2 tr((Σ₁ Σ₂)^½)

    With R = Σ₁^½, the eigenvalues of Σ₁ Σ₂ are those of R Σ₂ R, which is symmetric: the last trace is the sum
    of their roots, and no square root of a general matrix is needed.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ b.covariance @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return max(0.0, float(distance))  # rounding leaves equal moments a hair off 0, on either side


def floor(real: Tensor, n: int, m: int) -> float:
    """The distance of n features against m of one distribution, of which `real` (N, d) has fewer than n + m.

    A distance grows as images get fewer, about as 1/n + 1/m (Chong and Forsyth 2020), and less where n is not
    many times d. So it is measured between two parts as large as there are, again and again, and brought to
    n and m by the ratio that draws of the fitted Gaussian have. The same features give the same number.
    """
    a = min(n, len(real) // 2)
    b = min(m, len(real) - a)
    times = min(TIMES, max(2, 2**20 // real.shape[1] ** 2))
    random = torch.Generator().manual_seed(0)
    here = total = there = 0.0
    scale = torch.linalg.eigvalsh(fitted(real).covariance).clamp(min=0).sqrt()
    for _ in range(times):
        order = torch.randperm(len(real), generator=random).to(real.device)
        total += frechet(fitted(real[order[:a]]), fitted(real[order[a : a + b]]))
        x, y = (torch.randn(count, len(scale), generator=random).to(real.device) * scale for count in (n, m))
        here += frechet(fitted(x[:a]), fitted(y[:b]))
        there += frechet(fitted(x), fitted(y))
    return total / times * (there / here if here else 1.0)


def fitted(features: Tensor) -> Moments:
    """The moments of features (n, d) that are all there."""
    return moments(torch.split(features, CHUNK))


def kid(a: Tensor, b: Tensor, *, subsets: int = SUBSETS, size: int = SUBSET_SIZE) -> tuple[float, float]:
    """Mean and standard deviation of unbiased MMD² between keyed subsets of features (n, d) and (m, d).

    Unbiased at any number of images, which the Fréchet distance is not: trust it more under 5,000. Subsets of
    small sets are halves, so that they still differ and the spread still means something. Raises ValueError
    for fewer than four features on either side.
    """
    size = min(size, len(a) // 2, len(b) // 2)
    if size < 2:
        raise ValueError(f"the kernel distance needs four features on either side, not {len(a)} and {len(b)}")
    estimates = []
    for subset in range(subsets):
        x = a[torch.from_numpy(permutation(len(a), "kid", subset, "a")[:size]).to(a.device)]
        y = b[torch.from_numpy(permutation(len(b), "kid", subset, "b")[:size]).to(b.device)]
        estimates.append(unbiased_mmd2(x.double(), y.double()))
    values = torch.stack(estimates)
    return float(values.mean()), float(values.std())


def unbiased_mmd2(x: Tensor, y: Tensor) -> Tensor:
    """The U-statistic of Gretton et al. 2012, equation 3: pairs of a feature with itself are left out."""
    n, m = len(x), len(y)
    within_x, within_y = kernel(x, x), kernel(y, y)
    return (
        (within_x.sum() - within_x.trace()) / (n * (n - 1))
        + (within_y.sum() - within_y.trace()) / (m * (m - 1))
        - 2 * kernel(x, y).mean()
    )


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """(n, m) values of the kernel (x·y / d + 1)³."""
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class Prdc:
    """Precision, recall and coverage are shares; density may exceed 1.

    Around every feature lies a ball that reaches to its k-th nearest neighbour in its set; the balls of a set
    stand for the part of feature space it fills.
    """

    precision: float  # generated features inside some real ball
    recall: float  # real features inside some generated ball
    density: float  # real balls a generated feature lies in, over k
    coverage: float  # real balls with a generated feature in them


def prdc(real: Tensor, generated: Tensor, k: int = NEIGHBOURS) -> Prdc:
    """The four of features (n, d) and (m, d). Sets of different sizes give other values: compare equal ones.

    Raises ValueError unless both sets have more than k features.
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(
            f"{k} neighbours need {k + 1} features on either side, not {len(real)} and {len(generated)}"
        )
    centre = real.mean(0)
    real, generated = real - centre, generated - centre
    real_radii, generated_radii = squared_radii(real, k), squared_radii(generated, k)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = torch.zeros_like(recalled)
    precise = balls = 0
    for part, block in blocks(generated, real):
        inside = block <= real_radii
        precise += int(inside.any(1).sum())
        balls += int(inside.sum())
        covered |= inside.any(0)
        recalled |= (block <= generated_radii[part, None]).any(0)
    return Prdc(
        precision=precise / len(generated),
        recall=float(recalled.double().mean()),
        density=balls / (k * len(generated)),
        coverage=float(covered.double().mean()),
    )


def squared_radii(features: Tensor, k: int) -> Tensor:
    """Squared distance of every feature (n, d) to its k-th nearest neighbour, itself not counted: (n,)."""
    return torch.cat([block.kthvalue(k, dim=1).values for _, block in blocks_within(features, math.inf)])
