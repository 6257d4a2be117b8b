"""Running statistics of what steps leave: folds over rows, so that they can be had again from a record."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

LATEST = 10  # values


@dataclass
class Average:
    """An exponential average of finite values, unbiased from the first on (as Adam's, Kingma 2015)."""

    half_life: float  # in values
    _sum: float = 0.0
    _weight: float = 0.0

    def add(self, value: float) -> None:
        """Take one more value; one that is not finite is passed over."""
        if math.isfinite(value):
            keep = 0.5 ** (1 / self.half_life)
            self._sum = keep * self._sum + (1 - keep) * value
            self._weight = keep * self._weight + (1 - keep)

    @property
    def value(self) -> float:
        """NaN before the first value."""
        return self._sum / self._weight if self._weight else math.nan


@dataclass
class Typical:
    """The median of the last values and their median absolute deviation from it."""

    length: int
    values: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self.values = deque(maxlen=self.length)

    def above(self, value: float) -> float:
        """How many deviations a value lies above the median; 0 while fewer than a quarter are known.

        Of all known values or of the LATEST, whichever is less: norms that grow with what a network learns
        make no spike. A deviation counts as at least a tenth of the median: nor do norms that hardly vary.
        """
        if 4 * len(self.values) < self.length:
            return 0.0
        known = list(self.values)
        return min(_deviations(value, known), _deviations(value, known[-LATEST:]))

    def add(self, value: float) -> None:
        """Take one more value; one that is not finite is passed over."""
        if math.isfinite(value):
            self.values.append(value)


def _deviations(value: float, among: list[float]) -> float:
    """How many median absolute deviations a value lies above the median of others."""
    middle = median(among)
    deviation = max(median(abs(one - middle) for one in among), 0.1 * abs(middle))
    return (value - middle) / deviation if deviation else 0.0
