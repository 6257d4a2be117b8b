"""Kernel distance (Bińkowski et al. 2018): the maximum mean discrepancy under k(x, y) = (x·y / d + 1)³.

Unbiased at any number of images, which the Fréchet distance is not: the number to lead with under 5,000.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safelight.draw import permutation

SUBSETS = 100
SUBSET_SIZE = 1000


def kid(a: Tensor, b: Tensor, *, subsets: int = SUBSETS, size: int = SUBSET_SIZE) -> tuple[float, float]:
    """Mean and standard deviation of unbiased MMD² between keyed subsets of features (n, d) and (m, d).

    Of small sets subsets are halves, so that they still differ and the spread still means something.
    Raises ValueError for fewer than four features on either side.
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
    """(n, m) values of the polynomial kernel of degree 3."""
    return (x @ y.T / x.shape[1] + 1) ** 3
