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
