"""Curves of several runs in one panel, and numbers over seeds with the band within which all is chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from safelight.render.figure_file import style
from safelight.render.lettering import BANDS, INK, PENCIL, SAFELIGHT
from safelight.render.plot import SMALL, WIDTH, count_axis, number_axis, scale_values, thinned
from safelight.render.trends import Ahead, Curve, History, Series
from safelight.render.wording import count, number

COLOURS = (SAFELIGHT, *(BANDS[i] for i in (6, 3, 5, 7, 2, 0, 4)))  # neighbours are far apart in hue
DASHES = ("solid", (0, (4, 2)), (0, (1, 1.5)))  # for the second and third round through the colours
FAR = 100.0  # times the middle course of a panel: a run that diverged is named instead of drawn
FEW = 60  # points of a line that are drawn as dots too
LONGEST = 48  # letters of a label
PALE = "#efe3d3"  # the band of chance
PANEL = 2.2  # inches, of a metric's panel
RING = {"linestyle": "none", "marker": "o", "markersize": 8, "markerfacecolor": "none", "color": INK}
ROW = 0.27  # inches, of a setting in a figure of spreads


@dataclass(frozen=True)
class Line:
    """One run in a panel."""

    name: str
    x: Series
    y: Series
    group: int  # lines of a group share a colour: the seeds of one setting
    label: str = ""  # of the legend; the first line of a group has it


@dataclass(frozen=True)
class LinePanel:
    """A value over training, a line a run."""

    title: str
    lines: tuple[Line, ...]
    leading: bool = False  # the first line decides the scale; otherwise the middle one does


@dataclass(frozen=True)
class SpreadRow:
    """A number under one setting, over its seeds."""

    label: str
    values: tuple[float, ...]
    mean: float
    band: float  # around the mean of the reference; NaN where unknown, and of the reference itself
    note: str = ""


@dataclass(frozen=True)
class SpreadPanel:
    """One number, a row a setting."""

    title: str
    rows: tuple[SpreadRow, ...]  # the first is the reference


def lines_figure(panels: Sequence[LinePanel], x_title: str) -> Figure:
    """Panels one below another over a common axis; a legend names the groups."""
    with style():
        tall = 2.3 if len(panels) <= 2 else 1.6
        figure = Figure(figsize=(WIDTH, tall * len(panels) + 0.9), layout="constrained")
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for ax, panel in zip(grid[:, 0], panels, strict=True):
            ax.set_title(panel.title, loc="left")
            shown = on_scale([line.y for line in panel.lines], panel.leading)
            for line in (panel.lines[place] for place in shown):
                colour = COLOURS[line.group % len(COLOURS)]
                dashes = DASHES[line.group // len(COLOURS) % len(DASHES)]
                x, y = thinned(line.x, line.y)  # type: ignore[arg-type]
                dots = {"marker": "o", "markersize": 2.5} if len(x) <= FEW else {}
                (drawn,) = ax.plot(x, y, color=colour, linestyle=dashes, linewidth=1.2, alpha=0.9, **dots)
                if line.label:
                    drawn.set_label(short(line.label))
            note = scale_values(ax, np.concatenate([panel.lines[place].y for place in shown]))
            far = ", ".join(line.name for place, line in enumerate(panel.lines) if place not in shown)
            notes = (note, f"off the scale: {far}" if far else "")
            ax.set_title(" · ".join(filter(None, notes)), loc="right", fontsize=SMALL, color=PENCIL)
        bottom = grid[-1, 0]
        bottom.set_xlabel(x_title)
        bottom.set_xlim(left=0)
        number_axis(bottom.xaxis, 8)
        named: dict[str, Artist] = {}
        for ax in grid[:, 0]:
            handles, labels = ax.get_legend_handles_labels()
            named = {**dict(zip(labels, handles, strict=True)), **named}
        if len(named) > 1:
            columns = _legend_columns(list(named))
            figure.legend(list(named.values()), list(named), loc="outside lower left", ncols=columns)
    return figure


def on_scale(courses: Sequence[Series], leading: bool = False) -> list[int]:
    """Positions of the courses of finite values that can share an axis with the middle one, or the first.

    One whose middle is more than FAR times as large would flatten the others; with `leading` also one FAR
    times as small, which the first would flatten.
    """
    middles = [max(float(np.median(np.abs(values))), 1e-12) for values in courses]
    ordinary = middles[0] if leading else sorted(middles)[(len(middles) - 1) // 2]
    least = ordinary / FAR if leading else 0.0
    return [place for place, middle in enumerate(middles) if least <= middle <= FAR * ordinary]


def spreads_figure(panels: Sequence[SpreadPanel]) -> Figure:
    """A row a setting: seeds as dots, their mean a tick, the band of chance around the reference's mean."""
    heights = [ROW * len(panel.rows) + 0.55 for panel in panels]
    with style():
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.35), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for ax, panel in zip(grid[:, 0], panels, strict=True):
            _draw_spreads(ax, panel)
        notes = (
            "dots: seeds",
            "tick: their mean",
            "pale: within the seed spread of the first",
        )
        figure.supxlabel(" · ".join(notes), fontsize=SMALL, color=PENCIL)
    return figure


def _draw_spreads(ax: Axes, panel: SpreadPanel) -> None:
    shown = on_scale([np.array(row.values) for row in panel.rows])
    values = [value for place in shown for value in panel.rows[place].values]
    margin = 0.06 * (max(values) - min(values)) or 0.01 * abs(values[0]) or 1.0
    ax.set_title(panel.title, loc="left")
    ax.grid(visible=False)
    ax.set_xlim(min(values) - margin, max(values) + margin)
    ax.set_ylim(len(panel.rows) - 0.4, -0.6)
    reference = panel.rows[0].mean
    ax.axvline(reference, color=PENCIL, linewidth=0.7, linestyle=(0, (1, 2)))
    for place, row in enumerate(panel.rows):
        colour = SAFELIGHT if place else INK
        note = short(row.note)
        if place in shown:
            ax.plot(row.values, [place] * len(row.values), "o", color=colour, alpha=0.55, markersize=4)
            ax.plot([row.mean] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=1.6)
        else:
            note = f"off the scale: {number(row.mean)}"
        if row.band > 0 and 0 in shown:
            corner = reference - row.band, place - 0.36
            ax.add_patch(Rectangle(corner, 2 * row.band, 0.72, color=PALE, zorder=0))
        ax.annotate(
            note, (1.0, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=SMALL, color=PENCIL,
        )  # fmt: skip
    ax.set_yticks(range(len(panel.rows)), [short(row.label) for row in panel.rows])
    number_axis(ax.xaxis, 6)


def short(label: str) -> str:
    """A label in at most LONGEST letters, so that it leaves room for what it labels."""
    return label if len(label) <= LONGEST else label[: LONGEST - 1].rstrip() + "…"


def _legend_columns(labels: Sequence[str]) -> int:
    """As many columns as fit the width of a figure."""
    widest = max(map(len, labels), default=1)
    return max(1, min(len(labels), round(150 / (widest + 6))))


LINES = 9  # of equal bpd*


def rate_figure(rate: LearningRate) -> Figure:
    """The way of a run to its last point, which is ringed. Needs a point."""
    with style():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        ax = figure.subplots()
        nats, errors = rate.nats, rate.errors
        most = max(float(nats.max()) * 1.08, 1.0)
        low, high = float(errors.min()) / 1.2, float(errors.max()) * 1.2
        x, y = np.meshgrid(np.linspace(0, most, 160), np.geomspace(low, high, 160))
        bits = np.log2(2 * np.pi * np.e * y) / 2 + x / (rate.values * np.log(2))
        lines = ax.contour(x, y, bits, LINES, colors=PENCIL, linewidths=0.5, linestyles=":")
        ax.clabel(lines, fmt=lambda level: number(float(level)), fontsize=SMALL)
        ax.plot(nats, errors, color=SAFELIGHT, linewidth=1.0, marker="o", markersize=3)
        ax.plot(nats[-1:], errors[-1:], **RING)  # type: ignore[arg-type]
        ax.annotate(
            f"step {count(int(rate.steps[-1]))}", (nats[-1], errors[-1]),
            xytext=(7, 7), textcoords="offset points", fontsize=SMALL, color=INK,
        )  # fmt: skip
        scale_values(ax, errors)
        ax.set_ylim(low, high)
        ax.set_xlim(0, most)
        number_axis(ax.xaxis, 8)
        ax.set_xlabel("KL, nats an image")
        ax.set_ylabel("MSE")
        figure.supxlabel("dotted: equal bpd* · ring: the last measurement", fontsize=SMALL, color=PENCIL)
    return figure


def evaluated_figure(history: History) -> Figure:
    """A panel for each distance that was measured while training; needs at least one."""
    with style():
        figure = Figure(figsize=(WIDTH, PANEL * len(history.evaluated) + 0.6), layout="constrained")
        grid = figure.subplots(len(history.evaluated), 1, sharex=True, squeeze=False)
        for ax, curve in zip(grid[:, 0], history.evaluated, strict=True):
            _draw(ax, curve, history.ahead.get(f"evaluate/{curve.name}"))
        grid[-1, 0].set_xlabel("step")
        count_axis(grid[-1, 0].xaxis)
        figure.supxlabel(
            "dots: samples of that step · dashed: real against real images · ring: best",
            fontsize=SMALL, color=PENCIL,
        )  # fmt: skip
    return figure


def _draw(ax: Axes, curve: Curve, ahead: Ahead | None = None) -> None:
    ax.set_title(curve.name, loc="left")
    finite = curve.finite()
    values = finite.values
    if not len(values):
        ax.set_yticks([])
        return
    notes = []
    if curve.reference is not None:
        ax.axhline(curve.reference, color=INK, linewidth=0.7, linestyle=(0, (4, 2)))
        notes.append(f"floor {number(curve.reference)}")
        values = np.append(values, curve.reference)
    if ahead:
        ax.plot(*zip(ahead.begin, ahead.end, strict=True), color=INK, linestyle=":")
        ax.vlines(ahead.end[0], ahead.low, ahead.high, color=INK)
        notes.append(f"forecast {number(ahead.end[1])} ({number(ahead.low)} to {number(ahead.high)})")
        values = np.append(values, [ahead.low, ahead.high])
    ax.plot(finite.steps, finite.values, color=SAFELIGHT, marker="o", markersize=3, linewidth=1.2)
    best = int(np.argmin(finite.values))
    ax.plot(finite.steps[best : best + 1], finite.values[best : best + 1], **RING)  # type: ignore[arg-type]
    notes.insert(0, f"best {number(float(finite.values[best]))} at step {count(int(finite.steps[best]))}")
    scale_values(ax, values)
    ax.set_title(" · ".join(notes), loc="right", fontsize=SMALL, color=PENCIL)


@dataclass(frozen=True)
class LearningRate:
    """What a variational autoencoder learned: its numbers with what they mean, and the way there."""

    rows: tuple[tuple[str, str, str], ...]  # (what, value, what it means)
    steps: NDArray[np.int64]  # (n,) at which it was measured
    nats: NDArray[np.float64]  # (n,) KL
    errors: NDArray[np.float64]  # (n,) MSE, of pixel values in [0, 1]
    values: int  # pixel values of an image
