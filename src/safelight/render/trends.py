"""Numbers and sentences about loss curves. Nothing is said that was not computed from the curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
Series = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A value over training, at the steps where it was evaluated.

    A value that is not finite is a fault that happened, not a gap: a step at which nothing was evaluated
    (lazy regularisation) is left out. Raises ValueError unless the steps ascend and match the values.
    """

    name: str
    steps: Steps  # (n,) ascending
    values: Series  # (n,) raw and unweighted
    weight: float | None = None  # of a loss component: the one in force at the end
    reference: float | None = None  # a level worth knowing: an equilibrium, a floor
    note: str = ""  # what the level is, or how to read the curve
    unit: str = ""
    better: Literal["less", "more", ""] = "less"  # "" where neither is

    def __post_init__(self) -> None:
        if self.steps.shape != self.values.shape or self.steps.ndim != 1:
            raise ValueError(f"{self.name}: {self.steps.shape} steps for {self.values.shape} values")
        if np.any(np.diff(self.steps) <= 0):
            raise ValueError(f"{self.name}: steps do not ascend")

    def finite(self) -> Curve:
        """The curve without its values that are not finite."""
        keep = np.isfinite(self.values)
        return replace(self, steps=self.steps[keep], values=self.values[keep])


@dataclass(frozen=True)
class Event:
    """Something that happened to the run at a step."""

    step: int
    kind: Literal["intervention", "resume", "checkpoint", "fork", "verdict", "remedy"]
    label: str  # short: "optim.lr 5e-05 -> 1e-05"
    when: str = ""  # date and time, as it should be printed
    until: int | None = None  # of what has a span: its last step


@dataclass(frozen=True)
class Ahead:
    """A forecast of the last value, drawn from the newest one on."""

    begin: tuple[int, float]  # step and value
    end: tuple[int, float]
    low: float
    high: float


@dataclass(frozen=True)
class History:
    """Everything recorded over the steps of a run."""

    components: tuple[Curve, ...] = ()
    learning_rates: tuple[Curve, ...] = ()
    held_out: tuple[Curve, ...] = ()  # of each noise band, or of everything
    events: tuple[Event, ...] = ()
    batch_size: int = 1  # images a step
    dataset_size: int | None = None  # images in an epoch; None where an epoch means nothing
    ahead: Mapping[str, Ahead] = field(default_factory=dict)  # by column: "held_out/mean", "evaluate/FID"
    evaluated: tuple[Curve, ...] = ()  # distances of samples to the data, with their floors as references


BLOCKS = 8  # batch means in a tenth of the run
SIGNIFICANT = 2.5  # standard errors a change must exceed to be called one (chance of a false call 2.5 %)
NEGLIGIBLE = 0.001  # relative change below which a curve is flat, however certain the change


@dataclass(frozen=True)
class Trend:
    """The mean of a curve's last tenth against the mean of the tenth before it.

    error: standard error of the change by batch means (Conway 1963): each tenth is cut into BLOCKS blocks,
    whose means are nearly independent where the values of neighbouring steps are not.
    """

    verdict: Literal["falling", "flat", "rising", "unknown"]
    before: float = math.nan
    last: float = math.nan
    error: float = math.nan

    @property
    def change(self) -> float:
        """Of the mean; negative where it fell."""
        return self.last - self.before

    @property
    def relative(self) -> float:
        """Change as a share of the size of `before`; NaN where that is 0."""
        return self.change / abs(self.before) if self.before else math.nan


@dataclass(frozen=True)
class Analysis:
    """One loss component in numbers. The values are NaN and the steps -1 where none was finite."""

    curve: Curve
    first: float
    last: float
    smallest: float
    smallest_step: int
    smoothed_last: float
    smoothed_smallest: float
    half_life: float  # steps, of the smoothing
    trend: Trend
    not_finite: Steps  # steps at which the component was not finite


def default_half_life(steps: Steps) -> float:
    """A two-hundredth of the recorded span in whole steps, at least one."""
    return max(1.0, round(float(steps[-1] - steps[0]) / 200)) if len(steps) else 1.0


def smooth(steps: Steps, values: Series, half_life: float) -> Series:
    """Two-sided exponential average: sum_j v_j w_ij / sum_j w_ij with w_ij = 2^(-|s_i - s_j| / half_life).

    Two-sided, so that it lags behind neither a fall nor a rise. Values must be finite.
    """
    past, past_weight = _decaying_sums(steps, values, half_life)
    future, future_weight = _decaying_sums(-steps[::-1], values[::-1], half_life)
    smoothed: Series = (past + future[::-1] - values) / (past_weight + future_weight[::-1] - 1.0)
    return smoothed


def trend(values: Series) -> Trend:
    """Whether finite values fell at the end; "unknown" where a tenth holds fewer than BLOCKS of them."""
    tenth = len(values) // 10
    if tenth < BLOCKS:
        return Trend("unknown")
    before, last = values[-2 * tenth : -tenth], values[-tenth:]
    variances = [np.var([np.mean(block) for block in np.array_split(half, BLOCKS)], ddof=1)
                 for half in (before, last)]  # fmt: skip
    result = Trend("flat", float(np.mean(before)), float(np.mean(last)), math.sqrt(sum(variances) / BLOCKS))
    if abs(result.change) <= max(SIGNIFICANT * result.error, NEGLIGIBLE * abs(result.before)):
        return result
    return Trend("falling" if result.change < 0 else "rising", result.before, result.last, result.error)


def analyse(curve: Curve) -> Analysis:
    """A loss component in numbers; values that are not finite are counted and left out of everything else."""
    not_finite = curve.steps[~np.isfinite(curve.values)]
    steps, values = curve.finite().steps, curve.finite().values
    half_life = default_half_life(curve.steps)
    if not len(values):
        nan = math.nan
        return Analysis(curve, nan, nan, nan, -1, nan, nan, half_life, Trend("unknown"), not_finite)
    smoothed = smooth(steps, values, half_life)
    low = int(np.argmin(values))
    return Analysis(
        curve=curve,
        first=float(values[0]),
        last=float(values[-1]),
        smallest=float(values[low]),
        smallest_step=int(steps[low]),
        smoothed_last=float(smoothed[-1]),
        smoothed_smallest=float(smoothed.min()),
        half_life=half_life,
        trend=trend(values),
        not_finite=not_finite,
    )


@dataclass(frozen=True)
class HeldOut:
    """A held-out value in numbers. NaN where unknown, or where neither less nor more is better."""

    curve: Curve
    first: float
    best: float
    best_step: int
    last: float

    @property
    def regression(self) -> float:
        """|last - best| / |best|: how far the value is from its best again."""
        return abs(self.last - self.best) / abs(self.best) if self.best else math.nan


def held_out(curve: Curve) -> HeldOut:
    """A held-out value in numbers; those that are not finite are left out."""
    steps, values = curve.finite().steps, curve.finite().values
    if not len(values):
        return HeldOut(curve, math.nan, math.nan, -1, math.nan)
    first, last = float(values[0]), float(values[-1])
    if not curve.better:
        return HeldOut(curve, first, math.nan, -1, last)
    place = int(np.argmin(values) if curve.better == "less" else np.argmax(values))
    return HeldOut(curve, first, float(values[place]), int(steps[place]), last)


def _decaying_sums(steps: Steps, values: Series, half_life: float) -> tuple[Series, Series]:
    """Sums over j <= i of v_j 2^((s_j - s_i) / half_life), and of the weights alone."""
    sums, weights = np.empty(len(values)), np.empty(len(values))
    total = weight = 0.0
    fades = np.exp2(-np.diff(steps, prepend=steps[:1]) / half_life)
    for i, (fade, value) in enumerate(zip(fades.tolist(), values.tolist(), strict=True)):
        total, weight = total * fade + value, weight * fade + 1.0
        sums[i], weights[i] = total, weight
    return sums, weights
