"""Distances of samples to the data over training, each with its floor."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from safelight.render.figure_file import style
from safelight.render.history import Curve, History
from safelight.render.palette import INK, PENCIL, SAFELIGHT
from safelight.render.plot import SMALL, WIDTH, scale_values
from safelight.render.wording import count, number

PANEL = 2.2  # inches


def evaluated_figure(history: History) -> Figure:
    """A panel for each distance that was measured while training; needs at least one."""
    with style():
        figure = Figure(figsize=(WIDTH, PANEL * len(history.evaluated) + 0.6), layout="constrained")
        grid = figure.subplots(len(history.evaluated), 1, sharex=True, squeeze=False)
        for ax, curve in zip(grid[:, 0], history.evaluated, strict=True):
            _draw(ax, curve)
        axis = grid[-1, 0].xaxis
        grid[-1, 0].set_xlabel("step")
        axis.set_major_locator(MaxNLocator(integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: count(int(value))))
        figure.supxlabel(
            "dots: samples of that step · dashed: real images in their place · ring: best",
            fontsize=SMALL, color=PENCIL,
        )  # fmt: skip
    return figure


def _draw(ax: Axes, curve: Curve) -> None:
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
    ax.plot(finite.steps, finite.values, color=SAFELIGHT, marker="o", markersize=3, linewidth=1.2)
    best = int(np.argmin(finite.values))
    place = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "color": INK}
    ax.plot(finite.steps[best : best + 1], finite.values[best : best + 1], linestyle="none", **place)  # type: ignore[arg-type]
    notes.insert(0, f"best {number(float(finite.values[best]))} at step {count(int(finite.steps[best]))}")
    scale_values(ax, values)
    ax.set_title(" · ".join(notes), loc="right", fontsize=SMALL, color=PENCIL)
