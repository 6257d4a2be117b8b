"""Which sheets may share a picture: those of the same noises and conditions, at an equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safelight.report import budgets
from safelight.report.basis import Apart, Basis, NumberRow, apart, machine, together, worded
from safelight.report.budgets import Budget
from safelight.report.facts import RunFacts, Sheet
from safelight.report.records import Axis


@dataclass(frozen=True)
class Chosen:
    """The sheet that shows a run at a budget: the last one drawn within it."""

    run: str
    sheet: Sheet
    images: int  # seen when it was drawn
    hours: float  # inside steps
    share: float  # of the budget, at most 1


@dataclass(frozen=True)
class SideBySide:
    """Sheets of the same noises and conditions, from runs that were given equally much; or the newest."""

    budget: Budget
    sheets: tuple[Chosen, ...]
    without: tuple[str, ...] = ()  # runs that were given as much but drew no sheet within it
    newest: bool = False  # the last sheet of each run, whatever it was given by then


@dataclass(frozen=True)
class Pictures:
    """Samples of the same noises, and the runs between which there are none."""

    pairs: tuple[SideBySide, ...] = ()
    newest: tuple[SideBySide, ...] = ()  # the last sheets of all, where those are not among the pairs
    apart: tuple[Apart, ...] = ()  # runs whose sheets show other noises, and why
    samplers: tuple[Apart, ...] = ()  # runs whose sheets were drawn by other settings of [sample]


def noises(run: RunFacts) -> Basis:
    """What the noise and the condition of the n-th image of a sheet depend on.

    The data decides the conditions and the shape of the noise, the family how it is drawn, a network that
    starts from a latent its width.
    """
    settings = run.settings_at(run.step)
    fixed: list[str] = ["method.name", "watch.seed"]
    if "text" in run.data.get("conditions", {}):  # the n-th image is of a prompt, by their number and its own
        fixed += ["watch.prompts", "watch.images"]
    family = {key: worded(settings[key]) for key in fixed if key in settings}
    latents = {key: worded(value) for key, value in settings.items() if "latent" in key.rpartition(".")[2]}
    return {"data fingerprint": str(run.data.get("fingerprint")), **family, **latents}


def pictures(runs: Sequence[RunFacts], axis: Axis) -> Pictures:
    """Sheets side by side at every budget of the axis; hours are equal only on equal machines."""
    by_name = {run.name: run for run in runs if run.sheets and run.record.sound}
    bases = {
        name: {**noises(run), **(clock(run) if axis == "hours" else {})} for name, run in by_name.items()
    }
    columns = together(NumberRow(name, basis, {}) for name, basis in bases.items())
    pairs = []
    for column in columns:
        given = budgets.of([by_name[name] for name in column.runs], axis)
        pairs += [
            _side_by_side([by_name[name] for name in budget.runs], budget) for budget in _shown(given, axis)
        ]
    pairs = [pair for pair in pairs if len(pair.sheets) > 1]
    shown = [{(chosen.run, chosen.sheet.step) for chosen in pair.sheets} for pair in pairs]
    newest: list[SideBySide] = []
    samplers: list[Apart] = []
    for column in columns:
        last = tuple(_chosen(by_name[name], by_name[name].sheets[-1]) for name in column.runs)
        if (
            axis == "images"
            and len(last) > 1
            and {(chosen.run, chosen.sheet.step) for chosen in last} not in shown
        ):
            most = Budget("images", max(chosen.images for chosen in last), column.runs)
            newest.append(SideBySide(most, last, newest=True))
        samplers += apart(together(NumberRow(name, sampling(by_name[name]), {}) for name in column.runs))
    return Pictures(tuple(pairs), tuple(newest), apart(columns), tuple(samplers))


def clock(run: RunFacts) -> Basis:
    """What hours depend on: the machine, and the step from which they count, which is where a fork begins."""
    return {**machine(run), "hours counted from step": str(run.parent.step if run.parent else 0)}


def sampling(run: RunFacts) -> Basis:
    """[sample] in force at the end."""
    settings = run.settings_at(run.step)
    return {key: worded(value) for key, value in settings.items() if key.startswith("sample.")}


def _shown(given: Sequence[Budget], axis: Axis) -> Sequence[Budget]:
    """As far as two runs came, and as far as all of them did; in hours, which are never quite equal, the
    first only if it is twice the other."""
    if len(given) < 2:
        return given
    first, last = given[0], given[-1]
    return (last,) if axis == "hours" and first.amount < 2 * last.amount else (first, last)


def _side_by_side(runs: Sequence[RunFacts], budget: Budget) -> SideBySide:
    sheets = {run.name: budgets.sheet_within(run, budget) for run in runs}
    chosen = (_chosen(run, sheet, budget) for run in runs if (sheet := sheets[run.name]))
    return SideBySide(budget, tuple(chosen), tuple(name for name, sheet in sheets.items() if not sheet))


def _chosen(run: RunFacts, sheet: Sheet, budget: Budget | None = None) -> Chosen:
    images, hours = budgets.images_at(run, sheet.step), budgets.hours_at(run.record, sheet.step)
    share = (images if budget.axis == "images" else hours) / budget.amount if budget else 1.0
    return Chosen(run.name, sheet, images, hours, share)
