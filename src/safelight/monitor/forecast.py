"""Where a course of measurements ends: from its beginning, and from courses that one has seen to their end.

Kernel ridge regression (the mean of a Gaussian process) of the logarithm of the last value on where a course
is, how it fell over the second half of its way so far, its length and its settings; scales and ridge are
those of the least error where each of the history is left out. The interval holds four of five of the history
when left out (the jackknife of Barber et al. 2021). Without a history nothing is said: a power law plus a
constant, fitted to the first tenth alone, was 20 % off, and its intervals held less than half of what came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.8  # of forecasts that hold what comes
LEAST = 9  # courses that make a history: fewer have no interval of that level
SCALES, LINEAR, RIDGES = (0.5, 0.8, 1.2, 2.0, 4.0), (0.0, 0.1, 1.0), np.geomspace(1e-5, 1, 11)
FAR = 4.0  # deviations, past which a setting counts as this far
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """A course: (steps done, value), the steps planned, and the settings as numbers."""

    course: Sequence[tuple[int, float]]
    steps: int
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Forecast:
    """The value expected at a step, and the interval that holds it four times of five."""

    step: int
    value: float
    low: float
    high: float
    runs: int  # that it rests on

    @property
    def text(self) -> str:
        """ "0.131 (0.128 to 0.135)"."""
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def forecast(run: Known, history: Sequence[Known]) -> Forecast | None:
    """The last value of a run. history: courses that ended; None for fewer than LEAST of them.

    Also None after one measurement; by its settings alone where the run has not begun.
    """
    course = [(step, value) for step, value in run.course if math.isfinite(value)]
    ended = [other for other in history if _whole(other)]
    if len(ended) < LEAST or len(course) == 1 or (course and course[-1][0] >= run.steps):
        return None
    run = Known(course, run.steps, run.settings)
    positive = all(value > 0 for other in (run, *ended) for _, value in other.course)
    middle, wide = _pooled(run, ended, positive)
    ends = (middle, middle - wide, middle + wide)
    value, low, high = (math.exp(min(end, 700.0)) for end in ends) if positive else ends
    return Forecast(run.steps, value, low, high, len(ended))


def _whole(known: Known) -> bool:
    values = [value for _, value in known.course]
    return len(values) > 2 and known.course[-1][0] >= known.steps and all(map(math.isfinite, values))


def _pooled(run: Known, history: Sequence[Known], positive: bool) -> tuple[float, float]:
    """The expected last value, or its logarithm, and half the width of the interval."""
    share = run.course[-1][0] / run.steps if run.course else 0.0
    names = sorted({name for other in (run, *history) for name in other.settings})
    x = np.array([_row(other, share, names, positive) for other in (*history, run)])
    ends = np.array([_scaled(other.course[-1][1], positive) for other in history])
    x = (x - x[:-1].mean(0)) / np.maximum(x[:-1].std(0), 1e-9)
    x = np.clip(x[:, x[:-1].std(0) > 0.5], -FAR, FAR)  # what does not differ says nothing
    distances = ((x[:, None] - x[None]) ** 2).sum(-1) / max(x.shape[1], 1)
    products = x @ x.T / max(x.shape[1], 1)
    mean = float(ends.mean())
    best: tuple[float, float, Array] | None = None
    for scale, linear, ridge in product(SCALES, LINEAR, RIDGES):
        kernel = np.exp(-distances / (2 * scale**2)) + linear * products + 1
        solved = np.linalg.inv(kernel[:-1, :-1] + ridge * np.eye(len(ends)))
        weights = solved @ (ends - mean)
        left_out = np.abs(weights / np.diag(solved))  # the error of each where it is left out
        if best is None or left_out.mean() < best[0]:
            best = float(left_out.mean()), float(kernel[-1, :-1] @ weights), np.sort(left_out)
    assert best is not None
    place = math.ceil((len(ends) + 1) * LEVEL) - 1
    return mean + best[1], float(best[2][min(place, len(ends) - 1)])


def _row(known: Known, share: float, names: Sequence[str], positive: bool) -> list[float]:
    """Where a course is after a share of its steps, how it came there, its length, its settings."""
    settings = [math.log(known.steps), *(float(known.settings.get(name, 0.0)) for name in names)]
    if not share:
        return settings
    steps = np.log([step for step, _ in known.course])
    values = [_scaled(value, positive) for _, value in known.course]
    now, half = (float(np.interp(math.log(share * known.steps / part), steps, values)) for part in (1, 2))
    return [now, now - half, *settings]


def _scaled(value: float, positive: bool) -> float:
    return math.log(value) if positive else value
