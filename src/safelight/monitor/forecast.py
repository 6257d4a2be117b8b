"""Where a course of measurements ends: from its beginning, and from courses that one has seen to their end.

With a history: ridge regression of the logarithm of the last value on where a course is, how it fell over the
second half of its way so far, its length and its settings. The interval is that which so many of the history
kept when each was left out (split into n parts of one: the jackknife of Barber et al. 2021).
Without one: y = c + a s^-b over the steps s done, averaged over b and c in proportion to how well each fits
(a grid in place of the Monte Carlo of Domhan et al. 2015), which says little so early and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.8  # of forecasts that hold what comes
LEAST = 9  # courses that make a history: fewer have no interval of that level
EARLY = 2  # measurements that a forecast needs
RIDGES = np.geomspace(1e-4, 1e2, 13)
NOISE = 0.02  # of a logarithm: what a curve does not explain
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
    runs: int  # that it rests on; 0: on the curve alone

    @property
    def text(self) -> str:
        """ "0.131 (0.128 to 0.135)"."""
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def forecast(run: Known, history: Sequence[Known] = ()) -> Forecast | None:
    """The last value of a run; None before its second measurement. history: courses that ended."""
    course = [(step, value) for step, value in run.course if math.isfinite(value)]
    if len(course) < EARLY or course[-1][0] >= run.steps:
        return None
    ended = [other for other in history if _whole(other)]
    positive = all(value > 0 for other in (run, *ended) for _, value in other.course)
    if len(ended) >= LEAST:
        middle, wide = _pooled(run, ended, positive)
    elif positive:
        middle, wide = _curve(np.array(course, float), run.steps)
        ended = []
    else:
        return None
    ends = (middle, middle - wide, middle + wide)
    value, low, high = (math.exp(min(end, 700.0)) for end in ends) if positive else ends
    return Forecast(run.steps, value, low, high, len(ended))


def before(run: Known, history: Sequence[Known]) -> Forecast | None:
    """The last value of a run that has not begun, by the settings of those that ended; None for too few."""
    ended = [other for other in history if _whole(other)]
    if len(ended) < LEAST:
        return None
    positive = all(other.course[-1][1] > 0 for other in ended)
    middle, wide = _pooled(run, ended, positive)
    ends = (middle, middle - wide, middle + wide)
    value, low, high = (math.exp(min(end, 700.0)) for end in ends) if positive else ends
    return Forecast(run.steps, value, low, high, len(ended))


def _whole(known: Known) -> bool:
    values = [value for _, value in known.course]
    return len(values) > EARLY and known.course[-1][0] >= known.steps and all(map(math.isfinite, values))


def _pooled(run: Known, history: Sequence[Known], positive: bool) -> tuple[float, float]:
    """The expected last value, or its logarithm, and half the width of the interval."""
    share = run.course[-1][0] / run.steps if run.course else 0.0
    names = sorted({name for other in (run, *history) for name in other.settings})
    rows = np.array([_row(other, share, names, positive) for other in (*history, run)])
    x, now = rows[:, 1:], rows[:, 0]
    ends = np.array([_scaled(other.course[-1][1], positive) for other in history])
    x = (x - x[:-1].mean(0)) / np.maximum(x[:-1].std(0), 1e-9)
    x = np.column_stack([x, np.clip(x, -4, 4) ** 2])
    x -= x[:-1].mean(0)
    target = ends - now[:-1]
    mean, known = target.mean(), x[:-1]
    best: tuple[float, float, Array] | None = None
    for ridge in RIDGES:
        inverse = np.linalg.inv(known.T @ known + ridge * len(known) * np.eye(known.shape[1]))
        hat = known @ inverse @ known.T + 1 / len(known)
        left_out = (target - hat @ target) / np.maximum(1 - np.diag(hat), 1e-6)
        error = float(np.mean(np.abs(left_out)))
        if best is None or error < best[0]:
            best = error, float(x[-1] @ inverse @ known.T @ (target - mean)), np.sort(np.abs(left_out))
    assert best is not None
    place = math.ceil((len(target) + 1) * LEVEL) - 1
    return float(now[-1] + mean + best[1]), float(best[2][min(place, len(target) - 1)])


def _row(known: Known, share: float, names: Sequence[str], positive: bool) -> list[float]:
    """Where a course is after a share of its steps, how it came there, its length, its settings."""
    settings = [math.log(known.steps), *(float(known.settings.get(name, 0.0)) for name in names)]
    if not share:
        return [0.0, *settings]
    steps = np.log([step for step, _ in known.course])
    values = [_scaled(value, positive) for _, value in known.course]
    now, half = (float(np.interp(math.log(share * known.steps / part), steps, values)) for part in (1, 2))
    return [now, now, now - half, *settings]


def _scaled(value: float, positive: bool) -> float:
    return math.log(value) if positive else value


def _curve(course: Array, end: int) -> tuple[float, float]:
    """The logarithm of y = c + a s^-b at a step, and half the width of the interval."""
    steps, values = course[:, 0], course[:, 1]
    ends, weights = [], []
    for floor in np.linspace(0, 0.98, 50) * values.min():
        above = np.log(values - floor)
        for power in np.linspace(0.05, 1.5, 59):
            scale = float(np.mean(above + power * np.log(steps)))
            fitted = floor + np.exp(scale - power * np.log(steps))
            ends.append(math.log(floor + math.exp(scale - power * math.log(end))))
            weights.append(-float(np.sum((np.log(values) - np.log(fitted)) ** 2)) / (2 * NOISE**2))
    likely = np.exp(np.array(weights) - max(weights))
    likely /= likely.sum()
    order = np.argsort(ends)
    below = np.cumsum(likely[order])
    low, middle, high = (
        float(np.array(ends)[order][min(int(np.searchsorted(below, level)), len(ends) - 1)])
        for level in ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)
    )
    return middle, max(high - middle, middle - low)
