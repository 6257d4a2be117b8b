"""What made a run, as blocks of its report: sessions and events, its recipe, and how to repeat it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelight.config import flatten
from safelight.render.page import Block, Commands, Notes, ReportTable, Text, Values
from safelight.render.trends import History
from safelight.render.wording import count, duration, number
from safelight.report.facts import RunFacts, SessionFacts
from safelight.report.history import remarks

IDENTITY_RULE = (
    "The same data, environment and commands give weights with this digest at this step. In another "
    "environment the run is similar but not bit-identical; safelight reports which it was."
)


@dataclass(frozen=True)
class Reproduce:
    """How to make a run again, and how to know that it is the same."""

    commands: tuple[str, ...] = ()  # in order, exactly as typed
    digest: str = ""  # of the weights of a checkpoint
    step: int | None = None  # of that checkpoint
    replay: str = ""  # what reaching any other step takes


def sessions_blocks(run: RunFacts, history: History) -> list[Block]:
    blocks: list[Block] = []
    if run.sessions:
        blocks += [
            Values((("", environment_rows(run.sessions)),)),
            sessions_table(run.sessions, run.batch_size),
        ]
    else:
        blocks.append(Text("No session was recorded."))
    events = sorted(history.events, key=lambda event: event.step)
    rows = tuple((count(event.step), event.kind, event.label, event.when) for event in events)
    if rows:
        blocks.append(ReportTable(("step", "what", "change", "when"), rows, title="Interventions and events"))
    else:
        blocks.append(Text("No settings were changed during training."))
    lines = (*remarks(run.journal), *run.problems, *_mask_shares(run.data))
    return [*blocks, *([Notes(lines, "Checks and monitors")] if lines else [])]


def environment_rows(sessions: Sequence[SessionFacts]) -> tuple[tuple[str, str], ...]:
    """(name, value), a value that changed between sessions with the sessions that had it."""
    names = dict.fromkeys(name for session in sessions for name in session.environment)
    rows = []
    for name in names:
        values: dict[str, list[str]] = {}
        for position, session in enumerate(sessions, start=1):
            values.setdefault(str(session.environment.get(name, "not recorded")), []).append(str(position))
        several = (f"{value} (session {', '.join(where)})" for value, where in values.items())
        rows.append((name, "; ".join(several) if len(values) > 1 else next(iter(values))))
    return tuple(rows)


def sessions_table(sessions: Sequence[SessionFacts], batch_size: int) -> ReportTable:
    """Every start of the trainer, and what its steps cost."""
    rows = []
    for position, session in enumerate(sessions, start=1):
        kimg = (session.last_step - session.first_step) * batch_size / 1000
        rows.append(
            (
                str(position),
                session.started,
                f"{count(session.first_step)}–{count(session.last_step)}",
                duration(session.seconds),
                duration(session.training_seconds),
                number(session.training_seconds / kimg) if kimg > 0 else "–",
                session.ended,
            )
        )
    head = ("session", "started", "steps", "wall time", "in steps", "s / kimg", "ended")
    return ReportTable(head, tuple(rows), title="Sessions")


def _mask_shares(data: Mapping[str, Any]) -> Iterator[str]:
    """How much of the training pixels is of each class of the masks."""
    if shares := data.get("mask_shares"):
        names = data["conditions"]["mask"]["names"] or [f"class {number}" for number in range(len(shares))]
        parts = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True))
        yield f"Share of the training pixels: {parts}."


def recipe_sections(recipe: Mapping[str, Any]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """The recipe by section, keys dotted within it; values outside any section come first, under "recipe"."""
    loose = {name: value for name, value in recipe.items() if not isinstance(value, Mapping)}
    sections = [("recipe", loose)] if loose else []
    sections += [(name, flatten(value)) for name, value in recipe.items() if isinstance(value, Mapping)]
    return tuple(
        (name, tuple((key, _setting(value)) for key, value in keys.items()))
        for name, keys in sections
        if keys
    )


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_setting, value)) + "]"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_setting(inner)}" for key, inner in value.items()) or "none"
    return str(value)


def reproduce_blocks(run: RunFacts, again: Reproduce) -> list[Block]:
    blocks: list[Block] = [Commands(again.commands)] if again.commands else []
    code = " ".join(f"{name} {value}" for name, value in flatten(run.code).items())
    rows = (
        ("seed", str(run.settings.get("train.seed", ""))),
        ("data fingerprint", str(run.data.get("fingerprint", ""))),
        ("weights digest", again.digest),
        ("step of the weights", "" if again.step is None else count(again.step)),
        ("safelight", code),
        ("replay", again.replay),
    )
    if known := tuple(row for row in rows if row[1]):
        blocks += [Values((("", known),)), Text(IDENTITY_RULE, quiet=True)]
    return blocks
