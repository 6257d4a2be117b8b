"""Diversity: how far apart images of one condition lie in feature space."""

from __future__ import annotations

import torch
from torch import Tensor

from safelight.evaluate.distances import blocks_within


def diversity(features: Tensor, groups: Tensor) -> float:
    """Mean Euclidean distance of two different features (n, d) of one group (n,), averaged over the groups.

    Every group of two or more counts once, whatever its size; NaN where there is none.
    """
    means = []
    for group in torch.unique(groups).tolist():
        own = features[groups == group]
        if len(own) > 1:
            centred = own - own.mean(0)
            total = sum(float(block.sqrt().sum()) for _, block in blocks_within(centred, 0.0))
            means.append(total / (len(own) * (len(own) - 1)))
    return sum(means) / len(means) if means else float("nan")
