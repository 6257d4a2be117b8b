"""The best score of a search against its evaluations, a line each way, with the spread of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from safelight.render.figure_file import style
from safelight.render.lettering import BANDS, INK, PENCIL, SAFELIGHT
from safelight.render.plot import SMALL, WIDTH, number_axis
from safelight.render.wording import count, number, plural

SUMMED = "deviations above usual samples, summed"  # what several objectives are in one number
PLACES = 300  # of a line that are drawn


def search_figure(
    lines: Mapping[str, Sequence[NDArray[np.float64]]], score: str, usual: float | None = None
) -> Figure:
    """lines: by name, for each seed, the best so far after every evaluation. score: what it is, in words.

    usual: the best of as many samples as `explore.search.loop.USUAL`, a dotted line.
    """
    most = max(len(course) for seeds in lines.values() for course in seeds)
    seeds = max(map(len, lines.values()))
    with style():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        ax = figure.subplots()
        for position, (name, courses) in enumerate(lines.items()):
            colour = SAFELIGHT if len(lines) == 1 else BANDS[(3 * position) % len(BANDS)]
            shortest = min(map(len, courses))
            at = np.unique(np.geomspace(1, shortest, PLACES).round().astype(int))
            values = np.stack([seed[at - 1] for seed in courses])
            label = f"{name} · {number(float(values[:, -1].mean()))}"
            ax.plot(at, values.mean(0), color=colour, drawstyle="steps-post", label=label)
            if len(courses) > 1:
                band = values.min(0), values.max(0)
                ax.fill_between(at, *band, color=colour, alpha=0.18, linewidth=0, step="post")
        if usual is not None:
            ax.axhline(usual, color=INK, linewidth=0.7, linestyle=(0, (1, 2)))
        ax.set_xscale("log")
        ax.set_xlim(1, max(most, 2))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
        ax.xaxis.set_minor_formatter(NullFormatter())
        number_axis(ax.yaxis, 6)
        ax.set_xlabel("evaluations")
        ax.set_ylabel(score)
        ax.legend(loc="upper left", title="best so far", alignment="left")
        notes = [f"mean and range of {plural(seeds, 'seed')}"] if seeds > 1 else []
        if usual is not None:
            notes.append("dotted: the best of 128 samples")
        figure.supxlabel(" · ".join(notes), fontsize=SMALL, color=PENCIL)
    return figure


@dataclass(frozen=True)
class Plane:
    """Scores of points by two objectives."""

    names: tuple[str, str]
    usual: NDArray[np.float64]  # (n, 2) of samples
    front: NDArray[np.float64]  # (n, 2) that no other beats


def front_figure(plane: Plane) -> Figure:
    """The front of two objectives beside samples of the generator."""
    with style():
        figure = Figure(figsize=(WIDTH * 0.62, 3.8), layout="constrained")
        ax = figure.subplots()
        ax.plot(*plane.usual.T, "o", color=PENCIL, alpha=0.5, markersize=3, label="samples")
        steps = plane.front[plane.front[:, 0].argsort()]
        ax.plot(*steps.T, "-o", color=SAFELIGHT, linewidth=0.8, markersize=4, label="front")
        ax.set_xlabel(plane.names[0])
        ax.set_ylabel(plane.names[1])
        for axis in (ax.xaxis, ax.yaxis):
            number_axis(axis, 6)
        ax.legend(loc="best")
    return figure
