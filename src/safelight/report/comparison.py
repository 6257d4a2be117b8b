"""Everything a comparison says, as facts: what differs between runs, and what came of it.

`to_dict` gives them to --json, under names that programs can rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from safelight.report import budget, numbers, settings
from safelight.report.basis import Apart, NumberColumn, NumberTable
from safelight.report.budget import Budget
from safelight.report.budget import cost as cost_of
from safelight.report.facts import RunFacts
from safelight.report.pictures import Pictures, SideBySide, pictures
from safelight.report.seeds import RULE, Seeds, judge_column
from safelight.report.settings import Replicas, SettingDifference, SettingEdit
from safelight.report.vae import Bounds, bounds


@dataclass(frozen=True)
class AtBudget:
    """The numbers of the runs that were given a budget."""

    budget: Budget
    components: NumberTable
    total: NumberTable
    held_out: NumberTable
    measured: NumberTable  # metrics of evaluate.every
    monitored: NumberTable  # of watched samples, by the monitors
    bounds: Bounds = field(default_factory=Bounds)  # of variational autoencoders


@dataclass(frozen=True)
class Judged:
    """Numbers over seeds: one entry a number, for each group of runs whose numbers may share a column."""

    what: str
    runs: tuple[str, ...]
    seeds: tuple[Seeds, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs compared, in the order they were named; the first is what ratios refer to."""

    runs: tuple[RunFacts, ...]
    unreadable: tuple[RunFacts, ...]
    settings: tuple[SettingDifference, ...]
    surroundings: tuple[SettingDifference, ...]
    edits: tuple[SettingEdit, ...]
    replicas: tuple[Replicas, ...]
    at: tuple[AtBudget, ...]  # equal images seen, the largest first
    metrics: NumberTable
    cost: NumberTable
    by_images: Pictures
    by_hours: Pictures
    judged: tuple[Judged, ...]  # empty where every setting has one seed

    def run(self, name: str) -> RunFacts:
        """A readable run by its name."""
        return next(run for run in self.runs if run.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values. Lists of `columns` hold numbers that may be compared with each other."""
        return {
            "runs": [run_to_dict(run) for run in self.runs],
            "unreadable": [
                {"name": run.name, "path": str(run.path), "problems": list(run.problems)}
                for run in self.unreadable
            ],
            "settings": [asdict(one) for one in self.settings],
            "surroundings": [asdict(one) for one in self.surroundings],
            "interventions": [asdict(edit) for edit in self.edits],
            "replicas": [asdict(group) for group in self.replicas],
            "at": [_at_to_dict(at) for at in self.at],
            "metrics": _table(self.metrics),
            "cost": _table(self.cost),
            "pictures": {"images": _pictures(self.by_images), "hours": _pictures(self.by_hours)},
            "seeds": {"rule": RULE, "judged": [_judged_to_dict(judged) for judged in self.judged]},
        }


def compare(runs: Sequence[RunFacts]) -> Comparison:
    """Compare runs. Unreadable ones are named in the result and left out of everything else."""
    named = _unique(runs)
    readable = tuple(run for run in named if run.readable)
    groups = settings.replicas(readable)
    metrics = NumberTable.of(row for run in readable for row in numbers.metrics(run))
    cost = NumberTable.of(map(cost_of, readable))
    at = tuple(_at(readable, one) for one in budget.of(readable, "images"))
    return Comparison(
        runs=readable,
        unreadable=tuple(run for run in named if not run.readable),
        settings=settings.differences(readable),
        surroundings=settings.surroundings(readable),
        edits=settings.edits(readable),
        replicas=groups,
        at=at,
        metrics=metrics,
        cost=cost,
        by_images=pictures(readable, "images"),
        by_hours=pictures(readable, "hours"),
        judged=_judged(groups, at, metrics, cost),
    )


def _at(runs: Sequence[RunFacts], given: Budget) -> AtBudget:
    within = [run for run in runs if run.name in given.runs]
    return AtBudget(
        given,
        components=NumberTable.of(numbers.components(run, given) for run in within),
        total=NumberTable.of(numbers.total(run, given) for run in within),
        held_out=NumberTable.of(numbers.held_out(run, given) for run in within),
        measured=NumberTable.of(numbers.measured_while_training(run, given) for run in within),
        monitored=NumberTable.of(numbers.monitored(run, given) for run in within),
        bounds=bounds(within, given),
    )


def _judged(
    groups: Sequence[Replicas], budgets: Sequence[AtBudget], metrics: NumberTable, cost: NumberTable
) -> tuple[Judged, ...]:
    """Verdicts over seeds, where any setting has more than one.

    At the largest budget that two seeds of some setting were given: a run that failed early leaves its
    setting without a spread there, rather than all of them without a comparison.
    """
    if all(len(group.runs) < 2 for group in groups):
        return ()
    kinds: list[tuple[str, Sequence[NumberColumn]]] = []
    at = next((at for at in budgets if _has_spread(groups, at.budget.runs)), None)
    if at:
        amount = f"{round(at.budget.amount):,} images seen"
        given, within = f"at {amount}", f"within {amount}"
        kinds += [
            (f"Loss components {given}", at.components.columns),
            (f"Held-out losses, last measured {within}", at.held_out.columns),
            (f"Metrics while training, last measured {within}", at.measured.columns),
        ]
    kinds += [("Stored evaluations", metrics.columns), ("Cost", cost.columns)]
    return tuple(
        Judged(what, column.runs, judge_column(column, groups))
        for what, columns in kinds
        for column in columns
        if _has_spread(groups, column.runs)
    )


def _has_spread(groups: Sequence[Replicas], runs: Sequence[str]) -> bool:
    """Whether two seeds of some setting are among the runs."""
    return any(len(set(group.runs) & set(runs)) > 1 for group in groups)


def _unique(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """Runs under different names: those of one name are told apart by their directories."""
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.path.resolve().parent.name}/{run.name}")
        if names.count(run.name) > 1
        else run
        for run in runs
    ]


# --- Plain values ---


def run_to_dict(run: RunFacts) -> dict[str, Any]:
    """What a run is and how far it came."""
    return {
        "name": run.name,
        "path": str(run.path),
        "id": run.id,
        "recipe": run.recipe,
        "status": run.status,
        "seed": run.settings.get("train.seed"),
        "step": run.step,
        "steps": run.steps,
        "images": run.record.images_seen,
        "hours": run.record.hours_spent,
        "finite_images": int(run.record.reach("images")),
        "fate": run.fate,
        "verdicts": list(run.verdicts),
        "problems": list(run.problems),
        "data_fingerprint": run.data.get("fingerprint"),
    }


def _at_to_dict(at: AtBudget) -> dict[str, Any]:
    return {
        "budget": asdict(at.budget),
        "components": _table(at.components),
        "total": _table(at.total),
        "held_out": _table(at.held_out),
        "evaluate": _table(at.measured),
        "monitor": _table(at.monitored),
        "bound": {**_table(at.bounds.table), "verdicts": [asdict(one) for one in at.bounds.verdicts]},
    }


def _table(table: NumberTable) -> dict[str, Any]:
    columns = []
    for column in table.columns:
        rows = [asdict(row) for row in column.rows]
        for row in rows:
            del row["basis"]  # the column's
        columns.append({"basis": dict(column.basis), "rows": rows})
    return {"columns": columns, "apart": _apart(table.apart)}


def _apart(reasons: Sequence[Apart]) -> list[dict[str, Any]]:
    return [
        {
            "runs": list(own.runs),
            "others": list(own.others),
            "facts": [{"fact": fact, "here": here, "there": there} for fact, here, there in own.facts],
        }
        for own in reasons
    ]


def _pictures(pictures: Pictures) -> dict[str, Any]:
    return {
        "pairs": [
            {"budget": asdict(pair.budget), "sheets": _sheets(pair), "without": list(pair.without)}
            for pair in pictures.pairs
        ],
        "newest": [_sheets(pair) for pair in pictures.newest],
        "apart": _apart(pictures.apart),
        "samplers": _apart(pictures.samplers),
    }


def _sheets(pair: SideBySide) -> list[dict[str, Any]]:
    return [
        {
            "run": chosen.run,
            "step": chosen.sheet.step,
            "path": str(chosen.sheet.path),
            "images": chosen.images,
            "hours": chosen.hours,
            "share": chosen.share,
        }
        for chosen in pair.sheets
    ]


def _judged_to_dict(judged: Judged) -> dict[str, Any]:
    numbers = [
        {
            "name": seeds.name,
            "settings": [
                {**asdict(spread), "mean": spread.mean, "deviation": spread.deviation}
                for spread in seeds.spreads
            ],
            "contrasts": [asdict(contrast) for contrast in seeds.contrasts],
        }
        for seeds in judged.seeds
    ]
    return {"what": judged.what, "runs": list(judged.runs), "numbers": numbers}
