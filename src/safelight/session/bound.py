"""What a variational autoencoder learned, from its records: numbers free of its weights, and in words.

A run has them where it measured bpd* on held-out images (methods/vae.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from safelight import elbo
from safelight.recipes.recipe import Recipe
from safelight.render.facts import Rate
from safelight.render.wording import number
from safelight.types import DataSpec

BITS, ERROR, NATS, UNITS = (f"held_out/{name}" for name in ("bpd*", "mse", "kl", "active units"))


def bound(
    lines: Sequence[Mapping[str, Any]], weights: Mapping[str, float], recipe: Recipe, spec: DataSpec
) -> Rate | None:
    """The bound of a run as it was last measured, and the way there; None where it is no VAE.

    lines: of metrics. weights: of loss components, in force at the end.
    """
    measured = [line for line in lines if all(name in line for name in (BITS, ERROR, NATS, UNITS))]
    if not measured:
        return None
    last = measured[-1]
    values = math.prod(spec.shape)
    latent = math.prod(recipe.networks["encoder"].latent_shape(spec))
    mse, nats, units = (float(last[name]) for name in (ERROR, NATS, UNITS))
    sigma = next((float(line["seen/sigma"]) for line in reversed(lines) if "seen/sigma" in line), math.nan)
    rows = (
        (
            "reconstruction MSE",
            number(mse),
            f"of pixel values in [0, 1], mean over {values:,}; root {255 * mse**0.5:.1f} of 255 levels.",
        ),
        (
            "KL",
            f"{number(nats)} nats",
            "what the latents tell of an image, over all dimensions; 0 is a collapsed posterior.",
        ),
        (
            "active units",
            f"{units:.0f} of {latent}",
            f"dimensions of the latent whose mean varies by more than {elbo.ACTIVE} from image to image.",
        ),
        (
            "bpd*",
            number(float(last[BITS])),
            "bits a pixel value at the best σ, of a density on [0, 1]; less is better, and runs of any "
            "weights can be compared by it. Of 8-bit values 8 more.",
        ),
        ("σ of the decoder", number(sigma), _sigma_told(sigma, mse, values, weights)),
        (
            "rate, distortion",
            f"{number(nats)} nats, {number(mse)}",
            "what is paid in KL, and the error that is left: one point of the trade that σ chooses.",
        ),
    )
    curve = np.array([[line["step"] + 1, line[NATS], line[ERROR]] for line in measured], np.float64)
    return Rate(rows, curve[:, 0].astype(np.int64), curve[:, 1], curve[:, 2], values)


def _sigma_told(sigma: float, mse: float, values: int, weights: Mapping[str, float]) -> str:
    """What σ the loss stands for, the same as a weight, and how far it is from the best."""
    best = max(mse, elbo.FINEST) ** 0.5
    v = weights.get("kl", 1.0)
    if w := weights.get("mse", 0.0):
        told = f"implied by the weights {number(w)} on mse and {number(v)} on kl."
    elif not math.isfinite(sigma):
        return f"not recorded; the best is {number(best)}, the root of the error."
    else:
        told = f"the same as a weight of {number(elbo.implied_weight(sigma, values, v))} on mse."
    told += f" The best is {number(best)}, the root of the error"
    return f"{told}: this one is {number(sigma / best)} times as large." if sigma > 1.5 * best else f"{told}."
