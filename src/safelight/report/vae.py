"""What variational autoencoders learned, each and beside others, by numbers that are free of their weights.

A total of w mse + KL says nothing beside one of another w: bpd* is the bound of both at their best σ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from safelight.config import UserError
from safelight.functional import elbo
from safelight.render.sheet import Images
from safelight.render.sheet_file import read_sheet
from safelight.render.wording import number
from safelight.report import numbers
from safelight.report.basis import Number, NumberRow, NumberTable
from safelight.report.budgets import Budget
from safelight.report.facts import RunFacts
from safelight.report.records import MetricsRecord

if TYPE_CHECKING:
    from safelight.recipe import Recipe
    from safelight.render.figures import LearningRate
    from safelight.types import DataSpec

BITS, ERROR, NATS, UNITS, SIGMA = "bpd*", "mse", "kl", "active units", "sigma"
NEAR = 0.002  # bits a pixel value that decide nothing: batches of a few hundred images differ by as much
PANEL = "reconstructions"  # of methods/vae.py


@dataclass(frozen=True)
class Ranking:
    """Runs of one table, the best first, and why."""

    runs: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """Numbers of the bound at an equal budget, those in one column of the same images and averages."""

    table: NumberTable = field(default_factory=NumberTable)
    verdicts: tuple[Ranking, ...] = ()


def bounds(runs: Sequence[RunFacts], given: Budget) -> Bounds:
    """Runs that measured bpd*, as they last did within a budget."""
    rows = [_row(run, given) for run in runs if BITS in run.record.named("held_out/")]
    table = NumberTable.of(row for row in rows if BITS in row.numbers)
    by_name = {run.name: run for run in runs}
    verdicts = [_verdict(column.rows, by_name) for column in table.columns if len(column.rows) > 1]
    return Bounds(table, tuple(verdicts))


def _row(run: RunFacts, given: Budget) -> NumberRow:
    """The method's own definition does not matter here: the numbers are the same of any σ and any weight."""
    row = numbers.held_out(run, given)
    basis = {fact: value for fact, value in row.basis.items() if not fact.startswith("method.")}
    order = (BITS, ERROR, NATS, UNITS)
    values = {name: row.numbers[name] for name in order if name in row.numbers}
    sigma = numbers.latest_at(run, "seen/sigma", given)
    return replace(row, basis=basis, numbers={**values, SIGMA: Number(sigma)} if values else {})


def _verdict(rows: Sequence[NumberRow], runs: dict[str, RunFacts]) -> Ranking:
    """Which is the better model, and why."""
    ordered = sorted(rows, key=lambda row: row.numbers[BITS].value)
    best = ordered[0]
    words = [_better(best, other) for other in ordered[1:]]
    words += [_collapsed(row) for row in ordered if row.numbers[UNITS].value < 1]
    if len({_weight(row, runs[row.run]) for row in rows}) > 1:
        stands = "; ".join(
            f"{row.run} {number(_weight(row, runs[row.run]))}, σ = {number(row.numbers[SIGMA].value)}"
            for row in rows
        )
        words.append(f"Their totals are not comparable: they put different weights on the error ({stands}).")
    return Ranking(tuple(row.run for row in ordered), tuple(words))


def _better(best: NumberRow, other: NumberRow) -> str:
    bits, more = best.numbers[BITS].value, other.numbers[BITS].value
    if more - bits < NEAR:
        return (
            f"{best.run} and {other.run} are equally good: bpd* {number(bits)} and {number(more)}, a "
            "difference below the precision of this measurement."
        )
    error, left = best.numbers[ERROR].value, other.numbers[ERROR].value
    nats, paid = best.numbers[NATS].value, other.numbers[NATS].value
    units, used = best.numbers[UNITS].value, other.numbers[UNITS].value
    if error < left:
        why = f"it leaves {error / left:.0%} of the error"
        why += f" for {number(nats - paid)} nats more of KL" if nats > paid else ", with less KL"
    else:
        why = f"it pays {number(paid - nats)} nats less of KL, which outweighs its larger error"
    return (
        f"{best.run} is a better model than {other.run}: bpd* {number(bits)} against {number(more)}, "
        f"{number(more - bits)} bits a pixel value. MSE {number(error)} against {number(left)}, KL "
        f"{number(nats)} against {number(paid)} nats, {units:.0f} active units against {used:.0f}: {why}."
    )


def _collapsed(row: NumberRow) -> str:
    return (
        f"{row.run} has a collapsed posterior: no latent varies from image to image, and the decoder draws "
        "the mean image of the conditions. Raise the weight on the error, or calibrate σ."
    )


def _weight(row: NumberRow, run: RunFacts) -> float:
    """The weight on the error that a run's σ stands for, to three digits."""
    values = math.prod(run.data.get("shape", (0,)))
    sigma = row.numbers[SIGMA].value
    if not (math.isfinite(sigma) and sigma > 0 and values):
        return math.nan
    return float(f"{elbo.implied_weight(sigma, values):.3g}")


def reconstructions(runs: Sequence[RunFacts]) -> list[tuple[str, Images]]:
    """The held-out images, and what each run made of them last; of runs that drew the same ones."""
    rows: list[tuple[str, Images]] = []
    for run in runs:
        paths = sorted((run.path / "panels").glob(f"*-{PANEL}.png"))
        try:
            images = read_sheet(paths[-1]) if paths else np.zeros((0, 1, 1, 1), np.uint8)
        except UserError:
            continue
        real, decoded = images[: len(images) // 2], images[len(images) // 2 :]
        if len(real) and (not rows or np.array_equal(real, rows[0][1])):
            rows += [("image", real)] if not rows else []
            rows.append((run.name, decoded))
    return rows


def bound(
    record: MetricsRecord, weights: Mapping[str, float], recipe: Recipe, spec: DataSpec
) -> LearningRate | None:
    """The bound of a run as it was last measured, and the way there; None where it is no VAE.

    weights: of loss components, in force at the end.
    """
    columns = [record.columns.get(f"held_out/{name}") for name in (BITS, ERROR, NATS, UNITS)]
    measured = [column for column in columns if column is not None]
    if len(measured) < len(columns):
        return None
    rows = reduce(np.intersect1d, (column.rows for column in measured))
    if not len(rows):
        return None
    all_bits, errors, all_nats, active = (column.values[np.isin(column.rows, rows)] for column in measured)
    bits, mse, nats, units = (float(values[-1]) for values in (all_bits, errors, all_nats, active))
    seen = record.columns.get("seen/sigma")
    sigma = float(seen.values[-1]) if seen else math.nan
    values = math.prod(spec.shape)
    latent = math.prod(recipe.networks["encoder"].latent_shape(spec))
    table = (
        (
            "reconstruction MSE",
            number(mse),
            f"of pixel values in [0, 1], mean over {values:,}; root {255 * mse**0.5:.1f} of 255 levels.",
        ),
        (
            "KL",
            f"{number(nats)} nats",
            "information about an image in its latents, over all dimensions; 0 means a collapsed posterior.",
        ),
        (
            "active units",
            f"{units:.0f} of {latent}",
            f"dimensions of the latent whose mean varies by more than {elbo.ACTIVE} from image to image.",
        ),
        (
            "bpd*",
            number(bits),
            "bits a pixel value at the best σ, of a density on [0, 1]; less is better, and runs of any "
            "weights can be compared by it. Of 8-bit values 8 more.",
        ),
        ("σ of the decoder", number(sigma), _describe_sigma(sigma, mse, values, weights)),
        (
            "rate, distortion",
            f"{number(nats)} nats, {number(mse)}",
            "KL and error: one point of the trade-off that σ sets.",
        ),
    )
    from safelight.render.figures import LearningRate  # matplotlib

    return LearningRate(table, record.steps[rows], all_nats, errors, values)


def _describe_sigma(sigma: float, mse: float, values: int, weights: Mapping[str, float]) -> str:
    """What σ the loss stands for, the same as a weight, and how far it is from the best."""
    best = max(mse, elbo.FINEST) ** 0.5
    v = weights.get("kl", 1.0)
    if w := weights.get("mse", 0.0):
        words = f"implied by the weights {number(w)} on mse and {number(v)} on kl."
    elif not math.isfinite(sigma):
        return f"not recorded; the best is {number(best)}, the root of the error."
    else:
        words = f"the same as a weight of {number(elbo.implied_weight(sigma, values, v))} on mse."
    words += f" The best is {number(best)}, the root of the error"
    return (
        f"{words}: this one is {number(sigma / best)} times as large." if sigma > 1.5 * best else f"{words}."
    )
