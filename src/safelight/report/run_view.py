"""Facts -> the words and tables of a report. Pure; both templates print the same view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelight.config import flatten
from safelight.render.page import ReportTable
from safelight.render.trends import NEGLIGIBLE, SIGNIFICANT, Analysis, HeldOut, analyse, held_out
from safelight.render.wording import change_of, count, duration, number, plural, risen, told
from safelight.report.facts import Measurement, ReportFacts, SessionFacts

TREND_RULE = (
    "Trend: the mean of the last tenth of the recorded values against the tenth before it, ± one standard "
    f"error (batch means); falling or rising past {SIGNIFICANT:g} of them and {NEGLIGIBLE * 100:g} %. "
    "A falling adversarial loss is a loss that falls, not a better generator."
)


IDENTITY_RULE = (
    "With the same data, the same environment and these commands, the weights at that step have that digest. "
    "Another environment gives another run of the same kind: safelight says which of the two it was."
)


@dataclass(frozen=True)
class ReportView:
    """Everything the templates print apart from the figures."""

    key_figures: tuple[tuple[str, str], ...]  # (value, what it is)
    losses: ReportTable
    loss_notes: tuple[tuple[str, str], ...]  # (component, what its end says)
    skipped: str
    held_out: ReportTable
    held_out_notes: tuple[tuple[str, str], ...]
    bound: ReportTable
    measurements: ReportTable
    measured_with: tuple[tuple[str, str], ...]  # (which of them, what they rest on)
    environment: ReportTable
    sessions: ReportTable
    events: ReportTable
    recipe: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # (section, ((key, value), ...))
    identity: ReportTable
    trend_rule: str = TREND_RULE
    identity_rule: str = IDENTITY_RULE


def view(facts: ReportFacts) -> ReportView:
    """The words of a report."""
    analyses = [analyse(curve) for curve in facts.history.components]
    measured = [held_out(curve) for curve in facts.history.held_out]
    evaluations = _evaluations(facts.measurements)
    return ReportView(
        key_figures=_key_figures(facts),
        losses=_losses(analyses),
        loss_notes=tuple((analysis.curve.name, told(analysis)) for analysis in analyses),
        skipped=_skipped(facts),
        held_out=_held_out(measured),
        held_out_notes=tuple((own.curve.name, words) for own in measured if (words := risen(own))),
        bound=ReportTable(("held-out", "value", "what it means"), facts.rate.rows if facts.rate else ()),
        measurements=ReportTable(
            ("metric", "value", "real against real", "step"),
            tuple(
                (m.name, _measured(m), number(m.floor), evaluations[m.step, m.provenance])
                for m in facts.measurements
            ),
            numeric=1,
        ),
        measured_with=tuple((f"step {told}", provenance) for (_, provenance), told in evaluations.items()),
        environment=ReportTable(("what", "where"), environment_rows(facts.sessions)),
        sessions=_sessions(facts.sessions, facts.history.batch_size),
        events=ReportTable(
            ("step", "what", "change", "when"),
            tuple(
                (count(e.step), e.kind, e.label, e.when)
                for e in sorted(facts.history.events, key=lambda event: event.step)
                if e.kind != "checkpoint"
            ),
        ),
        recipe=recipe_sections(facts.recipe),
        identity=_identity(facts),
    )


def _evaluations(measurements: Sequence[Measurement]) -> dict[tuple[int | None, str], str]:
    """What each evaluation is called: its step, and of one that was evaluated again which time it was."""
    times: dict[int | None, int] = {}
    found = {}
    for step, provenance in dict.fromkeys((m.step, m.provenance) for m in measurements):
        times[step] = times.get(step, 0) + 1
        found[step, provenance] = count(step) + (f" ({times[step]})" if times[step] > 1 else "")
    return found


def environment_rows(sessions: Sequence[SessionFacts]) -> tuple[tuple[str, str], ...]:
    """(name, value), a value that changed between sessions with the sessions that had it."""
    names = dict.fromkeys(name for session in sessions for name in session.environment)
    rows = []
    for name in names:
        values: dict[str, list[str]] = {}
        for position, session in enumerate(sessions, start=1):
            values.setdefault(session.environment.get(name, "not recorded"), []).append(str(position))
        if len(values) == 1:
            rows.append((name, next(iter(values))))
        else:
            told_apart = (f"{value} (session {', '.join(where)})" for value, where in values.items())
            rows.append((name, "; ".join(told_apart)))
    return tuple(rows)


def recipe_sections(recipe: Mapping[str, Any]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """The recipe by section, keys dotted within it; values outside any section come first, under "recipe"."""
    loose = {name: value for name, value in recipe.items() if not isinstance(value, Mapping)}
    sections = [("recipe", loose)] if loose else []
    sections += [(name, flatten(value)) for name, value in recipe.items() if isinstance(value, Mapping)]
    return tuple(
        (name, tuple((key, _value(value)) for key, value in keys.items())) for name, keys in sections if keys
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_value(own)}" for key, own in value.items()) or "none"
    return str(value)


def _key_figures(facts: ReportFacts) -> tuple[tuple[str, str], ...]:
    figures = [
        (count(facts.step), f"of {plural(facts.planned_steps, 'step')}" if facts.planned_steps else "steps")
    ]
    if facts.step:
        figures.append((count(facts.images_seen), f"images seen, {facts.history.batch_size:,} a step"))
    if facts.step and facts.epochs is not None:
        figures.append((number(facts.epochs), f"epochs of {count(facts.history.dataset_size)} images"))
    if facts.sessions:
        figures.append((duration(facts.seconds), f"in {plural(len(facts.sessions), 'session')}"))
    if facts.seconds_per_kimg is not None:
        figures.append((f"{number(facts.seconds_per_kimg)} s", "per thousand images"))
    return tuple(figures)


def _losses(analyses: Sequence[Analysis]) -> ReportTable:
    rows = tuple(
        (
            a.curve.name,
            number(a.curve.weight),
            number(a.first),
            number(a.last),
            number(a.smallest),
            _step(a.smallest_step),
            number(a.smoothed_last),
            number(a.smoothed_smallest),
            *(("–", "–") if a.trend.verdict == "unknown" else (change_of(a.trend), a.trend.verdict)),
        )
        for a in analyses
    )
    head = ("component", "weight", "first", "last", "minimum", "at step",
            "last, smoothed", "minimum, smoothed", "last 10 %", "trend")  # fmt: skip
    return ReportTable(head, rows, numeric=1)


def _held_out(measured: Sequence[HeldOut]) -> ReportTable:
    rows = tuple(
        (
            own.curve.name,
            own.curve.unit or "loss",
            own.curve.better or "neither",
            number(own.first),
            number(own.best),
            _step(own.best_step),
            number(own.last),
        )
        for own in measured
    )
    return ReportTable(("held-out", "unit", "better", "first", "best", "at step", "last"), rows, numeric=3)


def _skipped(facts: ReportFacts) -> str:
    skipped = facts.skipped_steps
    if not skipped:
        return "No step was skipped." if facts.step else ""
    shown = ", ".join(count(step) for step in skipped[:8]) + (", …" if len(skipped) > 8 else "")
    verb = "was" if len(skipped) == 1 else "were"
    return f"{plural(len(skipped), 'step')} {verb} skipped because a gradient was not finite: {shown}."


def _sessions(sessions: Sequence[SessionFacts], batch_size: int) -> ReportTable:
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
    return ReportTable(head, tuple(rows))


def _identity(facts: ReportFacts) -> ReportTable:
    made = facts.reproduce
    rows = [
        ("seed", "" if made.seed is None else str(made.seed)),
        ("data fingerprint", made.data_fingerprint),
        ("weights digest", made.weights_digest),
        ("of the weights at step", "" if made.weights_step is None else count(made.weights_step)),
        ("safelight", made.code_version),
        ("replay", made.replay),
    ]
    return ReportTable(("what", "value"), tuple(row for row in rows if row[1]))


def _measured(measurement: Measurement) -> str:
    spread = measurement.spread
    return number(measurement.value) + ("" if spread is None else f" ± {number(spread)}")


def _step(step: int) -> str:
    return "–" if step < 0 else count(step)
