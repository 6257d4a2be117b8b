"""Optimisers of a score over points x (n, d): asked for points, told how good those are. All maximise.

What one does next follows from its seed and its state, which `state` gives and `load` takes: a search that
is cut off goes on with the same bits. No global generator is read, or left changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from safelight.draw import RowDraw
from safelight.explore.latents import Space

Way = Literal["random", "cma", "ga", "gradient"]
WAYS: tuple[Way, ...] = ("random", "cma", "ga", "gradient")


@dataclass(frozen=True)
class Told:
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

    def tell(self, told: Told) -> None:
        """Their scores: the next generation begins."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All that it remembers."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""
        ...


@dataclass(frozen=True)
class Asked:
    """What a search is to be."""

    space: Space
    population: int  # points of a generation
    generations: int
    seed: int

    def draw(self, generation: int, rows: int | None = None) -> RowDraw:
        """The randomness of a generation, by row."""
        return RowDraw(self.seed, generation, "search", range(rows or self.population))


def optimiser(way: Way, asked: Asked) -> Optimiser:
    """The optimiser of a name. Raises UserError where its package is missing."""
    match way:
        case "random":
            from safelight.explore.optimisers.chance import Chance

            return Chance(asked)
        case "cma":
            from safelight.explore.optimisers.evolution import Evolution

            return Evolution(asked)
        case "ga":
            from safelight.explore.optimisers.breeding import Breeding

            return Breeding(asked)
        case "gradient":
            from safelight.explore.optimisers.ascent import Ascent

            return Ascent(asked)
