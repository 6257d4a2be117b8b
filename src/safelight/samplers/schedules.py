"""Noise levels for the samplers, and how those of DDPM and rectified flow map to their sigma.

The samplers' x is x0 + sigma * n. A variance-preserving x_t = a x0 + b n, a^2 + b^2 = 1, is a * x with
sigma = b / a, so a = 1 / sqrt(1 + sigma^2): its x_T = n starts as x = sqrt(1 + sigma^2) * n. Rectified flow's
x_t = (1 - t) x0 + t n is (1 - t) * x with sigma = t / (1 - t), so t = sigma / (1 + sigma): it starts as
x = sigma * n.

A schedule `sigmas` (n + 1,) is float64, strictly descending, and ends in 0, a level at which the network is
never asked. It stays on the CPU, whatever the device of x: its values are read there, and not every device
has float64.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Spacing = Literal["trailing", "linspace", "leading"]


def karras_sigmas(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """From sigma_max to sigma_min, evenly in sigma^(1 / rho), then 0 (Karras 2022, eq. 5)."""
    if n < 1 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"karras_sigmas: needs n >= 1, 0 < sigma_min < sigma_max; {n=} {sigma_min=} {sigma_max=}"
        )
    roots = torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n, dtype=torch.float64)
    return _to_zero(roots**rho)


def flow_sigmas(n: int, shift: float = 1.0, t_max: float = 0.999) -> Tensor:
    """Evenly in the time of rectified flow, from t_max to 0.

    shift: moves the levels towards noise, as t' = shift t / (1 + (shift - 1) t) (Esser 2024, eq. 23), which
    is a factor on sigma. t_max stays below 1, where sigma is infinite; 0.999 leaves 1e-6 of signal power.
    """
    if n < 1 or not 0 < t_max < 1 or shift <= 0:
        raise ValueError(f"flow_sigmas: needs n >= 1, 0 < t_max < 1, shift > 0; {n=} {t_max=} {shift=}")
    t = t_max * torch.arange(n, 0, -1, dtype=torch.float64) / n
    return _to_zero(shift * t / (1 - t))


def ddpm_timesteps(steps: int, n: int, spacing: Spacing = "trailing") -> Tensor:
    """n of the training timesteps 0..steps-1, descending, (n,) int64 (Lin 2023, table 2).

    "trailing" and "linspace" begin at the last one, steps - 1. "leading", the original DDIM's, does not: it
    begins with pure noise where training never showed it, and is there only to repeat published samples.
    """
    if not 1 <= n <= steps:
        raise ValueError(f"ddpm_timesteps: n is {n}, not in 1..{steps}, the number of training timesteps")
    if spacing == "leading":
        return torch.arange(n - 1, -1, -1) * (steps // n)
    if spacing == "linspace":
        return torch.linspace(steps - 1, 0, n, dtype=torch.float64).round().long()
    return (torch.arange(n, 0, -1, dtype=torch.float64) * steps / n).round().long() - 1


def ddpm_sigmas(alphas_cumprod: Tensor, n: int, spacing: Spacing = "trailing") -> Tensor:
    """The noise levels of `ddpm_timesteps`, then 0: the last interval ends in x0, not at t = 0 or 1."""
    return _to_zero(_sigma_table(alphas_cumprod)[ddpm_timesteps(len(alphas_cumprod), n, spacing)])


def timestep_of_sigma(sigma: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The training timestep at a noise level on the CPU, float64 of sigma's shape, in 0..steps-1.

    Linear in log sigma between timesteps: a whole number, up to rounding, for a level of `ddpm_sigmas`.
    """
    table = _sigma_table(alphas_cumprod).log()
    level = sigma.to(table).log().clamp(table[0], table[-1])
    above = torch.searchsorted(table, level).clamp(1, len(table) - 1)
    return above - (table[above] - level) / (table[above] - table[above - 1])


def linear_betas(steps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """beta of every training timestep, evenly from start to end (Ho 2020), (steps,) float64."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def cosine_betas(steps: int, s: float = 0.008, beta_max: float = 0.999) -> Tensor:
    """beta of every training timestep (Nichol & Dhariwal 2021, eq. 17), (steps,) float64."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=beta_max)


def alphas_cumprod(betas: Tensor) -> Tensor:
    """The product of 1 - beta up to and with each timestep: the share of signal in x_t's variance."""
    return (1 - betas).cumprod(0)


def _sigma_table(alphas_cumprod: Tensor) -> Tensor:
    """sigma of every training timestep, ascending, in float64."""
    signal = alphas_cumprod.double()
    return ((1 - signal) / signal).sqrt()


def _to_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
