"""What the report says a VAE learned: the numbers of the bound, from its records."""

from __future__ import annotations

import math

from safelight.functional import elbo
from safelight.recipe import load
from safelight.report.records import record_of
from safelight.report.vae import bound
from safelight.types import DataSpec

SPEC = DataSpec((1, 8, 8))


def line(step: int, mse: float, nats: float, sigma: float) -> dict[str, float]:
    bits = float(elbo.bits_per_value(mse, nats, 64))
    held_out = {"mse": mse, "kl": nats, "active units": 5.0, "bpd*": bits}
    return {
        "step": step,
        "images": 0,
        "seconds": 0.0,
        "seen/sigma": sigma,
        **{f"held_out/{name}": value for name, value in held_out.items()},
    }


def test_the_last_measurement_is_told_and_the_way_there_kept():
    lines = [
        line(9, 0.05, 1.0, 0.3),
        {"step": 14, "images": 0, "seconds": 0.0, "seen/sigma": 0.2},
        line(19, 0.01, 15.5, 0.1),
    ]
    made = bound(record_of(lines), {"nll": 1.0, "mse": 0.0, "kl": 1.0}, load("faces"), SPEC)
    shown = {what: value for what, value, _ in made.rows}
    assert shown == {
        "reconstruction MSE": "0.01",
        "KL": "15.5 nats",
        "active units": "5 of 48",
        "bpd*": f"{float(elbo.bits_per_value(0.01, 15.5, 64)):.4g}".replace("-", "−"),
        "σ of the decoder": "0.1",
        "rate, distortion": "15.5 nats, 0.01",
    }
    assert made.steps.tolist() == [10, 20]
    assert made.nats.tolist() == [1.0, 15.5]
    assert made.errors.tolist() == [0.05, 0.01]
    means = {what: means for what, _, means in made.rows}
    assert "weight of 3200 on mse. The best is 0.1, the root of the error." in means["σ of the decoder"]


def test_a_stated_weight_is_told_as_the_sigma_it_implies():
    sigma = math.sqrt(64 / 2)
    made = bound(
        record_of([line(9, 0.04, 0.0, sigma)]), {"nll": 1.0, "mse": 1.0, "kl": 1.0}, load("faces-1"), SPEC
    )
    shown = {what: (value, means) for what, value, means in made.rows}
    value, means = shown["σ of the decoder"]
    assert value == "5.657"
    assert means.startswith("implied by the weights 1 on mse and 1 on kl.")
    assert "28.28 times as large" in means


def test_a_run_that_is_no_vae_has_none():
    assert (
        bound(
            record_of([{"step": 0, "images": 0, "seconds": 0.0, "held_out/mse": 0.1}]),
            {},
            load("digits"),
            SPEC,
        )
        is None
    )
