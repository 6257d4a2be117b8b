"""A comparison as plain values, for --json: the facts of the page under names that programs can rely on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from safelight.report.basis import Apart, NumberTable
from safelight.report.comparison import AtBudget, Comparison
from safelight.report.facts import RunFacts
from safelight.report.log import LogEntry
from safelight.report.pictures import Pictures, SideBySide
from safelight.report.seeds import RULE, Seeds


def plain(comparison: Comparison) -> dict[str, Any]:
    """Everything a comparison says. Lists of `columns` hold numbers that may be compared with each other."""
    return {
        "runs": [_run(run) for run in comparison.runs],
        "unreadable": [
            {"name": run.name, "path": str(run.path), "problems": list(run.problems)}
            for run in comparison.unreadable
        ],
        "settings": [asdict(one) for one in comparison.settings],
        "surroundings": [asdict(one) for one in comparison.surroundings],
        "interventions": [asdict(one) for one in comparison.edits],
        "replicas": [asdict(one) for one in comparison.replicas],
        "at": [_at(at) for at in comparison.at],
        "metrics": _told(comparison.metrics),
        "cost": _told(comparison.cost),
        "pictures": {"images": _pictures(comparison.by_images), "hours": _pictures(comparison.by_hours)},
        "seeds": {
            "rule": RULE,
            "judged": [
                {"what": one.what, "runs": list(one.runs), "numbers": [_seeds(own) for own in one.seeds]}
                for one in comparison.judged
            ],
        },
    }


def plain_log(entries: Sequence[LogEntry]) -> list[dict[str, Any]]:
    """The log, newest first."""
    return [
        {
            **_run(entry.run),
            "against": entry.before.name if entry.before else None,
            "relation": entry.relation,
            "changes": [asdict(one) for one in entry.changes],
            "interventions": [asdict(one) for one in entry.edits],
            "equal_images": entry.equal_images,
            "values": [asdict(one) for one in entry.values],
            "seconds_per_kimg": entry.seconds_per_kimg,
        }
        for entry in entries
    ]


def _run(run: RunFacts) -> dict[str, Any]:
    record = run.record
    return {
        "name": run.name,
        "path": str(run.path),
        "id": run.id,
        "recipe": run.recipe,
        "status": run.status,
        "seed": run.settings.get("train.seed"),
        "step": run.step,
        "steps": run.steps,
        "images": int(record.images[-1]) if len(record.images) else 0,
        "hours": float(record.hours[-1]) if len(record.hours) else 0.0,
        "finite_images": int(record.reach("images")),
        "fate": run.fate,
        "verdicts": list(run.verdicts),
        "problems": list(run.problems),
        "data_fingerprint": run.data.get("fingerprint"),
    }


def _at(at: AtBudget) -> dict[str, Any]:
    return {
        "budget": asdict(at.budget),
        "components": _told(at.components),
        "total": _told(at.total),
        "held_out": _told(at.held_out),
        "evaluate": _told(at.measured),
        "monitor": _told(at.monitored),
        "bound": {**_told(at.bounds.told), "verdicts": [asdict(one) for one in at.bounds.verdicts]},
    }


def _told(told: NumberTable) -> dict[str, Any]:
    return {
        "columns": [
            {
                "basis": dict(column.basis),
                "rows": [
                    {
                        "run": row.run,
                        "images": row.images,
                        "hours": row.hours,
                        "numbers": {name: asdict(own) for name, own in row.numbers.items()},
                    }
                    for row in column.rows
                ],
            }
            for column in told.columns
        ],
        "apart": _apart(told.apart),
    }


def _apart(reasons: Sequence[Apart]) -> list[dict[str, Any]]:
    return [
        {
            "runs": list(one.runs),
            "others": list(one.others),
            "facts": [{"fact": fact, "here": here, "there": there} for fact, here, there in one.facts],
        }
        for one in reasons
    ]


def _pictures(pictures: Pictures) -> dict[str, Any]:
    return {
        "pairs": [
            {
                "budget": asdict(pair.budget),
                "sheets": _sheets(pair),
                "without": list(pair.without),
            }
            for pair in pictures.pairs
        ],
        "newest": [_sheets(pair) for pair in pictures.newest],
        "apart": _apart(pictures.apart),
        "samplers": _apart(pictures.samplers),
    }


def _sheets(pair: SideBySide) -> list[dict[str, Any]]:
    return [
        {
            "run": one.run,
            "step": one.sheet.step,
            "path": str(one.sheet.path),
            "images": one.images,
            "hours": one.hours,
            "share": one.share,
        }
        for one in pair.sheets
    ]


def _seeds(seeds: Seeds) -> dict[str, Any]:
    return {
        "name": seeds.name,
        "settings": [
            {**asdict(spread), "mean": spread.mean, "deviation": spread.deviation} for spread in seeds.spreads
        ],
        "contrasts": [asdict(one) for one in seeds.contrasts],
    }
