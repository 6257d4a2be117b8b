"""Everything a comparison says, as facts: what differs between runs, and what came of it.

`to_dict` gives them to --json, under names that programs can rely on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from safelight.report import budgets, numbers, settings
from safelight.report.basis import Apart, NumberColumn, NumberRow, NumberTable
from safelight.report.basis import cost as cost_of
from safelight.report.budgets import Budget
from safelight.report.facts import RunFacts
from safelight.report.pairs import Pairs, pairs
from safelight.report.pictures import Chosen, Pictures, SideBySide, pictures
from safelight.report.seeds import RULE, Seeds, Spread, judge_column
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
    pairs: tuple[Pairs, ...] = ()  # forks with the runs they were forked from

    def run(self, name: str) -> RunFacts:
        """A readable run by its name."""
        return next(run for run in self.runs if run.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values. Lists of `columns` hold numbers that may be compared with each other."""
        named = {
            "runs": self.runs,
            "unreadable": [
                {"name": run.name, "path": run.path, "problems": run.problems} for run in self.unreadable
            ],
            "settings": self.settings,
            "surroundings": self.surroundings,
            "interventions": self.edits,
            "replicas": self.replicas,
            "at": self.at,
            "metrics": self.metrics,
            "cost": self.cost,
            "pictures": {"images": self.by_images, "hours": self.by_hours},
            "seeds": {"rule": RULE, "judged": self.judged},
            "pairs": self.pairs,
        }
        plain: dict[str, Any] = to_plain(named)
        return plain


def compare(runs: Sequence[RunFacts]) -> Comparison:
    """Compare runs. Unreadable ones are named in the result and left out of everything else."""
    named = _unique(runs)
    readable = tuple(run for run in named if run.readable)
    groups = settings.replicas(readable)
    metrics = NumberTable.of(row for run in readable for row in numbers.metrics(run))
    cost = NumberTable.of(map(cost_of, readable))
    at = tuple(_at(readable, budget) for budget in budgets.of(readable, "images"))
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
        pairs=pairs(readable, _paired(at, metrics)),
    )


def _paired(at: Sequence[AtBudget], metrics: NumberTable) -> list[tuple[str, NumberTable]]:
    """Every number of a pair: at the largest equal budget, and stored evaluations."""
    if not at:
        return [("", metrics)]
    kinds = {"loss ": at[0].components, "held-out ": at[0].held_out, "while training ": at[0].measured}
    return [*kinds.items(), ("monitor ", at[0].monitored), ("", metrics)]


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
    """Runs under different names: those of one name with their directories."""
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.path.resolve().parent.name}/{run.name}")
        if names.count(run.name) > 1
        else run
        for run in runs
    ]


RENAMED = {
    "measured": "evaluate",
    "monitored": "monitor",
    "bounds": "bound",
    "seeds": "numbers",
    "spreads": "settings",
}


def to_plain(value: Any) -> Any:
    """Facts of a comparison as JSON has them: dataclasses become objects, by the names of their fields."""
    match value:
        case RunFacts():
            return run_to_dict(value)
        case Apart():
            facts = [{"fact": fact, "here": here, "there": there} for fact, here, there in value.facts]
            return {"runs": list(value.runs), "others": list(value.others), "facts": facts}
        case Chosen():
            sheet = {"step": value.sheet.step, "path": str(value.sheet.path)}
            return {
                "run": value.run,
                **sheet,
                **{key: getattr(value, key) for key in ("images", "hours", "share")},
            }
        case SideBySide() if value.newest:
            return to_plain(value.sheets)
        case Bounds():
            return {**to_plain(value.table), "verdicts": to_plain(value.verdicts)}
        case Path():
            return str(value)
        case Mapping():
            return {key: to_plain(each) for key, each in value.items()}
        case list() | tuple():
            return [to_plain(each) for each in value]
        case _ if is_dataclass(value):
            left_out = {SideBySide: "newest", NumberRow: "basis"}.get(type(value))
            more = {"mean": value.mean, "deviation": value.deviation} if isinstance(value, Spread) else {}
            plain = {
                RENAMED.get(each.name, each.name): to_plain(getattr(value, each.name))
                for each in fields(value)
                if each.name != left_out
            }
            return plain | more
    return value


def run_to_dict(run: RunFacts) -> dict[str, Any]:
    """What a run is and how far it came."""
    record = run.record
    known = ("name", "id", "recipe", "status", "step", "steps", "fate")
    return {
        **{name: getattr(run, name) for name in known},
        "path": str(run.path),
        "seed": run.settings.get("train.seed"),
        "images": record.images_seen,
        "hours": record.hours_spent,
        "finite_images": int(record.reach("images")),
        "verdicts": list(run.verdicts),
        "problems": list(run.problems),
        "data_fingerprint": run.data.get("fingerprint"),
    }
