"""The evidence lower bound of a Gaussian decoder in numbers that can be compared (Kingma and Welling 2014).

Of N pixel values x in [0, 1], decoded as x̂ with one standard deviation σ, and a posterior N(μ, s²):

    -ELBO = N/2 log(2π σ²) + N mse / (2 σ²) + KL           mse = |x̂ - x|² / N, KL in nats

so w mse + v KL, as it is often written, is the same loss with σ² = v N / (2 w). Its value says nothing of
another w. At the best σ² = mse (Rybkin 2020) the bound in bits a pixel value is free of w:

    bpd* = 1/2 log2(2π e mse) + KL / (N ln 2)              of a density on [0, 1]; of 8-bit values 8 more

Where σ² exceeds every eigenvalue of the data's covariance, the best decoder ignores z (Lucas 2019).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reports compute with σ and weights, and do without torch
    from torch import Tensor

ACTIVE = 0.01  # variance of a latent's mean over images above which it is in use (Burda 2015)
FINEST = 1 / (12 * 255**2)  # variance of rounding to 8 bits: no σ² below it means anything


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, s²) | N(0, 1)) = (μ² + s² - 1 - log s²) / 2 of every dimension, in nats."""
    return (mean.square() + logvar.exp() - 1 - logvar) / 2


def gaussian_nll(mse: Tensor, variance: Tensor | float, values: int) -> Tensor:
    """-log p of `values` pixel values at a mean squared error, in nats: N/2 (log(2π σ²) + mse / σ²)."""
    import torch

    if not isinstance(variance, torch.Tensor):
        variance = mse.new_full((), variance)
    return values / 2 * ((2 * math.pi * variance).log() + mse / variance)


def bits_per_value(mse: Tensor | float, nats: Tensor | float, values: int) -> Tensor:
    """bpd*: bits a pixel value of the bound, at the σ that makes it best; on the CPU, in float64."""
    return (2 * math.pi * math.e * _on_cpu(mse)).log2() / 2 + _on_cpu(nats) / (values * math.log(2))


def implied_sigma(mse_weight: float, values: int, kl_weight: float = 1.0) -> float:
    """σ of w mse + v KL, in units of the image's range; infinite at w = 0."""
    return math.sqrt(kl_weight * values / (2 * mse_weight)) if mse_weight > 0 else math.inf


def implied_weight(sigma: float, values: int, kl_weight: float = 1.0) -> float:
    """w of a σ: what `implied_sigma` undoes."""
    return kl_weight * values / (2 * sigma**2)


def active_units(means: Tensor) -> Tensor:
    """How many latents (of each dimension of (n, ...)) vary from image to image, 0-d; none of one image."""
    return (means.flatten(1).var(dim=0, correction=min(1, len(means) - 1)) > ACTIVE).sum()


def covariance_eigenvalues(x: Tensor, given: Tensor | None = None) -> Tensor:
    """Eigenvalues, largest first, of the covariance of images (n, N) in [0, 1], within conditions (n, K).

    What a linear function of the conditions tells of an image needs no latent, and is taken out first.
    Of n images there are n - 1 - K eigenvalues above zero at most; the largest come out a little too large.
    On the CPU, in float64.
    """
    import torch

    x = _on_cpu(x)
    known = torch.ones(len(x), 1, dtype=torch.float64)
    if given is not None:
        known = torch.cat([known, _on_cpu(given).flatten(1)], 1)
    basis, singular, _ = torch.linalg.svd(known, full_matrices=False)
    basis = basis[:, singular > singular[0] * 1e-9]  # one-hot classes sum to the constant
    x = x - basis @ (basis.T @ x)
    degrees = len(x) - basis.shape[1]
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x  # the same eigenvalues but for zeros
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0) / max(degrees, 1)
    return eigenvalues


def predicted_active(eigenvalues: Tensor, sigma: float) -> int:
    """Latents the best linear decoder uses: eigenvalues above σ² (probabilistic PCA). 0 = it collapses."""
    return int((eigenvalues > sigma**2).sum())


def _on_cpu(value: Tensor | float) -> Tensor:
    """In float64, which not every device has: Apple's GPUs can not even convert to it."""
    import torch

    tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float64)
    return tensor.cpu().double()
