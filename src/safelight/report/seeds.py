"""Chance: what differs between runs of the same settings under different seeds, and what is more than that.

The rule. Two settings differ in a number by Student's t-test on their seeds, two-sided, at 95 %: the
difference of their means must exceed

    band = t(1 - 0.05 / (2 m), n_a + n_b - 2) * s * sqrt(1 / n_a + 1 / n_b)
    s^2  = ((n_a - 1) s_a^2 + (n_b - 1) s_b^2) / (n_a + n_b - 2)

with s_a, s_b the standard deviations over the n_a, n_b seeds of each, and m the number of settings compared
with the same one, so that all m verdicts together are wrong in 5 % (Bonferroni). Each pair uses its own seeds
only: a setting that diverges does not widen the band of others. One seed has no spread: nothing is claimed.

Welch's test, which lets the spreads differ, has one degree of freedom left with two seeds and would hardly
ever find a difference. The price of pooling: at worst, where one of the settings has no spread at all, the
5 % are P(|t(n - 1)| > t(0.975, 2 n - 2)): 15 % with two seeds of each, 11 % with three, 8 % with five.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from safelight.report.basis import NumberColumn
from safelight.report.settings import Replicas

LEVEL = 0.05  # chance that one of the verdicts on a number calls chance a difference
RULE = (
    "Two settings differ where the difference of their means over seeds exceeds the band: Student's "
    f"t-test on their seeds, two-sided, at {100 * (1 - LEVEL):g} % for all verdicts on a number together "
    "(Bonferroni). Smaller differences are within the seed spread: another seed could reverse them. "
    "± is the standard deviation over seeds."
)
Verdict = Literal["within the seed spread", "lower", "higher", "one seed: spread unknown", "no number"]


@dataclass(frozen=True)
class Spread:
    """One number under one setting, over its seeds."""

    label: str
    runs: tuple[str, ...]  # that have the number
    values: tuple[float, ...]  # one a run, finite
    lost: tuple[str, ...] = ()  # runs without it: not come so far, not finite

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds; NaN for fewer than two."""
        return math.sqrt(self.squares / (len(self.values) - 1)) if len(self.values) > 1 else math.nan

    @property
    def squares(self) -> float:
        """Sum of the squared distances from the mean."""
        return float(np.sum((np.array(self.values) - self.mean) ** 2))


@dataclass(frozen=True)
class Contrast:
    """A setting against the reference in one number."""

    label: str
    against: str
    difference: float
    band: float  # what the difference must exceed; NaN where a spread is unknown
    verdict: Verdict


@dataclass(frozen=True)
class Seeds:
    """One number under several settings: the first is the reference."""

    name: str
    spreads: tuple[Spread, ...]
    contrasts: tuple[Contrast, ...]  # of every setting but the first


def spread_of(group: Replicas, values: Mapping[str, float]) -> Spread:
    """The number of a group from its values by run."""
    held = {run: values[run] for run in group.runs if math.isfinite(values.get(run, math.nan))}
    lost = tuple(run for run in group.runs if run not in held)
    return Spread(group.label, tuple(held), tuple(held.values()), lost)


def band(a: Spread, b: Spread, comparisons: int = 1) -> float:
    """What the difference of two means must exceed to be called one; NaN unless both have two seeds.

    comparisons: how many verdicts share the chance of error.
    """
    if min(len(a.values), len(b.values)) < 2:
        return math.nan
    freedom = len(a.values) + len(b.values) - 2
    pooled = (a.squares + b.squares) / freedom
    quantile = student_quantile(freedom, 1 - LEVEL / comparisons)
    return quantile * math.sqrt(pooled * (1 / len(a.values) + 1 / len(b.values)))


def student_quantile(freedom: int, within: float) -> float:
    """The t for which Student's t lies between -t and t with a probability of `within`, found by bisection.

    Abramowitz and Stegun 26.7.3 and 26.7.4, with θ = arctan(t / sqrt(ν)).
    """

    def probability(theta: float) -> float:
        sine, cosine = math.sin(theta), math.cos(theta)
        odd = freedom % 2
        term = cosine if odd else 1.0
        total = term if freedom > 1 else 0.0
        for k in range(2 + odd, freedom - 1, 2):
            term *= (k - 1) / k * cosine * cosine
            total += term
        return 2 / math.pi * (theta + sine * total) if odd else sine * total

    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if probability(middle) < within else (low, middle)
    return math.sqrt(freedom) * math.tan(high)


def contrast(setting: Spread, reference: Spread, comparisons: int = 1) -> Contrast:
    """The verdict on one setting against another."""
    difference = setting.mean - reference.mean
    wide = band(setting, reference, comparisons)
    verdict: Verdict
    if math.isnan(difference):
        verdict = "no number"
    elif math.isnan(wide):
        verdict = "one seed: spread unknown"
    elif abs(difference) <= wide:
        verdict = "within the seed spread"
    else:
        verdict = "lower" if difference < 0 else "higher"
    return Contrast(setting.label, reference.label, difference, wide, verdict)


def judge(name: str, groups: Sequence[Replicas], values: Mapping[str, float]) -> Seeds:
    """A number under every setting, each against the first that has a spread, or else a value."""
    spreads = tuple(spread_of(group, values) for group in groups)
    spread_out = [spread for spread in spreads if len(spread.values) > 1]
    known = spread_out or [spread for spread in spreads if spread.values]
    if not known:
        return Seeds(name, spreads, ())
    reference = known[0]
    others = [spread for spread in spreads if spread is not reference]
    compared = max(1, len(spread_out) - 1)
    return Seeds(
        name, (reference, *others), tuple(contrast(spread, reference, compared) for spread in others)
    )


def judge_column(column: NumberColumn, groups: Sequence[Replicas]) -> tuple[Seeds, ...]:
    """Every number of a column, under the settings whose runs are in it."""
    present = [group for group in groups if set(group.runs) & set(column.runs)]
    rows = {row.run: row.numbers for row in column.rows}
    return tuple(
        judge(name, present, {run: numbers[name].value for run, numbers in rows.items() if name in numbers})
        for name in column.names
    )
