"""Optimisers of a score over points x (n, d): asked for points, told how good those are. All maximise.

What one does next follows from its seed and its state, which `state` gives and `load` takes: a search that
is cut off goes on with the same bits. No global generator is read, or left changed.
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
from safelight.randomness import RowDraw, key
from safelight.types import Draw

Way = Literal["random", "cma", "ga", "gradient"]


WAYS: tuple[Way, ...] = ("random", "cma", "ga", "gradient")


@dataclass(frozen=True)
class Scores:
    """How good a generation's points are."""

    scores: Tensor  # (n, k) by objective, higher is better
    total: Tensor  # (n,) of all objectives in one number
    gradient: Tensor | None = None  # (n, d) of the total, where it is differentiable


class Optimiser(Protocol):
    """A way to search. Every generation is asked for once, then told."""

    needs_gradient: bool

    def ask(self) -> Tensor:
        """The points of this generation, (n, d) float32."""
        ...

    def tell(self, told: Scores) -> None:
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


def optimiser(way: Way, asked: Candidates) -> Optimiser:
    """The optimiser of a name. Raises UserError where its package is missing."""
    match way:
        case "random":
            return Chance(asked)
        case "cma":
            return Evolution(asked)
        case "ga":
            return Breeding(asked)
        case "gradient":
            return Ascent(asked)


# --- CMA-ES with a diagonal covariance (Hansen & Ostermeier 2001; Ros & Hansen 2008), of the package cma ---
# Measured in 512 dimensions: 0.1 s of overhead for 3,200 evaluations, where the full covariance takes 36
# s and
# finds less.


class Evolution:
    """The distribution is a function of the seed and of all scores so far: these are its state."""

    needs_gradient = False

    def __init__(self, asked: Candidates) -> None:
        if asked.population < 2:
            raise UserError("population 1: method cma compares two points or more of a generation")
        self.asked = asked
        self.scores: list[Tensor] = []  # of every generation (n,)
        self.strategy = self._begun()
        self.points: list[Any] | None = None  # that were asked for and not told yet

    def ask(self) -> Tensor:
        if self.points is None:
            with generator_of(self.asked.seed, len(self.scores)):
                self.points = self.strategy.ask()
        return torch.from_numpy(np.stack(self.points).astype(np.float32))

    def tell(self, told: Scores) -> None:
        self._told(told.total.double())

    def state(self) -> dict[str, Tensor]:
        none = torch.zeros(0, self.asked.population, dtype=torch.float64)
        return {"scores": torch.stack(self.scores) if self.scores else none}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Asks and tells anew all that there was: nothing is drawn or scored by the generator for it."""
        self.scores, self.strategy, self.points = [], self._begun(), None
        for scores in state["scores"]:
            self.ask()
            self._told(scores)

    def _told(self, scores: Tensor) -> None:
        assert self.points is not None
        with generator_of(self.asked.seed, -1 - len(self.scores)):
            self.strategy.tell(self.points, (-scores).tolist())  # it minimises
        self.scores.append(scores)
        self.points = None

    def _begun(self) -> Any:
        try:
            from cma import CMAEvolutionStrategy
        except ImportError as error:
            raise UserError(f"method cma: its package is missing; run: {install('search')}") from error
        space = self.asked.space
        options = {
            "popsize": self.asked.population,
            "CMA_diagonal": True,
            "seed": float("nan"),  # else it seeds NumPy's global generator
            "verbose": -9,
            "verb_log": 0,
        }
        with generator_of(self.asked.seed, 0):
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


# --- Several objectives at once: points that none beats in all of them, and how far apart those stand ---


def fronts(scores: Tensor) -> list[Tensor]:
    """Row numbers of scores (n, k), higher is better, by front: no row of the first is beaten by another,

    being as good in all objectives and better in one; none of the second but by the first; and so on.
    """
    try:
        from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
    except ImportError as error:
        raise UserError(f"several objectives: a package is missing; run: {install('search')}") from error
    found = NonDominatedSorting().do(-scores.double().numpy())
    return [torch.from_numpy(np.sort(np.asarray(rows, np.int64))) for rows in found]


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


# A genetic algorithm that keeps the best of parents and children; of several objectives NSGA-II (Deb 2002)
# Points that none beats in all objectives come first, among those the ones that stand apart; with one
# objective
# the order is the score's. Parents are the better of two drawn. A child takes each coordinate from one of two
# parents, and all of it is turned a little towards a fresh sample, which keeps its length.

FIRST, LAST = 0.4, 0.05  # sines of the angle of a child's turn, from the first generation to the last


class Breeding:
    """The population, the best first."""

    needs_gradient = False

    def __init__(self, asked: Candidates) -> None:
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

    def tell(self, told: Scores) -> None:
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


# --- Gradient ascent on many chains at once: Adam (Kingma 2015), its step falling along half a cosine ---

STEP = 0.5  # deviations that a coordinate moves at first, about; less finds less (docs/search.md)


MEAN, SQUARE = 0.9, 0.99  # decays of the running means


class Ascent:
    """Where the chains are, and the running means of their gradients."""

    needs_gradient = True

    def __init__(self, asked: Candidates) -> None:
        self.asked, self.generation = asked, 0
        self.points = asked.space.first(asked.draw(0))
        self.mean = torch.zeros_like(self.points)
        self.square = torch.zeros_like(self.points)

    def ask(self) -> Tensor:
        return self.points

    def tell(self, told: Scores) -> None:
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


# --- Random search: what the others have to beat ---


class Chance:
    """Fresh samples of the generator, every generation."""

    needs_gradient = False

    def __init__(self, asked: Candidates) -> None:
        self.asked, self.generation = asked, 0

    def ask(self) -> Tensor:
        return self.asked.space.first(self.asked.draw(self.generation))

    def tell(self, told: Scores) -> None:
        self.generation += 1

    def state(self) -> dict[str, Tensor]:
        return {"generation": torch.tensor(self.generation)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.generation = int(state["generation"])
