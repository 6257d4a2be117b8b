"""Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017).

    d² = |μ₁ - μ₂|² + tr(Σ₁) + tr(Σ₂) - 2 tr((Σ₁ Σ₂)^½)

With R = Σ₁^½, the eigenvalues of Σ₁ Σ₂ are those of R Σ₂ R, which is symmetric: its trace of the square
root is the sum of the roots of its eigenvalues, and no square root of a general matrix is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 4096  # features at once in float64
TIMES = 32  # a distance of few features is measured: its chance is of a fifth of it


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
        own = chunk.double()
        own_mean = own.mean(0)
        centred = own - own_mean
        if mean is None or scatter is None:
            count, mean, scatter = len(own), own_mean, centred.T @ centred
            continue
        shift = own_mean - mean
        total = count + len(own)
        scatter.addmm_(centred.T, centred).addr_(shift, shift, alpha=count * len(own) / total)
        mean = mean + shift * (len(own) / total)
        count = total
    if mean is None or scatter is None or count < 2:
        raise ValueError(f"a covariance needs two features, not {count}")
    return Moments(count, mean, scatter / (count - 1))


def frechet(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance, which is what is reported as FID; 0 for equal moments."""
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
