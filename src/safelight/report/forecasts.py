"""How a run is forecast to end, from its own course and from the finished runs beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safelight.config import UserError, flatten
from safelight.monitor.forecast import Forecast, Known, forecast
from safelight.monitor.stop import MEAN, MEASURED, measured
from safelight.store import listing
from safelight.store.directory import RunDirectory
from safelight.store.metrics import number

NEWEST = 60  # finished runs of a kind that a forecast looks at
TENTH = 0.1  # of a run, before which nothing is forecast
SETTINGS = ("network", "optim", "train", "loss")  # sections that a forecast is regressed on
DISTANCE = re.compile("evaluate/(FD-|FID|KID)")
Course = list[tuple[int, float]]  # steps done, and the value measured then


def course_of(directory: RunDirectory, metric: str = MEAN, upto: float = math.inf) -> Course:
    """The values of a measured column of a run, by steps done."""
    return [(step, value) for step, value in courses_of(directory).get(metric, []) if step <= upto]


def courses_of(directory: RunDirectory) -> dict[str, Course]:
    """Every measured column of a run, and the mean of those held out."""
    courses: dict[str, Course] = {}
    for line in listing.recorded(directory):
        columns = {name: number(value) for name, value in line.items() if name.startswith(MEASURED)}
        for name, value in measured(columns).items():
            courses.setdefault(name, []).append((int(line["step"]) + 1, value))
    return courses


def forecasts_of(directory: RunDirectory) -> dict[str, Forecast]:
    """How the mean held-out loss of a run, and distances of its samples, are forecast to end, by column.

    Nothing before a tenth of its steps, and of a finished run. Raises UserError.
    """
    short, info = listing.summary(directory), directory.info()
    if short.status == "finished" or short.step < TENTH * short.steps:
        return {}
    tree, past = directory.recipe_tree(), list(_finished(directory.path.parent))
    made: dict[str, Forecast] = {}
    for metric, course in courses_of(directory).items():
        if metric == MEAN or DISTANCE.match(metric):
            basis = basis_of(tree, info.facts.data.get("fingerprint"), metric)
            run = Known(course, short.steps, settings_of(tree))
            if ahead := forecast(run, _alike(past, basis, metric)):
                made[metric] = ahead
    return made


def forecast_before(tree: Mapping[str, Any], fingerprint: object, steps: int, runs: Path) -> Forecast | None:
    """The mean held-out loss that a training is forecast to end with, before it begins."""
    past = _alike(_finished(runs), basis_of(tree, fingerprint), MEAN)
    return forecast(Known((), steps, settings_of(tree)), past)


def _finished(runs: Path) -> Iterator[RunDirectory]:
    for short in listing.list_runs(runs):
        if short.status == "finished":
            yield RunDirectory(short.path)


def _alike(finished: Iterable[RunDirectory], basis: object, metric: str) -> list[Known]:
    """The newest runs of a basis."""
    known: list[Known] = []
    for directory in finished:
        with suppress(UserError):  # another damaged run is no reason to say nothing
            tree, info = directory.recipe_tree(), directory.info()
            if basis_of(tree, info.facts.data.get("fingerprint"), metric) == basis:
                course = course_of(directory, metric)
                known.append(Known(course, course[-1][0] if course else 1, settings_of(tree)))
        if len(known) == NEWEST:
            break
    return known


def basis_of(tree: Mapping[str, Any], fingerprint: object, metric: str = MEAN) -> object:
    """What two values of a column have to have in common to be of one kind."""
    watch, train = tree.get("watch", {}), tree.get("train", {})
    held_out = tree.get("data", {}).get("held_out")
    shared = fingerprint, tree.get("method"), held_out, bool(train.get("ema"))
    if metric == MEAN:
        return *shared, watch.get("held_out"), watch.get("seed")
    measuring = {key: value for key, value in tree.get("evaluate", {}).items() if key != "every"}
    return *shared, measuring, tree.get("sample")


def settings_of(tree: Mapping[str, Any]) -> dict[str, float]:
    """The settings of a resolved recipe as numbers: logarithms of positive ones, 1 for each word."""
    numbers: dict[str, float] = {}
    for key, value in flatten({name: tree.get(name, {}) for name in SETTINGS}).items():
        if key == "train.seed":
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers[key] = math.log(value) if value > 0 else float(value)
        else:
            numbers[f"{key}={value}"] = 1.0
    return numbers
