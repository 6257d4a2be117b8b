"""Curves: each loss component raw and smoothed, learning rates, held-out loss by noise band.

Figures are made through matplotlib's object interface: nothing of pyplot, no global state left changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from safelight.render.figure_file import style
from safelight.render.lettering import BANDS, EVENTS, INK, PAPER, PENCIL, RAW, SAFELIGHT
from safelight.render.trends import Curve, Event, History, Series, Steps, default_half_life, smooth
from safelight.render.wording import count, number, plural

WIDTH = 8.6  # inches
POINTS = 1200  # of a raw curve; past it the range in each bin is drawn instead
SMALL = 7.0  # points: letters of notes and event labels
LANES, LANE, ABOVE = 4, 10.5, 19.0  # rows of event labels, points between them, points above the curves
COVER = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}  # keeps lines from crossing letters
Scale = Literal["log", "symlog", "linear"]


def loss_figure(history: History) -> Figure:
    """Every component against step, one panel each, with learning rates below and events across all.

    The raw values are faint (past POINTS of them, the range in each bin); the line is `smooth` with
    `default_half_life`. A log axis where all values are positive; see `axis_scale` for the others.
    """
    components, rates = history.components, history.learning_rates
    heights = [2.4 if len(components) <= 2 else 1.7] * len(components) + [1.0] * bool(rates)
    with style():
        if not heights:
            return _empty("No metrics were recorded.")
        figure = Figure(figsize=(WIDTH, sum(heights) + 1.5), layout="constrained")
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        axes: list[Axes] = list(grid[:, 0])
        for ax, curve in zip(axes, components, strict=False):
            _draw_component(ax, curve)
        if rates:
            _draw_learning_rates(axes[-1], rates)
        first, last = _span([*components, *rates])
        axes[-1].set_xlim(first, max(last, first + 1))
        _label_steps(axes[-1], history)
        events = [event for event in history.events if first <= event.step <= last]
        unnamed = _draw_events(axes, events, first, last)
        if components:
            half_life = max(default_half_life(curve.steps) for curve in components)
            steps = f"{number(half_life)} {'step' if half_life == 1 else 'steps'}"
            notes = ["faint: raw values", f"line: two-sided exponential average, half-life {steps}"]
            if any(event.kind == "checkpoint" for event in events):
                notes.append("ticks: checkpoints")
            if unnamed:
                notes.append(f"{plural(unnamed, 'line')} without room for a name")
            figure.supxlabel(" · ".join(notes), fontsize=SMALL, color=PENCIL)
    return figure


def held_out_figure(history: History) -> Figure:
    """Held-out values, a panel a unit, a colour a value."""
    units: dict[str, list[Curve]] = {}
    for curve in history.held_out:
        if len((finite := curve.finite()).steps):
            units.setdefault(curve.unit, []).append(finite)
    with style():
        if not units:
            return _empty("Nothing was measured on held-out data.")
        figure = Figure(
            figsize=(WIDTH, 3.4 if len(units) == 1 else 1.9 * len(units) + 0.8), layout="constrained"
        )
        axes: list[Axes] = list(figure.subplots(len(units), 1, sharex=True, squeeze=False)[:, 0])
        for ax, (unit, measured) in zip(axes, units.items(), strict=True):
            for position, band in enumerate(measured):
                colour = BANDS[position % len(BANDS)]
                ax.plot(band.steps, band.values, color=colour, marker="o", markersize=3, label=band.name)
            drawn = [band.values for band in measured]
            if (ahead := history.ahead.get("held_out/mean")) and not unit:
                steps, values = zip(ahead.begin, ahead.end, strict=True)
                ax.plot(steps, values, color=INK, linestyle=":", label="forecast of the mean")
                ax.vlines(ahead.end[0], ahead.low, ahead.high, color=INK)
                drawn.append(np.array([ahead.low, ahead.high]))
            scale_values(ax, np.concatenate(drawn))
            ax.set_ylabel(unit or "loss")
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="held-out", alignment="left")
        axes[0].set_xlim(left=min(int(band.steps[0]) for bands in units.values() for band in bands))
        _label_steps(axes[-1], history)
    return figure


def axis_scale(values: Series) -> tuple[Scale, float]:
    """The scale of an axis for finite values, and the bound within which a symlog axis is linear (else 0).

    "log" where all are positive; where some are not, "symlog" if the greatest size is over 30 times the
    median size, linear within that median, else "linear".
    """
    if len(values) and np.all(values > 0):
        return "log", 0.0
    sizes = np.abs(values[values != 0])
    middle = float(np.median(sizes)) if len(sizes) else 0.0
    if middle and float(np.max(sizes)) > 30 * middle:
        return "symlog", float(f"{middle:.1g}")
    return "linear", 0.0


def envelope(steps: Steps, values: Series, bins: int) -> tuple[Steps, Series, Series]:
    """(first step, least value, greatest value) of each of `bins` runs of neighbouring values."""
    edges = np.linspace(0, len(steps), bins + 1).astype(int)[:-1]
    return steps[edges], np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)


def thinned(steps: Steps, values: Series) -> tuple[Steps, Series]:
    """At most POINTS evenly spaced entries, the first and the last among them."""
    if len(steps) <= POINTS:
        return steps, values
    points = np.linspace(0, len(steps) - 1, POINTS).round().astype(int)
    return steps[points], values[points]


def lanes(spans: Iterable[tuple[float, float]], rows: int) -> list[int | None]:
    """For each (left, right), ascending in left, the lowest row where it overlaps nothing; None if all do."""
    ends = [-np.inf] * rows
    placed: list[int | None] = []
    for left, right in spans:
        row = next((row for row in range(rows) if ends[row] <= left), None)
        placed.append(row)
        if row is not None:
            ends[row] = right
    return placed


def _draw_component(ax: Axes, curve: Curve) -> None:
    ax.set_title(curve.name, loc="left", bbox=COVER)
    finite = curve.finite()
    if not len(finite.steps):
        ax.set_yticks([])
        why = "never recorded" if not len(curve.steps) else "no finite value"
        ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=PENCIL)
        return
    smoothed = smooth(finite.steps, finite.values, default_half_life(curve.steps))
    if len(finite.steps) > POINTS:
        steps, low, high = envelope(finite.steps, finite.values, POINTS // 2)
        ax.fill_between(steps, low, high, color=RAW, alpha=0.38, linewidth=0)
    else:
        ax.plot(finite.steps, finite.values, color=RAW, alpha=0.7, linewidth=0.6)
    ax.plot(*thinned(finite.steps, smoothed), color=SAFELIGHT, linewidth=1.4)
    notes = [scale_values(ax, finite.values), curve.note]
    if curve.reference is not None:
        ax.axhline(curve.reference, color=INK, linewidth=0.7, linestyle=(0, (1, 2)))
    broken = curve.steps[~np.isfinite(curve.values)]
    if len(broken):
        place = ax.get_xaxis_transform()
        ax.plot(broken, np.full(len(broken), 0.04), "x", color=INK, markersize=4, transform=place)
        notes.append(f"× not finite at {plural(len(broken), 'step')}")
    if curve.weight is not None:
        notes.append(f"weight {number(curve.weight)}")
    notes.append(f"last, smoothed {number(float(smoothed[-1]))}")
    ax.set_title(" · ".join(filter(None, notes)), loc="right", fontsize=SMALL, color=PENCIL, bbox=COVER)


def _draw_learning_rates(ax: Axes, rates: Sequence[Curve]) -> None:
    ax.set_title("learning rate", loc="left")
    for position, rate in enumerate(rates):
        finite = rate.finite()
        colour = INK if len(rates) == 1 else BANDS[(3 * position) % len(BANDS)]
        steps, values = thinned(finite.steps, finite.values)
        ax.plot(steps, values, color=colour, linewidth=1.1, label=rate.name)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    if len(rates) > 1:
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(rates), borderaxespad=0.1)


def _draw_events(axes: Sequence[Axes], events: Sequence[Event], first: int, last: int) -> int:
    """A line through every panel; labels above the first, in rows, so that none covers another.

    Returns the number of labels for which there was no room.
    """
    for kind in dict.fromkeys(event.kind for event in events):
        steps = [event.step for event in events if event.kind == kind]
        # Checkpoints are many: a tick on the axis instead of a line.
        height, dashes = (0.05, "solid") if kind == "checkpoint" else (1.0, (0, (3, 2)))
        for ax in axes:
            across = [((step, 0.0), (step, height)) for step in steps]
            lines = LineCollection(across, colors=EVENTS[kind], linewidths=0.8, linestyles=[dashes])
            lines.set_transform(ax.get_xaxis_transform())
            ax.add_collection(lines, autolim=False)
    for event in events:
        if event.until is not None:
            for ax in axes:
                ax.axvspan(event.step, event.until, color=EVENTS[event.kind], alpha=0.07, linewidth=0)
    breadth = (WIDTH - 0.9) * 72  # points, about the width of a panel
    labels = []
    for event in events:
        if event.label and event.kind != "checkpoint":
            x = (event.step - first) / max(1, last - first) * breadth
            width = (len(event.label) + 2) * 0.58 * SMALL
            left = x if x + width < breadth else x - width  # leftwards of its line at the right edge
            labels.append((left, left + width, left < x, event))
    labels.sort(key=lambda label: label[:2])
    rows = lanes([label[:2] for label in labels], LANES)
    for (_, _, leftwards, event), row in zip(labels, rows, strict=True):
        if row is None:
            continue
        colour, up = EVENTS[event.kind], ABOVE + row * LANE
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes[0].annotate(
            event.label, (event.step, 1.0), xytext=(-3 if leftwards else 3, up), fontsize=SMALL, color=colour,
            ha="right" if leftwards else "left", bbox=COVER, zorder=4, **place,
        )  # fmt: skip
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkB": 0}
        axes[0].annotate("", (event.step, 1.0), xytext=(0, up + SMALL), arrowprops=line, zorder=2, **place)
    return rows.count(None)


def scale_values(ax: Axes, values: Series) -> str:
    """Scale and ticks of the value axis for finite values; a note where it is not plainly logarithmic."""
    scale, within = axis_scale(values)
    if scale == "symlog":
        ax.set_yscale("symlog", linthresh=within)
        note = f"linear within ±{number(within)}, logarithmic beyond: values reach 0 or below"
    else:
        ax.set_yscale(scale)
        note = "" if scale == "log" else "linear axis: values reach 0 or below"
        if scale == "linear" or np.max(values) < 8 * np.min(values):
            ax.yaxis.set_major_locator(MaxNLocator(4))
        elif np.max(values) < 300 * np.min(values):
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        else:
            ax.yaxis.set_major_locator(LogLocator(numticks=5))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return note


def _label_steps(ax: Axes, history: History) -> None:
    """The step axis, and below it the same in epochs, or in thousands of images where an epoch is unknown."""
    ax.set_xlabel("step", labelpad=1)
    count_axis(ax.xaxis, 8)
    unit = (history.dataset_size or 1000) / history.batch_size
    both = (lambda step: np.divide(step, unit), lambda seen: np.multiply(seen, unit))
    second = ax.secondary_xaxis("bottom", functions=both)
    second.spines["bottom"].set_position(("outward", 30))
    second.set_xlabel("epochs" if history.dataset_size else "thousand images seen", labelpad=1)
    number_axis(second.xaxis, 8)


def number_axis(axis: Axis, most: int) -> None:
    """At most so many ticks and one, written as numbers."""
    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def count_axis(axis: Axis, most: int | Literal["auto"] = "auto") -> None:
    """Whole numbers, such as steps."""
    axis.set_major_locator(MaxNLocator(most, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))


def _span(curves: Iterable[Curve]) -> tuple[int, int]:
    steps = [curve.steps for curve in curves if len(curve.steps)]
    return (min(int(s[0]) for s in steps), max(int(s[-1]) for s in steps)) if steps else (0, 1)


def _empty(text: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=PENCIL)
    return figure
