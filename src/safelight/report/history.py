"""The course of a run: its curves with the marks on them, and what its checks and monitors said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from safelight.monitor.trial import describe as describe_remedy
from safelight.render.figures import LearningRate
from safelight.render.trends import Curve, Event, History
from safelight.render.wording import plural
from safelight.report.facts import RunFacts, date
from safelight.report.records import MetricsRecord
from safelight.store.journal import Journal
from safelight.types import Unit


@dataclass(frozen=True)
class MethodFacts:
    """What the method of a run says of its records."""

    title: str = ""  # what was trained on what
    recipe: Mapping[str, Any] = field(default_factory=dict)  # resolved, nested by section
    warning: str = ""  # that a recipe which takes classes has met none
    draws: bool = True  # whether it generates images
    weights: Mapping[str, float] = field(default_factory=dict)  # of loss components, in force at the end
    units: Mapping[str, Unit] = field(default_factory=dict)  # of held-out values that are no losses
    equilibria: Mapping[str, float] = field(default_factory=dict)  # of components that balance each other
    rate: LearningRate | None = None  # of a variational autoencoder


def history_of(run: RunFacts, method: MethodFacts) -> History:
    """The curves and events of a run."""
    record = run.record
    return History(
        components=tuple(
            replace(
                _curve(record, f"raw/{name}", name),
                weight=weight,
                reference=method.equilibria.get(name),
                note="dotted: where neither network wins" if name in method.equilibria else "",
            )
            for name, weight in method.weights.items()
            if f"raw/{name}" in record.columns
        ),
        learning_rates=tuple(_curve(record, f"lr/{name}", name) for name in record.named("lr/")),
        held_out=tuple(
            replace(_curve(record, f"held_out/{name}", name), unit=unit, better=better)
            for name in record.named("held_out/")
            for unit, better in (method.units.get(name, ("", "less")),)
        ),
        evaluated=tuple(_evaluated(record)),
        events=tuple(_events(run)),
        batch_size=run.batch_size,
        dataset_size=run.dataset_size or None,
    )


def _curve(record: MetricsRecord, column: str, name: str) -> Curve:
    recorded = record.columns[column]
    return Curve(name, record.steps[recorded.rows], recorded.values)


def _evaluated(record: MetricsRecord) -> Iterator[Curve]:
    """The distances measured while training, with the floor of the last evaluation."""
    for name in record.named("evaluate/"):
        if name.startswith(("FD-", "FID", "KID")):  # of the others more is better, and coverage says little
            floors = record.columns.get(f"floor/{name}")
            reference = float(floors.values[-1]) if floors else None
            yield replace(_curve(record, f"evaluate/{name}", name), reference=reference)


def _events(run: RunFacts) -> Iterator[Event]:
    """What happened, in order. A verdict that holds reaches to the last of the steps done."""
    if run.parent:
        label = f"forked from {run.parent_name or 'another run'}"
        yield Event(run.parent.step, "fork", label, date(run.created))
    for place, entry in enumerate(run.journal.entries):
        when, fields = date(entry.time), entry.fields
        match entry.kind:
            case "intervention":
                changes = ", ".join(f"{key} = {value}" for key, value in fields["changes"].items())
                yield Event(fields["step"], "intervention", changes, when)
            case "session" if entry.session > 1 and fields["step"] > 0:
                yield Event(fields["step"], "resume", "resumed", when)
            case "remedy":
                yield Event(fields["at"], "remedy", _short(fields), when)
            case "verdict":
                label = fields["name"] if fields["begins"] else f"no longer: {fields['name']}"
                ends = (later.fields["step"] for later in run.journal.entries[place + 1 :]
                        if later.kind == "verdict" and later.fields["name"] == fields["name"])  # fmt: skip
                until = next(ends, run.step) if fields["begins"] else None
                yield Event(fields["step"], "verdict", label, when, until)


def _short(fields: Mapping[str, Any]) -> str:
    """A decision on a remedy, as short as a mark on the curves has room for."""
    event = fields["event"]
    if event == "given up":
        return "no remedy left"
    return str(fields["words"]) if event == "begun" else f"{fields['words']}: {event}"


def remarks(journal: Journal) -> Iterator[str]:
    """What checks found, monitors said and remedies did, a sentence or two each."""
    for entry in journal.of_kind("check"):
        checks, findings = len(entry.fields["checks"]), entry.fields["findings"]
        outcome = f"{checks} run, {plural(len(findings), 'finding')}" if findings else f"{checks} passed"
        yield f"Pre-flight checks: {outcome}."
        for finding in findings:
            reason = f" Expected by the recipe: {finding['declared']}." if finding["declared"] else ""
            summary = f"{finding['severity'].capitalize()} {finding['code']}: {finding['measured']}"
            yield f"{summary}; expected {finding['expected']}.{reason}"
    for entry in journal.of_kind("verdict"):
        fields = entry.fields
        if not fields["begins"]:
            yield f"Step {fields['step']:,}: no longer: {fields['name']}."
            continue
        advice = "".join(
            f" {remedy['words'].capitalize()}: {remedy['command']}" for remedy in fields["advice"][:1]
        )
        yield (
            f"Step {fields['step']:,}: {fields['name']}, showing since step {fields['since']:,}: "
            f"{fields['measured']}; expected {fields['expected']}.{advice}"
        )
    for entry in journal.of_kind("remedy"):
        yield describe_remedy(entry.fields)
