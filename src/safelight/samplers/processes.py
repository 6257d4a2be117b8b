"""How images turn into noise, x_t = α x + σ ε: rectified flow and DDPM, and the levels each is trained at.

Levels are computed on the CPU, in float64 where a table asks for it, as not every device has that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.randomness import interior, sent
from safelight.samplers.schedules import alphas_cumprod, ddpm_sigmas, flow_sigmas, timestep_of_sigma


@dataclass(frozen=True)
class Level:
    """Noise levels of a batch, α and σ (b, 1, 1, 1), and the time (b,) the network is told, all float32."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    def to(self, device: torch.device) -> Level:
        return Level(sent(self.t, device), sent(self.alpha, device), sent(self.sigma, device))


@dataclass(frozen=True)
class Flow:
    """Rectified flow (Liu 2022): α = 1 - t, σ = t.

    Trained at t of which a share is uniform, and log t / (1 - t) of the others normal (Esser 2024, eq. 19).
    The shift multiplies σ / α in training and sampling (eq. 23).
    """

    uniform_share: float = 0.0
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 1.0

    def trained(self, u: Tensor) -> Level:
        """Levels of training for u (b,) uniform in (0, 1)."""
        share, rest = self.uniform_share, 1 - self.uniform_share
        t = u
        if rest:
            z = torch.special.ndtri(interior((u - share) / rest))
            t = torch.where(u < share, u / (share or 1), (self.logit_mean + self.logit_std * z).sigmoid())
        return self.even(interior(self.shift * t / (1 + (self.shift - 1) * t)))

    def even(self, t: Tensor) -> Level:
        """Levels at times (b,) in [0, 1]."""
        σ = t[:, None, None, None]
        return Level(t, 1 - σ, σ)

    def at(self, sigma: Tensor, length: int) -> Level:
        """Levels of a batch of a given length at σ / α, ()."""
        return self.even((sigma / (1 + sigma)).float().expand(length))

    def sigmas(self, steps: int, t_max: float) -> Tensor:
        """Descending σ / α, from that of t_max, shifted, to 0: (steps + 1,)."""
        return flow_sigmas(steps, self.shift, t_max)

    def start(self, sigma: Tensor) -> float:
        """The spread of x_t / α at the first σ / α, for an x_t of noise alone."""
        return float(sigma)

    def sigma_at(self, t: Tensor) -> Tensor:
        """σ / α at a time in [0, 1)."""
        return t / (1 - t)


class Ddpm:
    """DDPM (Ho 2020): α = √ᾱ_t, σ = √(1 - ᾱ_t), trained at all timesteps alike; t is told as timestep / T."""

    def __init__(self, betas: Tensor) -> None:
        self.alphas_cumprod = alphas_cumprod(betas)
        self.timesteps = len(betas)

    def trained(self, u: Tensor) -> Level:
        """Levels of training for u (b,) uniform in (0, 1)."""
        return self.even(u)

    def even(self, t: Tensor) -> Level:
        """Levels of the timesteps that hold times (b,) in [0, 1)."""
        return self.discrete((t * self.timesteps).long())

    def discrete(self, index: Tensor) -> Level:
        """Levels of timesteps 1..T, given as 0..T-1."""
        cumprod = self.alphas_cumprod[index].float()[:, None, None, None]
        return Level((index + 1).float() / self.timesteps, cumprod.sqrt(), (1 - cumprod).sqrt())

    def at(self, sigma: Tensor, length: int) -> Level:
        """Levels of a batch of a given length at σ / α, ()."""
        alpha = (1 + sigma.square()).rsqrt().float().expand(length)[:, None, None, None]
        t = ((timestep_of_sigma(sigma, self.alphas_cumprod) + 1) / self.timesteps).float().expand(length)
        return Level(t, alpha, (1 - alpha.square()).sqrt())

    def sigmas(self, steps: int, t_max: float) -> Tensor:
        """Descending σ / α, from the last timestep to 0: (steps + 1,). t_max: of flow."""
        return ddpm_sigmas(self.alphas_cumprod, steps)

    def start(self, sigma: Tensor) -> float:
        """The spread of x_t / α at the first σ / α, for an x_t of noise alone."""
        return float((1 + sigma.square()).sqrt())

    def sigma_at(self, t: Tensor) -> Tensor:
        """σ / α at a time in [0, 1], ()."""
        level = self.discrete((t * self.timesteps).long().clamp(max=self.timesteps - 1).reshape(1))
        return (level.sigma / level.alpha).reshape(())
