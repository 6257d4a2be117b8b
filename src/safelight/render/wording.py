"""Numbers as people read them, and a loss analysis in sentences."""

from __future__ import annotations

import math

from safelight.render.trends import Analysis, HeldOut, Trend

NBSP = "\u00a0"  # keeps a number and its unit on one line
MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds


def number(value: float | None) -> str:
    """Four significant digits: "0.04123", "18,250", "3.1e-05"; a dash for None or NaN."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", "−")
    mantissa, e, exponent = f"{value:.4g}".partition("e")
    return mantissa.replace("-", "−") + e + exponent


def with_error(value: float, error: float) -> str:
    """ "0.714 ± 0.014": the error to two digits, the value as far; without one where there is none."""
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return number(value)
    places = 1 - math.floor(math.log10(error))
    if not 0 <= places <= 6:
        return f"{number(value)} ± {number(float(f'{error:.2g}'))}"
    return f"{value:,.{places}f} ± {error:,.{places}f}".replace("-", "−")


def count(value: int | None) -> str:
    """"1,234,567"; a dash for None."""  # fmt: skip
    return "–" if value is None else f"{value:,}"


def percent(share: float) -> str:
    """A signed share: "−3.1 %", "+12 %"; a dash for NaN."""
    if math.isnan(share):
        return "–"
    digits = 0 if abs(share) >= 0.1 else 1 if abs(share) >= 0.001 else 2
    return f"{share * 100:+.{digits}f}{NBSP}%".replace("-", "−")


def duration(seconds: float) -> str:
    """The two largest units: "42 s", "12 min 5 s", "3 h 12 min", "2 d 3 h"."""
    total = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if total < MINUTE:
        return f"{total} s"
    if total < HOUR:
        return f"{total // MINUTE} min {total % MINUTE} s"
    if total < DAY:
        return f"{total // HOUR} h {total % HOUR // MINUTE} min"
    return f"{total // DAY} d {total % DAY // HOUR} h"


def plural(amount: int, noun: str) -> str:
    """"1 step", "1,200 steps"."""  # fmt: skip
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def change_of(trend: Trend) -> str:
    """The change ± its standard error: shares of the mean before, or plain numbers where that is near 0."""
    if abs(trend.before) <= 2 * trend.error:
        return f"{number(trend.change)} ± {number(trend.error)}"
    return f"{percent(trend.relative)} ± {percent(trend.error / abs(trend.before)).lstrip('+')}"


def describe(analysis: Analysis) -> str:
    """What the end of a loss component says, in a sentence or two; its name is not in it."""
    recorded = len(analysis.curve.values)
    if analysis.smallest_step < 0:
        return f"No finite value in {plural(recorded, 'recorded step')}." if recorded else "Never recorded."
    trend = analysis.trend
    if trend.verdict == "unknown":
        sentence = f"Only {plural(recorded, 'recorded step')}: too few for a trend."
    else:
        before, last = number(trend.before), number(trend.last)
        words = {
            "falling": f"Still falling at the end: its mean went from {before} to {last}",
            "flat": f"Flat within its noise: its mean was {before}, then {last}",
            "rising": f"Rising at the end: its mean went from {before} to {last}",
        }[trend.verdict]
        sentence = f"{words} over the last 10{NBSP}% ({change_of(trend)})."
    if len(analysis.not_finite):
        first = count(int(analysis.not_finite[0]))
        sentence += f" Not finite at {plural(len(analysis.not_finite), 'step')}, first at step {first}."
    return sentence


def risen(measured: HeldOut) -> str:
    """How far a held-out value is from its best again, in a sentence; "" where it is not."""
    if math.isnan(measured.last):
        return "No finite value."
    if measured.best_step < 0 or not measured.regression > 0.02:
        return ""
    share = percent(measured.regression).lstrip("+")
    where = "above its minimum" if measured.curve.better == "less" else "below its maximum"
    return f"At the end {share} {where} at step {count(measured.best_step)}."
