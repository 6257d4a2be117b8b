"""Samplers: pure functions from noise to images over `denoise(x, sigma)`.

One coordinate for every diffusion: x = x0 + sigma * n, n ~ N(0, I), and D = denoise(x, sigma) = E[x0 | x].
The probability-flow ODE is then dx/dsigma = (x - D) / sigma (Karras 2022, eq. 1). Where D stays constant its
solution is exact, x' = D + (sigma' / sigma)(x - D), so samplers differ only in how they foresee D.
schedules.py gives `sigmas` and maps DDPM and rectified flow to these coordinates.

Every sampler takes `denoise`, x (B, C, H, W) at sigmas[0], and `sigmas` (N + 1,), strictly descending, of
which the last may be, and usually is, 0; it returns x (B, C, H, W) at sigmas[-1]. `denoise` is given sigma as
the 0-d tensor that stands in `sigmas`. Coefficients are Python floats, so that a first sigma of thousands
costs a float32 x no precision. `noise(i)` is the standard normal draw (B, C, H, W) of interval i, asked for
by the stochastic samplers only, and never for an interval that ends in 0.

A film of one sampling, or a clamp of D to the range of pixels, is a function wrapped around `denoise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from safelight.config import UserError, nearest

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x (B, C, H, W), sigma ()) -> E[x0 | x] (B, C, H, W)
Variance = Literal["posterior", "beta"]
Noise = Callable[[int], Tensor]  # interval -> standard normal (B, C, H, W)


class Sampler(Protocol):
    """What every sampler here is; some take further options by keyword."""

    def __call__(
        self, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None, /
    ) -> Tensor: ...


def sample_euler(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None) -> Tensor:
    """Euler's method, first order. The same as DDIM with eta = 0."""
    for i, (sigma, sigma_next) in enumerate(_intervals(sigmas)):
        x0 = denoise(x, sigmas[i])
        x = x0 + sigma_next / sigma * (x - x0)
    return x


def sample_heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,
    *,
    time: Literal["flow", "sigma"] = "flow",
) -> Tensor:
    """Heun's method, second order (Karras 2022, algorithm 1 without churn): two evaluations an interval,
    one in an interval that ends in 0.

    The trapezoid over an interval is the Euler step plus w (D' - D), where w depends on the time the ODE is
    written in. In sigma, as in EDM, w = (sigma - sigma') / (2 sigma'), which explodes in the first interval
    of a flow. In the time of rectified flow, t = sigma / (1 + sigma), w is (1 + sigma') / (1 + sigma) of
    that: below 1/2 for large sigma, EDM's for small.
    """
    for i, (sigma, sigma_next) in enumerate(_intervals(sigmas)):
        x0 = denoise(x, sigmas[i])
        x = x0 + sigma_next / sigma * (x - x0)
        if sigma_next > 0:
            w = (sigma - sigma_next) / (2 * sigma_next)
            if time == "flow":
                w *= (1 + sigma_next) / (1 + sigma)
            x = x + w * (denoise(x, sigmas[i + 1]) - x0)
    return x


def sample_ddim(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None, *, eta: float = 0.0
) -> Tensor:
    """DDIM (Song 2021, eq. 12 and 16): deterministic with eta = 0, the ancestral step of DDPM with eta = 1.

    Raises ValueError unless 0 <= eta <= 1, and where eta > 0 comes without `noise`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"sample_ddim: eta is {eta}, not in 0..1")
    for i, (sigma, sigma_next) in enumerate(_intervals(sigmas)):
        x0 = denoise(x, sigmas[i])
        fresh = eta**2 * (1 - (sigma_next / sigma) ** 2)  # share of the next variance that is drawn anew
        x = x0 + sigma_next * math.sqrt(1 - fresh) / sigma * (x - x0)
        if fresh > 0 and sigma_next > 0:
            x = x + sigma_next * math.sqrt(fresh) * _drawn(noise, i)
    return x


def sample_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,
    *,
    variance: Variance = "posterior",
) -> Tensor:
    """DDPM's ancestral sampling (Ho 2020, eq. 6, 7): each interval draws from q(x' | x, x0 = D).

    variance: "posterior" is that of q, "beta tilde"; "beta" that of q(x' | x) for x0 of unit variance, which
    for DDPM is beta_t (Ho 2020, section 3.2). Raises ValueError without `noise`.
    """
    for i, (sigma, sigma_next) in enumerate(_intervals(sigmas)):
        x0 = denoise(x, sigmas[i])
        kept = (sigma_next / sigma) ** 2
        x = x0 + kept * (x - x0)
        if sigma_next > 0:
            widest = math.sqrt((1 + sigma_next**2) / (1 + sigma**-2)) if variance == "beta" else sigma_next
            x = x + widest * math.sqrt(1 - kept) * _drawn(noise, i)
    return x


def sample_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None) -> Tensor:
    """DPM-Solver++(2M) (Lu 2022b, algorithm 2): second-order multistep in lambda = -log sigma.

    The first interval is of order 1, and so is one that ends in 0, where lambda is infinite.
    """
    previous: tuple[float, Tensor] | None = None  # the last interval's h and D
    for i, (sigma, sigma_next) in enumerate(_intervals(sigmas)):
        x0 = denoise(x, sigmas[i])
        h = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf
        ahead = x0
        if previous is not None and sigma_next > 0:
            r = previous[0] / h
            ahead = x0 + (x0 - previous[1]) / (2 * r)
        x = ahead + sigma_next / sigma * (x - ahead)
        previous = h, x0
    return x


def sample_unipc(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None, *, order: int = 3
) -> Tensor:
    """UniPC-p in data prediction with B(h) = e^h - 1, "bh2" (Zhao 2023, section 3), p = `order`.

    Each prediction (UniP-p) is corrected (UniC-p) by the evaluation the next interval needs anyway. p rises
    from 1 with the evaluations at hand and, where `sigmas` ends in 0, falls to 1 again towards the end.
    Orders 1 to 3; its authors advise 2 under strong guidance. Raises ValueError for another order.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"sample_unipc: order is {order}, not 1, 2 or 3")
    intervals = _intervals(sigmas)
    ends_in_zero = intervals[-1][1] == 0
    known: list[_Node] = []  # newest first
    before, p = x, 0  # x at the start of the last interval, and the order used there
    for i, (sigma, sigma_next) in enumerate(intervals):
        now = sigma, denoise(x, sigmas[i])
        if known:
            x = _unipc_step(before, sigma, [*known[:p], now])
        known = [now, *known[: order - 1]]
        p = min(len(known), len(intervals) - i) if ends_in_zero else len(known)
        before, x = x, _unipc_step(x, sigma_next, known[:p])
    return x


def sample_ipndm(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None, *, order: int = 4
) -> Tensor:
    """iPNDM (Zhang & Chen 2023, after Liu 2022): Adams-Bashforth on the predicted noise d = (x - D) / sigma.

    Its coefficients are those of equal steps whatever `sigmas` is, lower orders serve the first intervals,
    and every interval costs one evaluation. Orders 1 to 4. Raises ValueError for another order.
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"sample_ipndm: order is {order}, not 1, 2, 3 or 4")
    known: list[Tensor] = []  # newest first
    for i, (sigma, sigma_next) in enumerate(_intervals(sigmas)):
        x0 = denoise(x, sigmas[i])
        d = (x - x0) / sigma
        known = [d, *known[: order - 1]]
        weights = _ADAMS_BASHFORTH[len(known) - 1]
        ahead = sum(weight * past for weight, past in zip(weights, known, strict=True))
        # x + (sigma' - sigma) ahead, written so that a sigma of thousands is not subtracted from x
        x = x0 + sigma_next * d + (sigma_next - sigma) * (ahead - d)
    return x


_Node = tuple[float, Tensor]  # sigma, and D there

_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def _unipc_step(x: Tensor, sigma_next: float, nodes: Sequence[_Node]) -> Tensor:
    """From x at the first node's sigma to sigma_next. A node at sigma_next makes it the corrector."""
    (sigma, x0), *others = nodes
    ahead = x0
    if others:
        h = math.log(sigma / sigma_next)
        rs = [math.log(sigma / other) / h for other, _ in others]
        for rho, r, (_, other_x0) in zip(_unipc_weights(rs, h), rs, others, strict=True):
            ahead = ahead + rho / r * (other_x0 - x0)
    return ahead + sigma_next / sigma * (x - ahead)


def _unipc_weights(rs: Sequence[float], h: float) -> list[float]:
    """rho of R rho = b (Zhao 2023, theorem 3.1), z = -h:
    R[k, m] = r_m^(k-1), b_k = k! z phi_{k+1}(z) / (e^z - 1).
    """
    if len(rs) == 1:
        return [0.5]  # the choice of the paper for UniP-2 and UniC-1; it keeps their order
    z = -h
    phi = math.expm1(z) / z  # phi_1; then phi_{k+1} = (phi_k - 1 / k!) / z
    b = []
    for k in range(1, len(rs) + 1):
        phi = (phi - 1 / math.factorial(k)) / z
        b.append(math.factorial(k) * z * phi / math.expm1(z))
    solution: list[float] = np.linalg.solve(np.vander(rs, increasing=True).T, b).tolist()
    return solution


def _intervals(sigmas: Tensor) -> list[tuple[float, float]]:
    """(sigma_i, sigma_{i+1}) of every interval.

    Raises ValueError unless sigmas are finite, strictly descending and not below 0.
    """
    values: list[float] = sigmas.double().tolist()
    pairs = list(pairwise(values))
    if not pairs or not all(math.inf > sigma > below >= 0 for sigma, below in pairs):
        raise ValueError("sigmas must be two or more finite values, strictly descending, none below 0")
    return pairs


def _drawn(noise: Noise | None, interval: int) -> Tensor:
    if noise is None:
        raise ValueError("a stochastic sampler needs `noise`")
    return noise(interval)


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "euler": sample_euler,
        "heun": sample_heun,
        "ddim": sample_ddim,
        "ancestral": sample_ancestral,
        "dpmpp_2m": sample_dpmpp_2m,
        "unipc": sample_unipc,
        "ipndm": sample_ipndm,
    }
)


def sample(
    name: str,
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,
    eta: float = 0.0,
    variance: Variance = "posterior",
) -> Tensor:
    """Sample by name. variance: of "ancestral" only.

    Raises UserError for an unknown name, or an eta the sampler has no use for.
    """
    sampler = _known(name)
    if name == "ddim":
        return sample_ddim(denoise, x, sigmas, noise, eta=eta)
    if eta != 0:
        raise UserError(f"eta: {eta} has no effect with sampler {name!r}; leave it out or choose 'ddim'")
    if name == "ancestral":
        return sample_ancestral(denoise, x, sigmas, noise, variance=variance)
    return sampler(denoise, x, sigmas, noise)


def evaluations(name: str, intervals: int) -> int:
    """Calls of `denoise` by a sampler over `intervals` intervals of which the last ends in 0.

    Raises UserError for an unknown name.
    """
    _known(name)
    return 2 * intervals - 1 if name == "heun" else intervals


def intervals_for(name: str, budget: int) -> int:
    """The most intervals whose evaluations stay within `budget`.

    Raises UserError for an unknown name or a budget below 1.
    """
    if budget < 1:
        raise UserError(f"evaluations: {budget} is too few, a sampler needs at least 1")
    return 1 + (budget - 1) // (evaluations(name, 2) - evaluations(name, 1))


def _known(name: str) -> Sampler:
    if name not in SAMPLERS:
        raise UserError(f"sampler: {name!r} is not a valid choice{nearest(name, SAMPLERS)}")
    return SAMPLERS[name]
