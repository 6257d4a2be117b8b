"""Where a search may look for latents: on the shell that a generator was trained on, or among its styles.

Without a bound, what scores best drifts to lengths the generator never saw: |z| / √d of 1.3 to 1.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.types import Draw

REACH = 2.0  # deviations to either side of the mean style


class SearchSpace(Protocol):
    """Points x (n, size), any real numbers, and the latents that they stand for."""

    @property
    def size(self) -> int: ...

    @property
    def deviation(self) -> float:
        """Of the first points of a method that draws them itself, about the origin."""
        ...

    def first(self, draw: Draw) -> Tensor:
        """Points (n, size) as likely as the samples of the generator."""
        ...

    def inside(self, x: Tensor) -> Tensor:
        """The nearest allowed points."""
        ...

    def latents(self, x: Tensor) -> Tensor:
        """What `Method.sample` takes (n, ...): differentiable in x."""
        ...


@dataclass(frozen=True)
class Shell:
    """Gaussian latents of a shape, kept on the sphere |z| = √d, near which nearly all of them lie."""

    shape: tuple[int, ...]
    deviation: float = 1.0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def first(self, draw: Draw) -> Tensor:
        return self.inside(draw.normal("latent", self.size))

    def inside(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * math.sqrt(self.size)

    def latents(self, x: Tensor) -> Tensor:
        return self.inside(x).reshape(-1, *self.shape)


@dataclass(frozen=True)
class Styles:
    """w = mean + deviation x for every layer, |x| ≤ REACH by coordinate, as descendants of LAFITE search.

    mean, spread: of many styles, (size,) each. layers: all get the style. of: draws -> styles (n, size).
    """

    mean: Tensor
    spread: Tensor
    layers: int
    of: Callable[[Draw], Tensor]
    deviation: float = 0.5

    @property
    def size(self) -> int:
        return len(self.mean)

    def first(self, draw: Draw) -> Tensor:
        return self.point(self.of(draw))

    def point(self, w: Tensor) -> Tensor:
        """The points (n, size) of styles (n, size)."""
        return self.inside((w - self.mean) / self.spread)

    def inside(self, x: Tensor) -> Tensor:
        return x.clamp(-REACH, REACH)

    def latents(self, x: Tensor) -> Tensor:
        w = self.mean + self.spread * self.inside(x)
        return w[:, None].expand(-1, self.layers, -1)


@dataclass(frozen=True)
class Repeated:
    """A `Draw` whose rows are all the first row of another: candidates differ in nothing but the latent."""

    draw: Draw  # of one row
    rows: int

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal float32 (rows, *shape)."""
        return self._all(self.draw.normal(name, *shape))

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        """Uniform in [0, 1) float32 (rows, *shape)."""
        return self._all(self.draw.uniform(name, *shape, host=host))

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Uniform int64 in [0, high) (rows, *shape)."""
        return self._all(self.draw.integers(name, high, *shape))

    def _all(self, row: Tensor) -> Tensor:
        return row.expand(self.rows, *row.shape[1:])


def spread_of(styles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation by coordinate (size,) of many styles (n, size); a constant one does not divide."""
    return styles.mean(0), styles.std(0).clamp(min=torch.finfo(styles.dtype).eps)
