"""Rate and distortion: the KL a model pays and the error it leaves, over training, on lines of equal bpd*."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from safelight.render.facts import Rate
from safelight.render.figure_file import style
from safelight.render.palette import INK, PENCIL, SAFELIGHT
from safelight.render.plot import SMALL, WIDTH, scale_values
from safelight.render.wording import count, number

LINES = 9  # of equal bpd*


def rate_figure(rates: dict[str, Rate]) -> Figure:
    """The way of one run, or of several by name, to its last point, which is ringed. Needs a point."""
    with style():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        ax = figure.subplots()
        nats = np.concatenate([rate.nats for rate in rates.values()])
        errors = np.concatenate([rate.errors for rate in rates.values()])
        most = max(float(nats.max()) * 1.08, 1.0)
        low, high = float(errors.min()) / 1.2, float(errors.max()) * 1.2
        x, y = np.meshgrid(np.linspace(0, most, 160), np.geomspace(low, high, 160))
        values = next(iter(rates.values())).values
        bits = np.log2(2 * np.pi * np.e * y) / 2 + x / (values * np.log(2))
        lines = ax.contour(x, y, bits, LINES, colors=PENCIL, linewidths=0.5, linestyles=":")
        ax.clabel(lines, fmt=lambda level: number(float(level)), fontsize=SMALL)
        for name, rate in rates.items():
            ax.plot(rate.nats, rate.errors, color=SAFELIGHT, linewidth=1.0, marker="o", markersize=3)
            ax.plot(
                rate.nats[-1:], rate.errors[-1:], linestyle="none", marker="o", markersize=8,
                markerfacecolor="none", color=INK,
            )  # fmt: skip
            ax.annotate(
                name or f"step {count(int(rate.steps[-1]))}", (rate.nats[-1], rate.errors[-1]),
                xytext=(7, 7), textcoords="offset points", fontsize=SMALL, color=INK,
            )  # fmt: skip
        scale_values(ax, errors)
        ax.set_ylim(low, high)
        ax.set_xlim(0, most)
        ax.xaxis.set_major_locator(MaxNLocator(8))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        ax.set_xlabel("KL, nats an image")
        ax.set_ylabel("MSE")
        figure.supxlabel("dotted: equal bpd* · ring: the last measurement", fontsize=SMALL, color=PENCIL)
    return figure
