"""The course of a run: its curves with the marks on them, and what its checks and monitors said."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from safelight.functional import elbo
from safelight.monitor.trial import describe as describe_remedy
from safelight.recipe import Recipe
from safelight.render.figures import LearningRate
from safelight.render.trends import Curve, Event, History
from safelight.render.wording import number, plural
from safelight.report.facts import MetricsRecord, RunFacts, date
from safelight.report.vae import BITS, ERROR, NATS, UNITS
from safelight.store.journal import Journal
from safelight.types import DataSpec, Unit


@dataclass(frozen=True)
class MethodFacts:
    """What the method of a run says of its records."""

    title: str = ""  # what was trained on what
    recipe: Mapping[str, Any] = field(default_factory=dict)  # resolved, nested by section
    warning: str = ""  # that a recipe which takes classes has met none
    draws: bool = True  # whether it generates images
    weights: Mapping[str, float] = field(default_factory=dict)  # of loss components, in force at the end
    units: Mapping[str, Unit] = field(default_factory=dict)  # of held-out values that are no losses
    equilibria: Mapping[str, float] = field(default_factory=dict)  # of components that balance each other
    rate: LearningRate | None = None  # of a variational autoencoder


def history_of(run: RunFacts, method: MethodFacts) -> History:
    """The curves and events of a run."""
    record = run.record
    return History(
        components=tuple(
            replace(
                _curve(record, f"raw/{name}", name),
                weight=weight,
                reference=method.equilibria.get(name),
                note="dotted: where neither network wins" if name in method.equilibria else "",
            )
            for name, weight in method.weights.items()
            if f"raw/{name}" in record.columns
        ),
        learning_rates=tuple(_curve(record, f"lr/{name}", name) for name in record.named("lr/")),
        held_out=tuple(
            replace(_curve(record, f"held_out/{name}", name), unit=unit, better=better)
            for name in record.named("held_out/")
            for unit, better in (method.units.get(name, ("", "less")),)
        ),
        evaluated=tuple(_evaluated(record)),
        events=tuple(_events(run)),
        batch_size=run.batch_size,
        dataset_size=run.dataset_size or None,
    )


def _curve(record: MetricsRecord, column: str, name: str) -> Curve:
    recorded = record.columns[column]
    return Curve(name, record.steps[recorded.rows], recorded.values)


def _evaluated(record: MetricsRecord) -> Iterator[Curve]:
    """The distances measured while training, with the floor of the last evaluation."""
    for name in record.named("evaluate/"):
        if name.startswith(("FD-", "FID", "KID")):  # of the others more is better, and coverage says little
            floors = record.columns.get(f"floor/{name}")
            reference = float(floors.values[-1]) if floors else None
            yield replace(_curve(record, f"evaluate/{name}", name), reference=reference)


def _events(run: RunFacts) -> Iterator[Event]:
    """What happened, in order. A verdict that holds reaches to the last of the steps done."""
    if run.parent:
        label = f"forked from {run.parent_name or 'another run'}"
        yield Event(run.parent.step, "fork", label, date(run.created))
    for place, entry in enumerate(run.journal.entries):
        when, fields = date(entry.time), entry.fields
        match entry.kind:
            case "intervention":
                changes = ", ".join(f"{key} = {value}" for key, value in fields["changes"].items())
                yield Event(fields["step"], "intervention", changes, when)
            case "session" if entry.session > 1 and fields["step"] > 0:
                yield Event(fields["step"], "resume", "resumed", when)
            case "remedy":
                yield Event(fields["at"], "remedy", _short(fields), when)
            case "verdict":
                label = fields["name"] if fields["begins"] else f"no longer: {fields['name']}"
                ends = (later.fields["step"] for later in run.journal.entries[place + 1 :]
                        if later.kind == "verdict" and later.fields["name"] == fields["name"])  # fmt: skip
                until = next(ends, run.step) if fields["begins"] else None
                yield Event(fields["step"], "verdict", label, when, until)


def _short(fields: Mapping[str, Any]) -> str:
    """A decision on a remedy, as short as a mark on the curves has room for."""
    event = fields["event"]
    if event == "given up":
        return "no remedy left"
    return str(fields["words"]) if event == "begun" else f"{fields['words']}: {event}"


def remarks(journal: Journal) -> Iterator[str]:
    """What checks found, monitors said and remedies did, a sentence or two each."""
    for entry in journal.of_kind("check"):
        checks, findings = len(entry.fields["checks"]), entry.fields["findings"]
        outcome = f"{checks} run, {plural(len(findings), 'finding')}" if findings else f"{checks} passed"
        yield f"Pre-flight checks: {outcome}."
        for finding in findings:
            reason = f" Expected by the recipe: {finding['declared']}." if finding["declared"] else ""
            summary = f"{finding['severity'].capitalize()} {finding['code']}: {finding['measured']}"
            yield f"{summary}; expected {finding['expected']}.{reason}"
    for entry in journal.of_kind("verdict"):
        fields = entry.fields
        if not fields["begins"]:
            yield f"Step {fields['step']:,}: no longer: {fields['name']}."
            continue
        advice = "".join(
            f" {remedy['words'].capitalize()}: {remedy['command']}" for remedy in fields["advice"][:1]
        )
        yield (
            f"Step {fields['step']:,}: {fields['name']}, showing since step {fields['since']:,}: "
            f"{fields['measured']}; expected {fields['expected']}.{advice}"
        )
    for entry in journal.of_kind("remedy"):
        yield describe_remedy(entry.fields)


# --- What a variational autoencoder learned, by numbers that are free of its weights ---


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
