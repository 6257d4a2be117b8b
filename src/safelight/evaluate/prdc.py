"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Around every feature lies a ball that reaches to its k-th nearest neighbour in its own set; the balls of a
set stand for the part of feature space it fills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.evaluate.distances import blocks, blocks_within

NEIGHBOURS = 5


@dataclass(frozen=True)
class Prdc:
    """All four are shares, except density, which may exceed 1."""

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
