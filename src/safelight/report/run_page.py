"""The report of a run as a page: verdict first, then what it looks like, what it measured, what made it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from safelight.config import UserError
from safelight.monitor.stop import MEAN
from safelight.render.figures import evaluated_figure, rate_figure
from safelight.render.page import (
    Block,
    Definitions,
    Drawing,
    Notes,
    Page,
    PageSection,
    ReportTable,
    Text,
    Values,
)
from safelight.render.plot import held_out_figure, loss_figure
from safelight.render.trends import (
    NEGLIGIBLE,
    SIGNIFICANT,
    Ahead,
    Analysis,
    Curve,
    HeldOut,
    History,
    analyse,
    held_out,
)
from safelight.render.wording import change_of, count, describe, duration, number, plural, risen
from safelight.report.copies import copies_blocks
from safelight.report.facts import Measured, RunFacts
from safelight.report.forecasts import courses_of, forecasts_of
from safelight.report.history import MethodFacts, history_of
from safelight.report.run_drawings import development_blocks, panels_blocks, samples_blocks
from safelight.report.run_origin import Reproduce, recipe_sections, reproduce_blocks, sessions_blocks
from safelight.store.directory import RunDirectory

TREND_RULE = (
    "Trend: the mean of the last tenth of the recorded values, compared with the tenth before it, ± one "
    f"standard error (batch means); falling or rising past {SIGNIFICANT:g} of them and "
    f"{NEGLIGIBLE * 100:g} %. A falling adversarial loss is a loss that falls, not a better generator."
)


def run_page(run: RunFacts, method: MethodFacts, again: Reproduce, written: str = "") -> Page:
    """The report of a run. Draws its figures and reads its saved sheets; trains nothing."""
    history = replace(history_of(run, method), ahead=_ahead(run))
    recipe = {name: section for name, section in method.recipe.items() if name != "about"}
    sections: dict[str, Iterable[Block]] = {
        "Verdict": verdict_blocks(run, method),
        "Samples": samples_blocks(run),
        "Development": development_blocks(run),
        "Loss": _losses(run, history),
        "What it learned": _learned(method),
        "Held-out": _held_out(history),
        "Figures": panels_blocks(run),
        "Measurements": _measurements(run, history),
        "Copies": copies_blocks(run),
        "What ran, where, for how long": sessions_blocks(run, history),
        "Configuration": [Values(groups)] if (groups := recipe_sections(recipe)) else [],
        "Reproduce this run": reproduce_blocks(run, again),
    }
    return Page(
        mark="training report",
        title=run.name,
        summary=method.title,
        key_figures=tuple(key_figures(run)),
        written=written,
        sections=tuple(PageSection(title, tuple(blocks)) for title, blocks in sections.items()),
    )


def key_figures(run: RunFacts) -> Iterator[tuple[str, str]]:
    """(value, what it is) of what a report begins with."""
    yield count(run.step), f"of {plural(run.steps, 'step')}" if run.steps else "steps"
    if run.step:
        yield count(run.images_seen), f"images seen, {run.batch_size:,} a step"
    if run.step and run.dataset_size:
        yield number(run.images_seen / run.dataset_size), f"epochs of {count(run.dataset_size)} images"
    if run.sessions:
        yield duration(run.seconds), f"in {plural(len(run.sessions), 'session')}"
    if run.seconds_per_kimg is not None:
        yield f"{number(run.seconds_per_kimg)} s", "per thousand images"


def verdict_blocks(run: RunFacts, method: MethodFacts) -> list[Notes]:
    """Where the run stands, what its monitors and checks say, what its samples were measured at, what not."""
    judged = {entry.fields["name"] for entry in run.journal.of_kind("verdict")}
    held = [f"{name}{' (since before the fork)' * (name not in judged)}" for name in run.verdicts]
    checks = run.journal.of_kind("check")
    findings = [finding for entry in checks for finding in entry.fields["findings"]]
    errors = dict.fromkeys(
        finding["code"] for finding in findings if finding["severity"] == "error" and not finding["declared"]
    )
    lines = [
        f"{run.status.capitalize()}: {run.step:,} of {plural(run.steps, 'step')}.",
        f"Verdicts against it: {', '.join(held)}." if held else "The monitors have no verdict against it.",
    ]
    if errors:
        lines.append(f"Faults found by the pre-flight checks: {', '.join(errors)}.")
    if run.measured:
        last = max(metric.step for metric in run.measured)
        first = next(metric for metric in run.measured if metric.step == last)
        real = "" if math.isnan(first.floor) else f" (real images: {number(first.floor)})"
        lines.append(f"{first.name} of samples at step {last:,}: {number(first.value)}{real}.")
    if method.warning:
        lines.append(method.warning)
    recorded = {name.partition("/")[0] for name in run.record.columns}
    if not run.measured and "evaluate" not in recorded and method.draws:
        how = f"safelight evaluate {run.name} measures it."
        lines.append(f"Not measured: how far samples are from real images; {how}")
    if "held_out" not in recorded:
        settings = "(watch.held_out, data.held_out)"
        lines.append(f"Not measured: anything on images that were not trained on {settings}.")
    if not checks and not run.parent:
        why = "it was trained without checks."
        lines.append(f"Not measured: whether the recipe has a silent fault: {why}")
    return [Notes(tuple(lines))]


def _losses(run: RunFacts, history: History) -> list[Block]:
    blocks: list[Block] = []
    analyses = [analyse(curve) for curve in history.components]
    if analyses or history.learning_rates:
        caption = "Every loss component as it was recorded, before its weight, and the learning rate."
        blocks.append(Drawing("loss", caption, loss_figure(history)))
    if analyses:
        blocks.append(losses_table(analyses))
        blocks.append(Definitions(tuple((analysis.curve.name, describe(analysis)) for analysis in analyses)))
        blocks.append(Text(TREND_RULE, quiet=True))
    else:
        blocks.append(Text("No loss was recorded."))
    if run.step:
        blocks.append(Text(_skipped(run)))
    return blocks


def losses_table(analyses: Sequence[Analysis]) -> ReportTable:
    """Every loss component in numbers."""
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


def _skipped(run: RunFacts) -> str:
    steps = [int(run.record.steps[row]) for row in run.record.skipped if row >= run.record.inherited]
    if not steps:
        return "No step was skipped."
    shown = ", ".join(map(count, steps[:8])) + (", …" if len(steps) > 8 else "")
    verb = "was" if len(steps) == 1 else "were"
    return f"{plural(len(steps), 'step')} {verb} skipped because a gradient was not finite: {shown}."


def _learned(method: MethodFacts) -> list[Block]:
    """The bound of a variational autoencoder."""
    if not method.rate:
        return []
    caption = "KL and error on held-out images, from the first measurement to the last."
    return [
        ReportTable(("held-out", "value", "what it means"), method.rate.rows),
        Drawing("rate", caption, rate_figure(method.rate)),
    ]


def _held_out(history: History) -> list[Block]:
    if not history.held_out:
        return []
    measured = [held_out(curve) for curve in history.held_out]
    head = ("held-out", "unit", "better", "first", "best", "at step", "last")
    notes = tuple((value.curve.name, words) for value in measured if (words := risen(value)))
    blocks: list[Block] = []
    if any(len(curve.steps) > 1 for curve in history.held_out):  # one measurement is no course
        caption = "Measured on images that were never trained on."
        blocks.append(Drawing("held-out", caption, held_out_figure(history)))
    blocks.append(ReportTable(head, tuple(map(_held_out_row, measured)), numeric=3))
    if ahead := history.ahead.get(MEAN):
        values = number(ahead.end[1]), number(ahead.low), number(ahead.high)
        line = "Forecast of their mean at step {}: {} ({} to {}, in which four of five end)."
        blocks.append(Text(line.format(count(ahead.end[0]), *values)))
    return [*blocks, *([Definitions(notes)] if notes else [])]


def _ahead(run: RunFacts) -> dict[str, Ahead]:
    """How the mean of the held-out losses, and distances, are forecast to go on, by column."""
    with suppress(UserError):  # of a damaged run other things are said
        directory = RunDirectory(run.path)
        courses, made = courses_of(directory), forecasts_of(directory)
        return {
            name: Ahead(courses[name][-1], (ahead.step, ahead.value), ahead.low, ahead.high)
            for name, ahead in made.items()
        }
    return {}


def _held_out_row(value: HeldOut) -> tuple[str, ...]:
    curve: Curve = value.curve
    values = number(value.first), number(value.best), _step(value.best_step), number(value.last)
    return curve.name, curve.unit or "loss", curve.better or "neither", *values


def _measurements(run: RunFacts, history: History) -> list[Block]:
    """Distances while training, and the stored evaluations with what they rest on."""
    if not (run.measured or history.evaluated):
        return []
    blocks: list[Block] = []
    if history.evaluated:
        caption = "Samples measured while training: few, of the same noises and conditions at every step."
        blocks.append(Drawing("evaluated", caption, evaluated_figure(history)))
    if run.best:
        step, why = run.best
        blocks.append(Text(f"Best: step {step:,} ({why}), kept as the checkpoint 'best'."))
    if run.measured:
        evaluations = _evaluations(run.measured)
        rows = tuple(
            (
                metric.name,
                measured_value(metric),
                number(metric.floor),
                evaluations[metric.step, metric.provenance],
            )
            for metric in run.measured
        )
        blocks.append(ReportTable(("metric", "value", "real against real", "step"), rows, numeric=1))
        rests_on = tuple((f"step {called}", provenance) for (_, provenance), called in evaluations.items())
        blocks.append(Definitions(rests_on, "Measured with"))
    return blocks


def _evaluations(measured: Sequence[Measured]) -> dict[tuple[int, str], str]:
    """What each evaluation is called: its step, and of one that was evaluated again which time it was."""
    times: dict[int, int] = {}
    names = {}
    for step, provenance in dict.fromkeys((metric.step, metric.provenance) for metric in measured):
        times[step] = times.get(step, 0) + 1
        names[step, provenance] = count(step) + (f" ({times[step]})" if times[step] > 1 else "")
    return names


def measured_value(metric: Measured) -> str:
    """A measured value with its spread, where it has one."""
    return number(metric.value) + ("" if math.isnan(metric.spread) else f" ± {number(metric.spread)}")


def _step(step: int) -> str:
    return "–" if step < 0 else count(step)
