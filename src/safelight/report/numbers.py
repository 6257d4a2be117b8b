"""The numbers of runs at an equal budget: losses, totals, held-out losses, metrics.

Each row says on what basis its numbers were taken; `basis.together` decides from that what may share a
column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pydantic import TypeAdapter

from safelight.engine.plan import Weight, weight_at
from safelight.report.basis import Basis, Number, NumberRow, setting, worded
from safelight.report.budgets import Budget, images_at, rows_within
from safelight.report.facts import Measured, RunFacts

BLOCKS = 8  # batch means of a window, from which its standard error is taken
WINDOW = 0.1  # share of the budget, at its end, over which a loss is averaged
_WEIGHT: TypeAdapter[Weight] = TypeAdapter(Weight)


def components(run: RunFacts, budget: Budget) -> NumberRow:
    """Raw loss components: means over the last tenth of the budget."""
    numbers = {name: _windowed(run, f"raw/{name}", budget) for name in run.record.components}
    return _row(run, budget, loss_basis(run, budget), numbers)


def total(run: RunFacts, budget: Budget) -> NumberRow:
    """The weighted total, which means the same only under the same weights."""
    step = _last_step(run, budget)
    weights = weights_at(run, step)
    basis = {**loss_basis(run, budget), **{f"loss.weights.{name}": worded(w) for name, w in weights.items()}}
    return _row(run, budget, basis, {"total": _windowed(run, "total", budget)})


def held_out(run: RunFacts, budget: Budget) -> NumberRow:
    """Held-out values, as they were last measured within the budget."""
    settings = run.settings_at(_last_step(run, budget))
    basis = {
        **loss_basis(run, budget),
        **{key: setting(settings, key) for key in ("data.held_out", "watch.held_out", "watch.seed")},
        **averaging(settings),
    }
    return _latest(run, budget, basis, "held_out/")


def measured_while_training(run: RunFacts, budget: Budget) -> NumberRow:
    """Metrics of evaluate.every, as they were last measured within the budget."""
    settings = run.settings_at(_last_step(run, budget))
    stated = {
        key: worded(value)
        for key, value in settings.items()
        if key.startswith(("evaluate.", "sample.")) and key != "evaluate.every"
    }
    if "evaluate.steps" in stated:
        stated.pop("sample.steps", None)  # it takes its place
    return _latest(run, budget, {**data_basis(run, settings), **stated, **averaging(settings)}, "evaluate/")


def monitored(run: RunFacts, budget: Budget) -> NumberRow:
    """What the monitors measured of the watched samples, as last within the budget."""
    settings = run.settings_at(_last_step(run, budget))
    stated = {key: worded(value) for key, value in settings.items() if key.startswith("sample.")}
    fixed = {key: setting(settings, key) for key in ("watch.images", "watch.seed")}
    return _latest(
        run, budget, {**data_basis(run, settings), **fixed, **stated, **averaging(settings)}, "monitor/"
    )


def metrics(run: RunFacts) -> list[NumberRow]:
    """Stored evaluations: of every basis the latest, with a row of its own.

    The basis is the evaluation's own: it names the extractor, the reference images, the sampler, the seed.
    """
    by_basis: dict[tuple[tuple[str, str], ...], list[Measured]] = {}
    for metric in run.measured:
        by_basis.setdefault(tuple(sorted(metric.basis.items())), []).append(metric)
    rows = []
    for metrics in by_basis.values():
        newest = max(metric.step for metric in metrics)
        latest = [metric for metric in metrics if metric.step == newest]
        numbers = {metric.name: Number(metric.value, metric.spread, metric.floor) for metric in latest}
        rows.append(NumberRow(run.name, metrics[-1].basis, numbers, images_at(run, newest)))
    return rows


def loss_basis(run: RunFacts, budget: Budget) -> dict[str, str]:
    """What the value of a loss depends on besides the weights: the data and the method's definition."""
    settings = run.settings_at(_last_step(run, budget))
    method = {key: worded(value) for key, value in settings.items() if key.startswith("method.")}
    return {**data_basis(run, settings), **method}


def data_basis(run: RunFacts, settings: Mapping[str, object]) -> dict[str, str]:
    """The data, as it reached the networks."""
    return {"data fingerprint": str(run.data.get("fingerprint")), "data.flip": setting(settings, "data.flip")}


def averaging(settings: Mapping[str, object]) -> Basis:
    """Whether averaged weights were measured; how long the average is, is a setting like any other."""
    return {"weights": "averaged" if settings.get("train.ema") else "as trained"}


def weights_at(run: RunFacts, step: int) -> dict[str, float]:
    """The weight of every recorded component at a step, ramps and interventions included."""
    tree: dict[str, object] = {}
    prefix = "loss.weights."
    for key, value in run.settings_at(step).items():
        if key.startswith(prefix):
            name, _, part = key.removeprefix(prefix).partition(".")
            weight = tree.setdefault(name, {} if part else value)
            if part and isinstance(weight, dict):
                weight[part] = value
    return {name: weight_at(_WEIGHT.validate_python(value), step) for name, value in tree.items()}


def _last_step(run: RunFacts, budget: Budget) -> int:
    """The last step that ran within the budget, from 0."""
    rows = rows_within(run.record, budget)
    return int(run.record.steps[rows - 1]) - 1 if rows else 0


def _row(run: RunFacts, budget: Budget, basis: Basis, numbers: Mapping[str, Number]) -> NumberRow:
    rows = rows_within(run.record, budget)
    images = int(run.record.images[rows - 1]) if rows else 0
    hours = float(run.record.hours[rows - 1]) if rows else 0.0
    return NumberRow(run.name, basis, numbers, images, hours)


def _windowed(run: RunFacts, name: str, budget: Budget) -> Number:
    """The mean of a column over the last tenth of the budget, with its standard error by batch means.

    Windows end where the budget ends and are as long for every run, whatever its batch size. Values that
    are not finite are left out and counted in the note.
    """
    record, column = run.record, run.record.columns[name]
    end = rows_within(record, budget)
    along = record.along(budget.axis)
    begin = int(np.searchsorted(along, (1 - WINDOW) * budget.amount, side="right"))
    paid = column.values[column.rows < end]
    within = int(np.count_nonzero((column.rows >= begin) & (column.rows < end)))
    values = paid[len(paid) - max(within, 1) :]  # a lazy phase may have none in the window: its last one
    finite = values[np.isfinite(values)]
    lost = len(values) - len(finite)
    note = f"{lost} of {len(values)} values not finite" if lost else ""
    if not len(finite):
        return Number(math.nan, note=note or f"not recorded {_where(run, budget)}")
    return Number(float(np.mean(finite)), standard_error(finite), note=note)


def _where(run: RunFacts, budget: Budget) -> str:
    """Why a run has no number within a budget it reached: it may have started later, as a fork."""
    first = float(run.record.along(budget.axis)[0]) if len(run.record.steps) else 0.0
    return "there: it was forked later" if run.parent and first > budget.amount else "there"


def standard_error(values: np.ndarray) -> float:
    """Of the mean of neighbouring values, by BLOCKS batch means (Conway 1963); NaN of too few values."""
    if len(values) < BLOCKS:
        return math.nan
    means = [np.mean(block) for block in np.array_split(values, BLOCKS)]
    return float(np.std(means, ddof=1) / math.sqrt(BLOCKS))


def _latest(run: RunFacts, budget: Budget, basis: Basis, prefix: str) -> NumberRow:
    """Values of columns that are not in every row: the last finite one within the budget."""
    end = rows_within(run.record, budget)
    numbers, last = {}, -1
    for name in run.record.named(prefix):
        column = run.record.columns[f"{prefix}{name}"]
        inside = column.rows < end
        values, rows = column.values[inside], column.rows[inside]
        finite = np.flatnonzero(np.isfinite(values))
        if len(finite):
            last = max(last, int(rows[finite[-1]]))
            floor = _value_at(run, f"floor/{name}", int(rows[finite[-1]]))
            numbers[name] = Number(float(values[finite[-1]]), floor=floor)
    images = int(run.record.images[last]) if last >= 0 else 0
    hours = float(run.record.hours[last]) if last >= 0 else 0.0
    return NumberRow(run.name, basis, numbers, images, hours)


def latest_at(run: RunFacts, name: str, budget: Budget) -> float:
    """A column's last finite value within the budget; NaN where it has none."""
    column = run.record.columns.get(name)
    if column is None:
        return math.nan
    values = column.values[column.rows < rows_within(run.record, budget)]
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else math.nan


def _value_at(run: RunFacts, name: str, row: int) -> float:
    """A column's value in a row; NaN where it has none."""
    column = run.record.columns.get(name)
    places = np.flatnonzero(column.rows == row) if column else np.zeros(0, np.int64)
    return float(column.values[places[0]]) if column and len(places) else math.nan
