"""A genetic algorithm that keeps the best of parents and children; of several objectives NSGA-II (Deb 2002).

Points that none beats in all objectives come first, among those the ones that stand apart; with one objective
the order is the score's. Parents are the better of two drawn. A child takes each coordinate from one of two
parents, and all of it is turned a little towards a fresh sample, which keeps its length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from safelight.explore.front import order
from safelight.explore.optimisers import Asked, Told
from safelight.types import Draw

FIRST, LAST = 0.4, 0.05  # sines of the angle of a child's turn, from the first generation to the last


class Breeding:
    """The population, the best first."""

    needs_gradient = False

    def __init__(self, asked: Asked) -> None:
        self.asked, self.generation = asked, 0
        self.parents = torch.zeros(0, asked.space.size)
        self.scores = torch.zeros(0, 1)  # of the parents, (n, k)

    def ask(self) -> Tensor:
        draw = self.asked.draw(self.generation)
        fresh = self.asked.space.first(draw)
        if not len(self.parents):
            return fresh
        drawn = draw.integers("parents", len(self.parents), 4)
        mother = self.parents[drawn[:, :2].min(1).values]  # the better of two: the best come first
        father = self.parents[drawn[:, 2:].min(1).values]
        sine = turn(self.generation, self.asked.generations)
        return self.asked.space.inside(children(draw, mother, father, fresh, sine))

    def tell(self, told: Told) -> None:
        points = torch.cat([self.parents, self.ask()])
        scores = torch.cat([self.scores, told.scores]) if len(self.parents) else told.scores
        kept = order(scores)[: self.asked.population]
        self.parents, self.scores = points[kept], scores[kept]
        self.generation += 1

    def state(self) -> dict[str, Tensor]:
        return {
            "generation": torch.tensor(self.generation),
            "parents": self.parents,
            "parent_scores": self.scores,
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.generation = int(state["generation"])
        self.parents, self.scores = state["parents"], state["parent_scores"]


def children(draw: Draw, mother: Tensor, father: Tensor, fresh: Tensor, sine: float) -> Tensor:
    """Points (n, d), each coordinate of one of two parents, turned by an angle towards fresh samples."""
    child = torch.where(draw.uniform("from", fresh.shape[1]) < 0.5, mother, father)
    return math.sqrt(1 - sine**2) * child + sine * fresh


def turn(generation: int, generations: int) -> float:
    """The sine of the angle by which children are turned: geometrically smaller from FIRST to LAST."""
    return float(FIRST * (LAST / FIRST) ** (generation / max(generations - 1, 1)))
