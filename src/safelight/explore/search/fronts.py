"""Scores of several objectives in order: by fronts that none of the others dominates (NSGA-II, Deb 2002)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from safelight.config import UserError, install


def fronts(scores: Tensor) -> list[Tensor]:
    """Row numbers of scores (n, k), higher is better, by front.

    No row dominates one of the first front, being as good in all objectives and better in one; only rows of
    the first dominate the second; and so on.
    """
    try:
        from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
    except ImportError as error:
        raise UserError(f"several objectives: a package is missing; run: {install('search')}") from error
    sorted_rows = NonDominatedSorting().do(-scores.double().numpy())
    return [torch.from_numpy(np.sort(np.asarray(rows, np.int64))) for rows in sorted_rows]


def front(scores: Tensor) -> Tensor:
    """Row numbers of those that none beats, increasing; of one objective the first of the best."""
    return scores.argmax(0) if scores.shape[1] == 1 else fronts(scores)[0]


def crowding(scores: Tensor) -> Tensor:
    """How far apart the neighbours of each row of a front are, (n,): infinite at the ends (Deb 2002)."""
    count = len(scores)
    apart = torch.zeros(count, dtype=torch.float64)
    for column in scores.double().T:
        order = column.argsort(stable=True)
        span = float(column.max() - column.min())
        apart[order[[0, -1]]] = torch.inf
        if count > 2 and span > 0:
            apart[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return apart


def order(scores: Tensor) -> Tensor:
    """Row numbers (n,), the best first: by front, within one those that stand apart first (NSGA-II)."""
    if scores.shape[1] == 1:
        return scores[:, 0].argsort(descending=True, stable=True)
    return torch.cat(
        [rows[crowding(scores[rows]).argsort(descending=True, stable=True)] for rows in fronts(scores)]
    )
