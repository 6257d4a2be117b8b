"""Optimisers of a score over points x (n, d): `ask` gives points, `tell` takes their scores. All maximise.

The next step follows from seed and state, which `state` gives and `load` takes: an interrupted search goes on
bit-identically. No global generator is read, or left changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from safelight.config import UserError, install
from safelight.explore.latents import SearchSpace
from safelight.explore.search.fronts import order
from safelight.randomness import RowDraw, key
from safelight.types import Draw

Way = Literal["random", "cma", "ga", "gradient"]
WAYS: tuple[Way, ...] = ("random", "cma", "ga", "gradient")

FIRST, LAST = 0.4, 0.05  # sines of the angle of a child's turn, from the first generation to the last
STEP = 0.5  # deviations that a coordinate moves at first, about; less finds less (docs/search.md)
MEAN, SQUARE = 0.9, 0.99  # decays of the running means


@dataclass(frozen=True)
class Scores:
    """How good a generation's points are."""

    scores: Tensor  # (n, k) by objective, higher is better
    total: Tensor  # (n,) of all objectives in one number
    gradient: Tensor | None = None  # (n, d) of the total, where it is differentiable


class Optimiser(Protocol):
    """A way to search: for every generation `ask` once, then `tell`."""

    needs_gradient: bool

    def ask(self) -> Tensor:
        """The points of this generation, (n, d) float32."""
        ...

    def tell(self, scores: Scores) -> None:
        """Their scores: the next generation begins."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All that it remembers."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""
        ...


@dataclass(frozen=True)
class Candidates:
    """What a search is to be."""

    space: SearchSpace
    population: int  # points of a generation
    generations: int
    seed: int

    def draw(self, generation: int, rows: int | None = None) -> RowDraw:
        """The randomness of a generation, by row."""
        return RowDraw(self.seed, generation, "search", range(rows or self.population))


def optimiser(way: Way, candidates: Candidates) -> Optimiser:
    """The optimiser of a name. Raises UserError where its package is missing."""
    match way:
        case "random":
            return Chance(candidates)
        case "cma":
            return Evolution(candidates)
        case "ga":
            return Breeding(candidates)
        case "gradient":
            return Ascent(candidates)


class Evolution:
    """CMA-ES with a diagonal covariance (Hansen & Ostermeier 2001; Ros & Hansen 2008), of the package cma.

    The distribution is a function of the seed and of all scores so far: these are its state. In 512
    dimensions 3,200 evaluations take 0.1 s of overhead; the full covariance takes 36 s and finds less.
    """

    needs_gradient = False

    def __init__(self, candidates: Candidates) -> None:
        if candidates.population < 2:
            raise UserError("population 1: method cma compares two points or more of a generation")
        self.candidates = candidates
        self.scores: list[Tensor] = []  # of every generation (n,)
        self.strategy = self._begun()
        self.points: list[Any] | None = None  # of `ask`, until `tell`

    def ask(self) -> Tensor:
        if self.points is None:
            with generator_of(self.candidates.seed, len(self.scores)):
                self.points = self.strategy.ask()
        return torch.from_numpy(np.stack(self.points).astype(np.float32))

    def tell(self, scores: Scores) -> None:
        self._take(scores.total.double())

    def state(self) -> dict[str, Tensor]:
        none = torch.zeros(0, self.candidates.population, dtype=torch.float64)
        return {"scores": torch.stack(self.scores) if self.scores else none}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replays all asks and tells; the generator draws and scores nothing for it."""
        self.scores, self.strategy, self.points = [], self._begun(), None
        for scores in state["scores"]:
            self.ask()
            self._take(scores)

    def _take(self, scores: Tensor) -> None:
        assert self.points is not None
        with generator_of(self.candidates.seed, -1 - len(self.scores)):
            self.strategy.tell(self.points, (-scores).tolist())  # it minimises
        self.scores.append(scores)
        self.points = None

    def _begun(self) -> Any:
        try:
            from cma import CMAEvolutionStrategy
        except ImportError as error:
            raise UserError(f"method cma: its package is missing; run: {install('search')}") from error
        space = self.candidates.space
        options = {
            "popsize": self.candidates.population,
            "CMA_diagonal": True,
            "seed": float("nan"),  # a number would seed NumPy's global generator
            "verbose": -9,
            "verb_log": 0,
        }
        with generator_of(self.candidates.seed, 0):
            return CMAEvolutionStrategy(np.zeros(space.size), space.deviation, options)


@contextmanager
def generator_of(*parts: object) -> Iterator[None]:
    """NumPy's global generator keyed by the parts, as the package draws from it; put back afterwards."""
    before = np.random.get_state()
    words = key("cma", *parts)
    np.random.seed([words >> shift & 0xFFFFFFFF for shift in range(0, 128, 32)])
    try:
        yield
    finally:
        np.random.set_state(before)


class Breeding:
    """Genetic: keeps the best of parents and children; for several objectives NSGA-II (Deb 2002).

    Parents are the better of two drawn. A child takes each coordinate from one of two parents, and all of it
    is turned a little towards a fresh sample, which keeps its length. The population is sorted, best first.
    """

    needs_gradient = False

    def __init__(self, candidates: Candidates) -> None:
        self.candidates, self.generation = candidates, 0
        self.parents = torch.zeros(0, candidates.space.size)
        self.scores = torch.zeros(0, 1)  # of the parents, (n, k)

    def ask(self) -> Tensor:
        draw = self.candidates.draw(self.generation)
        fresh = self.candidates.space.first(draw)
        if not len(self.parents):
            return fresh
        drawn = draw.integers("parents", len(self.parents), 4)
        mother = self.parents[drawn[:, :2].min(1).values]  # the better of two: the best come first
        father = self.parents[drawn[:, 2:].min(1).values]
        sine = turn(self.generation, self.candidates.generations)
        return self.candidates.space.inside(children(draw, mother, father, fresh, sine))

    def tell(self, scores: Scores) -> None:
        points = torch.cat([self.parents, self.ask()])
        joined = torch.cat([self.scores, scores.scores]) if len(self.parents) else scores.scores
        survivors = order(joined)[: self.candidates.population]
        self.parents, self.scores = points[survivors], joined[survivors]
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


class Ascent:
    """Gradient ascent on many chains at once: Adam (Kingma 2015), its step falling along half a cosine."""

    needs_gradient = True

    def __init__(self, candidates: Candidates) -> None:
        self.candidates, self.generation = candidates, 0
        self.points = candidates.space.first(candidates.draw(0))
        self.mean = torch.zeros_like(self.points)
        self.square = torch.zeros_like(self.points)

    def ask(self) -> Tensor:
        return self.points

    def tell(self, scores: Scores) -> None:
        assert scores.gradient is not None
        self.generation += 1
        gradient = scores.gradient
        self.mean = MEAN * self.mean + (1 - MEAN) * gradient
        self.square = SQUARE * self.square + (1 - SQUARE) * gradient.square()
        first = self.mean / (1 - MEAN**self.generation)
        second = self.square / (1 - SQUARE**self.generation)
        share = min(self.generation / max(self.candidates.generations, 1), 1.0)
        step = STEP * (1 + math.cos(math.pi * share)) / 2
        self.points = self.candidates.space.inside(self.points + step * first / (second.sqrt() + 1e-12))

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


class Chance:
    """Random search, the baseline: fresh samples of the generator, every generation."""

    needs_gradient = False

    def __init__(self, candidates: Candidates) -> None:
        self.candidates, self.generation = candidates, 0

    def ask(self) -> Tensor:
        return self.candidates.space.first(self.candidates.draw(self.generation))

    def tell(self, scores: Scores) -> None:
        self.generation += 1

    def state(self) -> dict[str, Tensor]:
        return {"generation": torch.tensor(self.generation)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.generation = int(state["generation"])
