"""Ranges of settings from words: optim.lr=1e-4..1e-2,log, train.batch_size=16..64, network.width=32|64|96."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.config import UserError, parse_override
from safelight.recipe import load
from safelight.training.grid import split

if TYPE_CHECKING:
    from optuna.trial import Trial

NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(,log)?")
DIGITS = 4  # of a number that is tried: enough, and short in the name of a run
INSIDE = 0.381966  # of a range, where it is tried besides its ends


@dataclass(frozen=True)
class Axis:
    """A key, and the values it may take: from low to high, or one of `choices`, as they were written."""

    key: str
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[str, ...] = ()

    def at(self, place: float) -> Any:
        """The value at a place of [0, 1) along the range."""
        if self.choices:
            return self.value(self.choices[int(place * len(self.choices))])
        if self.log:
            return self.value(self.low * (self.high / self.low) ** place)
        return self.value(self.low + (self.high - self.low) * place)

    def value(self, tried: Any) -> Any:
        """What a recipe takes for what a sampler suggests: a number of DIGITS digits within the range."""
        if self.choices:
            return parse_override(f"{self.key}={tried}")[1]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return min(max(round(tried), self.low), self.high)
        return min(max(float(f"{tried:.{DIGITS}g}"), self.low), self.high)

    def suggest(self, trial: Trial) -> Any:
        """What a trial tries, the same however often it is called."""
        if self.choices:
            return self.value(trial.suggest_categorical(self.key, self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return self.value(trial.suggest_int(self.key, self.low, self.high, log=self.log))
        return self.value(trial.suggest_float(self.key, self.low, self.high, log=self.log))

    def near(self, value: Any, up: bool) -> Any:
        """A value beside another one: a quarter more or a fifth less, or the next of the choices."""
        if self.choices:
            values = [self.value(text) for text in self.choices]
            return values[min(max(values.index(value) + (1 if up else -1), 0), len(values) - 1)]
        moved = self.value(value * (1.25 if up else 0.8))
        return self.value(value + (1 if up else -1)) if moved == value else moved


def axes(source: str | Path, words: Sequence[str]) -> tuple[list[Axis], dict[str, Any]]:
    """The ranges among words, and the values of the others. Raises UserError.

    Every range is tried on the recipe at its ends and inside, each choice as it is.
    """
    searched: list[Axis] = []
    fixed: dict[str, Any] = {}
    for word in words:
        axis = _axis(word)
        key, value = (axis.key, None) if axis else parse_override(word)
        if key in fixed or key in [other.key for other in searched]:
            raise UserError(f"{key}: is given twice")
        if axis:
            searched.append(axis)
        elif len(split(word.partition("=")[2])) > 1:
            text = word.partition("=")[2]
            raise UserError(f"{key}={text}: is a list; with --search write {key}={text.replace(',', '|')}")
        else:
            fixed[key] = value
    if not searched:
        raise UserError("--search: no range; write one as optim.lr=1e-4..1e-2,log or network.width=32|64")
    first = {axis.key: axis.at(0) for axis in searched}
    load(source, fixed)
    for axis in searched:
        values = [axis.value(text) for text in axis.choices] or [axis.low, axis.high, axis.at(INSIDE)]
        for value in values:
            load(source, {**fixed, **first, axis.key: value})
    return searched, fixed


def _axis(word: str) -> Axis | None:
    """The range of a word; None where it states a value. Raises UserError."""
    key, _, text = word.partition("=")
    key, text = key.strip(), text.strip()
    if match := RANGE.fullmatch(text):
        low, high = (parse_override(f"{key}={end}")[1] for end in match.group(1, 2))
        if not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)):
            raise UserError(f"{key}={text}: an end is no number; write it as 1e-4..1e-2")
        if not low < high:
            raise UserError(f"{key}={text}: runs from {low} to {high}; write the lower end first")
        if match[3] and low <= 0:
            raise UserError(f"{key}={text}: a logarithmic range begins above 0")
        return Axis(key, low, high, bool(match[3]))
    choices = tuple(part.strip() for part in text.split("|"))
    if len(choices) == 1:
        return None
    if "" in choices or len(set(choices)) < len(choices):
        raise UserError(f"{key}={text}: expected different values, for example network.width=32|64|96")
    return Axis(key, choices=choices)


def features(axes: Sequence[Axis], tried: Mapping[str, Any]) -> dict[str, float]:
    """Numbers that describe a combination: logarithms along logarithmic ranges, a number for each choice."""
    numbers: dict[str, float] = {}
    for axis in axes:
        value = tried[axis.key]
        if axis.choices:
            numbers |= {f"{axis.key}={text}": float(value == axis.value(text)) for text in axis.choices}
        else:
            numbers[axis.key] = math.log(value) if axis.log else float(value)
    return numbers
