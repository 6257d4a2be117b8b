"""What a run's journal says of its health, in sentences and as marks on its curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from safelight.monitor.trial import told
from safelight.render.trends import Event
from safelight.render.wording import plural
from safelight.store.journal import Journal


def remarks(journal: Journal) -> tuple[str, ...]:
    """What checks found, monitors said and remedies did, a sentence or two each."""
    treated = tuple(told(entry.fields) for entry in journal.of_kind("remedy"))
    return (*_checked(journal), *_judged(journal), *treated)


def events(journal: Journal, done: int) -> Iterable[Event]:
    """What happened, in order. A verdict that holds reaches to the last of the steps done."""
    for place, entry in enumerate(journal.entries):
        when = at(entry.time)
        if entry.kind == "intervention":
            label = ", ".join(f"{key} = {value}" for key, value in entry.fields["changes"].items())
            yield Event(entry.fields["step"], "intervention", label, when)
        elif entry.kind == "session" and entry.session > 1 and entry.fields["step"] > 0:
            yield Event(entry.fields["step"], "resume", "resumed", when)
        elif entry.kind == "remedy":
            yield Event(entry.fields["at"], "remedy", _short(entry.fields), when)
        elif entry.kind == "verdict":
            label = entry.fields["name"] if entry.fields["begins"] else f"no longer: {entry.fields['name']}"
            ends = (later.fields["step"] for later in journal.entries[place + 1 :]
                    if later.kind == "verdict" and later.fields["name"] == entry.fields["name"])  # fmt: skip
            until = next(ends, done) if entry.fields["begins"] else None
            yield Event(entry.fields["step"], "verdict", label, when, until)


def _checked(journal: Journal) -> tuple[str, ...]:
    """What the checks before training found, a sentence each."""
    remarks = []
    for entry in journal.of_kind("check"):
        findings = entry.fields["findings"]
        looked = f"{plural(len(entry.fields['checks']), 'check')} before training"
        remarks.append(f"{looked}: {plural(len(findings), 'finding') if findings else 'no fault found'}.")
        for one in findings:
            reason = f" Expected by the recipe: {one['declared']}." if one["declared"] else ""
            told = f"{one['severity'].capitalize()} {one['code']}: {one['measured']}"
            remarks.append(f"{told}; expected {one['expected']}.{reason}")
    return tuple(remarks)


def _judged(journal: Journal) -> tuple[str, ...]:
    """The verdicts of the monitors, a sentence or two each."""
    remarks = []
    for entry in journal.of_kind("verdict"):
        own = entry.fields
        if own["begins"]:
            advice = "".join(f" {one['words'].capitalize()}: {one['command']}" for one in own["advice"][:1])
            remarks.append(
                f"Step {own['step']:,}: {own['name']}, showing since step {own['since']:,}: "
                f"{own['measured']}; expected {own['expected']}.{advice}"
            )
        else:
            remarks.append(f"Step {own['step']:,}: no longer: {own['name']}.")
    return tuple(remarks)


def _short(fields: Mapping[str, Any]) -> str:
    """What was decided on a remedy, as a mark on the curves has room for it."""
    event = fields["event"]
    if event == "given up":
        return "no remedy left"
    return str(fields["words"]) if event == "begun" else f"{fields['words']}: {event}"


def at(time: str) -> str:
    """A time of the journal, as it should be printed."""
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M %Z").strip()
