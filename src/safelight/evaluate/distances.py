"""Distances between all pairs of two sets of features, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**24  # distances in memory at once: 64 MB


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
