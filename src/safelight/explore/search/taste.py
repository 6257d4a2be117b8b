"""What a person likes: points that are picked, crossed with each other and turned towards fresh samples.

A sheet has the last picks first, to be compared with; then their children, turned less from sheet to sheet;
at its end a few fresh samples, as what is liked may not have been shown yet. There are no scores: what
comes next follows from the seed and from all picks so far, which are its state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from safelight.explore.search.optimisers import Candidates, children

FIRST, SHRINK, LEAST = 0.6, 0.8, 0.15  # sine of a child's turn: of the first, factor by sheet, at least
KEPT, FRESH = 1 / 3, 1 / 8  # shares of a sheet, at most


class Taste:
    """The points of one sheet after the other."""

    def __init__(self, candidates: Candidates) -> None:
        self.candidates, self.sheet = candidates, 1
        self.picked = torch.zeros(0, candidates.space.size)
        self.points = self._next()  # (n, d) of this sheet

    def pick(self, rows: Sequence[int]) -> None:
        """The rows that are liked; where there are none, those liked before stay. The next sheet begins."""
        if rows:
            self.picked = self.points[list(rows)]
        self.sheet += 1
        self.points = self._next()

    def _next(self) -> Tensor:
        draw = self.candidates.draw(self.sheet)
        fresh = self.candidates.space.first(draw)
        if not len(self.picked):
            return fresh
        pairs = draw.integers("parents", len(self.picked), 2)
        mother, father = self.picked[pairs[:, 0]], self.picked[pairs[:, 1]]
        sine = max(LEAST, FIRST * SHRINK ** (self.sheet - 2))
        bred = self.candidates.space.inside(children(draw, mother, father, fresh, sine))
        previous = self.picked[: int(KEPT * len(bred))]
        late = len(bred) - int(FRESH * len(bred))
        return torch.cat([previous, bred[len(previous) : late], fresh[late:]])
