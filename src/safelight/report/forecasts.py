"""How a run is forecast to end, from its own course and from the finished runs beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight.config import UserError, flatten
from safelight.monitor.forecast import Forecast, Known, before, forecast
from safelight.monitor.stop import MEAN, MEASURED, measured
from safelight.store import listing
from safelight.store.directory import RunDirectory
from safelight.store.metrics import number

NEWEST = 30  # finished runs of a kind that a forecast looks at
TENTH = 0.1  # of a run, before which nothing is forecast
SETTINGS = ("network", "optim", "train", "loss")  # sections that a forecast is regressed on
Course = list[tuple[int, float]]  # steps done, and the value measured then


def course_of(directory: RunDirectory, metric: str = MEAN, upto: float = math.inf) -> Course:
    """The values of a measured column of a run, by steps done."""
    lines = ((int(line["step"]) + 1, _measured(line)) for line in listing.recorded(directory))
    return [(step, columns[metric]) for step, columns in lines if step <= upto and metric in columns]


def _measured(line: Mapping[str, Any]) -> dict[str, float]:
    return measured({name: number(value) for name, value in line.items() if name.startswith(MEASURED)})


def forecast_of(directory: RunDirectory) -> Forecast | None:
    """The mean held-out loss that a run is forecast to end with, from a tenth of its steps on."""
    short, info = listing.summary(directory), directory.info()
    if short.status == "finished" or short.step < TENTH * short.steps:
        return None
    tree = directory.recipe_tree()
    run = Known(course_of(directory), short.steps, settings_of(tree))
    return forecast(run, history(directory.path.parent, basis_of(tree, info.facts.data.get("fingerprint"))))


def forecast_before(tree: Mapping[str, Any], fingerprint: object, steps: int, runs: Path) -> Forecast | None:
    """What a training that has not begun is forecast to end with, by the runs of its kind in a folder."""
    return before(Known((), steps, settings_of(tree)), history(runs, basis_of(tree, fingerprint)))


def history(runs: Path, basis: object) -> list[Known]:
    """Finished runs of a basis, the newest of them."""
    known: list[Known] = []
    for short in listing.list_runs(runs):
        if short.status != "finished" or len(known) == NEWEST:
            continue
        directory = RunDirectory(short.path)
        try:
            tree, fingerprint = directory.recipe_tree(), directory.info().facts.data.get("fingerprint")
            if basis_of(tree, fingerprint) == basis:
                known.append(Known(course_of(directory), short.step, settings_of(tree)))
        except UserError:  # another damaged run is no reason to say nothing
            continue
    return known


def basis_of(tree: Mapping[str, Any], fingerprint: object) -> object:
    """What two held-out losses have to have in common to be of one kind."""
    watch, train = tree.get("watch", {}), tree.get("train", {})
    averaged = bool(train.get("ema"))
    held_out = tree.get("data", {}).get("held_out")
    return fingerprint, tree.get("method"), watch.get("held_out"), watch.get("seed"), held_out, averaged


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
