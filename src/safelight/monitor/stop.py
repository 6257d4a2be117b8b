"""[stop]: rules that end a run, from what it has recorded. Nothing is kept besides the metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from pydantic import Field, model_validator

from safelight.config import Section
from safelight.store.metrics import MetricsRow

MEASURED = ("evaluate/", "held_out/")  # columns that rules look at
MEAN = "held_out/mean"  # of all that are held out
LESS = re.compile(r"held_out/|evaluate/(FD-|FID|KID)")  # of the others more is better
Measurement = tuple[int, Mapping[str, float]]  # a step, and the measured columns after it


class StopRules(Section):
    """[stop]: when a run ends before its last step. Every key can be changed meanwhile."""

    non_finite: int = Field(20, ge=0, le=10**6)
    """Steps in a row without a finite gradient after which the run has failed; 0 = never."""
    goal: str = ""
    """Measured value that finishes the run, such as "evaluate/FD-classifier <= 12"."""
    patience: int = Field(0, ge=0, le=10**6)
    """Measurements in a row without a better value that finish the run; 0 = never."""
    metric: str = ""
    """Column that patience looks at, such as "held_out/mse". Default: the first of evaluate/, or the
    mean of held_out/, held_out/mean."""
    hours: float | None = Field(None, gt=0)
    """Hours spent in steps, over all sessions, that finish the run. Default: no limit."""
    images: int | None = Field(None, ge=1, le=10**11)
    """Images seen that finish the run. Default: no limit."""

    @model_validator(mode="after")
    def _checked(self) -> StopRules:
        if self.goal and not _condition(self.goal):
            raise ValueError(f'goal {self.goal!r} is not "COLUMN <= VALUE", such as "held_out/mse <= 0.1"')
        for name in (self.metric, (_condition(self.goal) or ("",))[0]):
            if name and not name.startswith(MEASURED):
                raise ValueError(f"{name!r} is not measured; name a column of {' or '.join(MEASURED)}")
        return self


def _condition(goal: str) -> tuple[str, str, float] | None:
    parts = re.fullmatch(r"\s*(\S.*?)\s*(<=|>=)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*", goal)
    try:
        return (parts[1], parts[2], float(parts[3])) if parts else None
    except ValueError:
        return None


def measured(columns: Mapping[str, float]) -> dict[str, float]:
    """The columns that rules look at, and the mean of those held out."""
    named = {name: value for name, value in columns.items() if name.startswith(MEASURED)}
    held_out = [value for name, value in named.items() if name.startswith("held_out/")]
    return named | ({MEAN: fmean(held_out)} if held_out else {})


def reached(rules: StopRules, course: Sequence[Measurement]) -> str:
    """Why measurements up to now, the newest last, finish a run; "" where they do not."""
    if not course:
        return ""
    now = course[-1][1]
    if condition := _condition(rules.goal):
        name, sign, bound = condition
        value = now.get(name, math.nan)
        if value <= bound if sign == "<=" else value >= bound:
            return f"stop.goal: {name} is {value:.4g}"
    evaluated = (name for _, numbers in course for name in numbers if name.startswith("evaluate/"))
    metric = rules.metric or next(evaluated, MEAN)
    if not rules.patience or metric not in now:
        return ""
    values = [(step, numbers[metric]) for step, numbers in course if metric in numbers]
    worse = 1 if LESS.match(metric) else -1
    step, best = min(values, key=lambda pair: worse * pair[1] if math.isfinite(pair[1]) else math.inf)
    since = sum(later > step for later, _ in values)
    if since < rules.patience:
        return ""
    return f"stop.patience: {metric} was no better than {best:.4g} of step {step:,} in {since} measurements"


def unknown(rules: StopRules, columns: Mapping[str, float]) -> list[str]:
    """Columns that rules name and that are not measured, where others of their kind are."""
    names = {rules.metric} if rules.patience else set()
    names |= {condition[0]} if (condition := _condition(rules.goal)) else set()
    kinds = {name.partition("/")[0] for name in columns}
    return sorted(name for name in names if name and name.partition("/")[0] in kinds and name not in columns)


class FiniteSteps:
    """How many steps in a row had no finite gradient. rows: recorded before."""

    def __init__(self, rows: Iterable[MetricsRow] = ()) -> None:
        self.count, self.since = 0, 0  # `since`: the first of them
        for row in rows:
            self.add(row)

    def add(self, row: MetricsRow) -> int:
        """The length of the row of steps that ends here."""
        norms = (value for name, value in row.extra.items() if name.startswith("grad_norm/"))
        if all(map(math.isfinite, norms)):
            self.count = 0
            return 0
        self.since = row.step if not self.count else self.since
        self.count += 1
        return self.count
