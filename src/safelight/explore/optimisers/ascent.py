"""Gradient ascent on many chains at once: Adam (Kingma 2015), its step falling along half a cosine."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from safelight.explore.optimisers import Asked, Told

STEP = 0.5  # deviations that a coordinate moves at first, about; less finds less (docs/search.md)
MEAN, SQUARE = 0.9, 0.99  # decays of the running means


class Ascent:
    """Where the chains are, and the running means of their gradients."""

    needs_gradient = True

    def __init__(self, asked: Asked) -> None:
        self.asked, self.generation = asked, 0
        self.points = asked.space.first(asked.draw(0))
        self.mean = torch.zeros_like(self.points)
        self.square = torch.zeros_like(self.points)

    def ask(self) -> Tensor:
        return self.points

    def tell(self, told: Told) -> None:
        assert told.gradient is not None
        self.generation += 1
        gradient = told.gradient
        self.mean = MEAN * self.mean + (1 - MEAN) * gradient
        self.square = SQUARE * self.square + (1 - SQUARE) * gradient.square()
        first = self.mean / (1 - MEAN**self.generation)
        second = self.square / (1 - SQUARE**self.generation)
        share = min(self.generation / max(self.asked.generations, 1), 1.0)
        step = STEP * (1 + math.cos(math.pi * share)) / 2
        self.points = self.asked.space.inside(self.points + step * first / (second.sqrt() + 1e-12))

    def state(self) -> dict[str, Tensor]:
        return {
            "generation": torch.tensor(self.generation),
            "points": self.points,
            "mean": self.mean,
            "square": self.square,
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.generation = int(state["generation"])
        self.points, self.mean, self.square = state["points"], state["mean"], state["square"]
