"""`denoise(x, sigma)` of a network trained by DDPM or rectified flow, written straight from their papers.

What the samplers are tested on, and independent of `methods/diffusion.py`, which has its own mapping.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from safelight import samplers

Predict = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, C, H, W), t (B,)) -> (B, C, H, W)


def flow_denoiser(velocity: Predict) -> samplers.Denoise:
    """Of a network that predicts v = n - x0 from x_t and t in (0, 1): D = x_t - t v."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = float(sigma)
        t = level / (1 + level)
        x_t = x / (1 + level)
        return x_t - t * velocity(x_t, x.new_full((len(x),), t))

    return denoise


def ddpm_denoiser(
    predict: Predict, alphas_cumprod: Tensor, target: Literal["epsilon", "v", "x0"] = "epsilon"
) -> samplers.Denoise:
    """Of a network that predicts `target` from a variance-preserving x_t and its timestep.

    The timestep is that of `timestep_of_sigma`, in the type of x. v = a n - b x0 (Salimans & Ho 2022).
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = float(sigma)
        a = 1 / math.sqrt(1 + level**2)
        x_t = a * x
        t = float(samplers.timestep_of_sigma(sigma, alphas_cumprod))
        predicted = predict(x_t, x.new_full((len(x),), t))
        if target == "epsilon":
            return x - level * predicted
        return a * (x_t - level * predicted) if target == "v" else predicted

    return denoise
