"""Samplers against closed forms: the ideal denoiser of a finite data set, a Gaussian, a constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor

from safelight import samplers
from safelight.config import UserError

SEEDED = torch.Generator().manual_seed(3)
DATA = torch.randn(6, 1, 2, 2, generator=SEEDED, dtype=torch.float64)
NOISE = torch.randn(32, 1, 2, 2, generator=SEEDED, dtype=torch.float64)

Solve = Callable[[samplers.Denoise, Tensor, Tensor], Tensor]
DETERMINISTIC: dict[str, Solve] = {
    "euler": samplers.sample_euler,
    "heun": samplers.sample_heun,
    "heun in sigma": partial(samplers.sample_heun, time="sigma"),
    "ddim": samplers.sample_ddim,
    "dpmpp_2m": samplers.sample_dpmpp_2m,
    "unipc 1": partial(samplers.sample_unipc, order=1),
    "unipc 2": partial(samplers.sample_unipc, order=2),
    "unipc 3": samplers.sample_unipc,
    "ipndm 1": partial(samplers.sample_ipndm, order=1),
    "ipndm 2": partial(samplers.sample_ipndm, order=2),
    "ipndm 3": partial(samplers.sample_ipndm, order=3),
    "ipndm 4": samplers.sample_ipndm,
}


def ideal(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] of the uniform distribution on DATA, in closed form."""
    data = DATA.to(x.dtype)
    distance = (x[:, None] - data).square().flatten(2).sum(2)
    weights = torch.softmax(-distance / (2 * sigma**2), dim=1)
    return torch.einsum("bk,kchw->bchw", weights, data)


def solution(x: Tensor, start: float, end: float) -> Tensor:
    """The probability-flow ODE from sigma = start to end by an independent integrator."""

    def slope(lam: float, flat: object) -> object:  # in lambda = -log sigma
        y = torch.as_tensor(flat).reshape(x.shape)
        return (ideal(y, torch.tensor(math.exp(-lam), dtype=y.dtype)) - y).flatten().numpy()

    span = (-math.log(start), -math.log(end))
    solved = solve_ivp(slope, span, x.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-12)
    return torch.as_tensor(solved.y[:, -1]).reshape(x.shape)


def flow_grid(n: int) -> Tensor:
    t = torch.linspace(0.99, 0.3, n + 1, dtype=torch.float64)
    return t / (1 - t)


def even_grid(n: int) -> Tensor:
    return torch.linspace(5, 0.5, n + 1, dtype=torch.float64)


@pytest.fixture(scope="module")
def solutions() -> dict[Callable[[int], Tensor], tuple[Tensor, Tensor]]:
    """For each grid, x at its start and the solution at its end."""
    pairs = {}
    for grid in (flow_grid, even_grid):
        start, end = grid(1).tolist()
        pairs[grid] = (NOISE * start, solution(NOISE * start, start, end))
    return pairs


@pytest.mark.parametrize(
    ("name", "grid", "order"),
    [
        ("euler", flow_grid, 1),
        ("heun", flow_grid, 2),
        ("heun in sigma", flow_grid, 2),
        ("ddim", flow_grid, 1),
        ("dpmpp_2m", flow_grid, 2),
        ("unipc 1", flow_grid, 2),  # UniPC-p is of order p + 1 (Zhao 2023, theorem 3.1)
        ("unipc 2", flow_grid, 3),
        ("unipc 3", flow_grid, 4),
        ("ipndm 1", even_grid, 1),
        ("ipndm 2", even_grid, 2),
        ("ipndm 3", even_grid, 3),
        ("ipndm 4", even_grid, 4),
        ("ipndm 4", flow_grid, 2),  # the coefficients of equal steps, on unequal ones
    ],
)
def test_error_falls_at_the_order_of_the_sampler(solutions, name, grid, order) -> None:
    x, exact = solutions[grid]

    def error(n: int) -> float:
        # the median: a start whose path runs along the ridge between two data points shows its order late
        return (DETERMINISTIC[name](ideal, x, grid(n)) - exact).flatten(1).norm(dim=1).median().item()

    assert math.log2(error(160) / error(320)) == pytest.approx(order, abs=0.1 * order)


def test_down_to_zero_every_sampler_finds_the_same_data_points() -> None:
    sigmas = samplers.karras_sigmas(60, 0.01, 50)
    exact = solution(NOISE * sigmas[0], sigmas[0].item(), 1e-3)
    nearest = DATA[(exact[:, None] - DATA).flatten(2).norm(dim=2).argmin(1)]
    for name, sample in DETERMINISTIC.items():
        sampled = sample(ideal, NOISE * sigmas[0], sigmas)
        assert torch.allclose(sampled, nearest, atol=1e-3), name


@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=12, unique=True),
    st.booleans(),
    st.sampled_from(sorted(DETERMINISTIC)),
)
def test_a_constant_denoiser_is_solved_exactly_on_any_levels(hundredths, to_zero, name) -> None:
    levels = sorted(hundredths, reverse=True) + [0] * to_zero
    sigmas = torch.tensor(levels, dtype=torch.float64) / 100
    centre = torch.full((3, 1, 2, 2), 0.3, dtype=torch.float64)
    sampled = DETERMINISTIC[name](lambda x, sigma: centre, centre + sigmas[0] * NOISE[:3], sigmas)
    assert torch.allclose(sampled, centre + sigmas[-1] * NOISE[:3], atol=1e-9)


def gaussian_std(sample: Callable[..., Tensor], std: float, sigmas: Tensor) -> float:
    """The standard deviation `sample` gives for data N(0, std^2), exactly.

    The denoiser is linear, so the result is a linear map of the start and of each interval's noise: a batch
    of unit draws is its matrix.
    """
    draws = torch.eye(len(sigmas), dtype=torch.float64)[:, :, None, None, None]  # (draw, row, 1, 1, 1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x * std**2 / (std**2 + sigma**2)

    start = (std**2 + sigmas[0] ** 2).sqrt() * draws[-1]
    return sample(denoise, start, sigmas, lambda i: draws[i]).norm().item()


@pytest.mark.parametrize(
    "sample",
    [
        samplers.sample_ancestral,
        partial(samplers.sample_ddim, eta=1.0),
        partial(samplers.sample_ddim, eta=0.4),
        samplers.sample_ddim,
        samplers.sample_heun,
    ],
)
def test_a_gaussian_keeps_its_spread_and_its_mean(sample) -> None:
    errors = [
        abs(gaussian_std(sample, 0.4, samplers.karras_sigmas(n, 0.001, 20)) / 0.4 - 1) for n in (50, 200, 800)
    ]
    assert errors[2] < 0.01
    assert errors[0] > 2 * errors[1] > 4 * errors[2]

    mean = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    sigmas = samplers.karras_sigmas(20, 0.01, 20)
    silent = sample(
        lambda x, s: mean + (x - mean) * 0.16 / (0.16 + s**2), mean, sigmas, lambda i: torch.zeros_like(mean)
    )
    assert torch.allclose(silent, mean, atol=1e-12)


def unit_noise(i: int) -> Tensor:
    return torch.randn(NOISE.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)


def test_samplers_that_are_the_same_by_algebra() -> None:
    sigmas = samplers.flow_sigmas(12)
    x = NOISE * sigmas[0]
    euler = samplers.sample_euler(ideal, x, sigmas)
    assert torch.equal(samplers.sample_ddim(ideal, x, sigmas), euler)
    assert torch.allclose(samplers.sample_ipndm(ideal, x, sigmas, order=1), euler, atol=1e-10)
    assert torch.allclose(
        samplers.sample_ddim(ideal, x, sigmas, unit_noise, eta=1.0),
        samplers.sample_ancestral(ideal, x, sigmas, unit_noise),
        atol=1e-10,
    )


def test_the_larger_variance_is_beta_and_keeps_data_of_unit_variance() -> None:
    """Ho 2020, section 3.2: sqrt(beta_t) noise is what x_0 ~ N(0, 1) asks for, whatever the intervals."""
    betas = samplers.linear_betas(300)
    signal = samplers.alphas_cumprod(betas)
    sigmas = samplers.ddpm_sigmas(signal, 300)
    x, zero = torch.zeros_like(NOISE), torch.zeros_like(NOISE)
    for i in (0, 150, 298):
        pair = sigmas[i : i + 2]
        noise = samplers.sample_ancestral(lambda *_: zero, x, pair, unit_noise, variance="beta") / unit_noise(
            0
        )
        assert torch.allclose(
            noise.square() * signal[298 - i], betas[299 - i].expand_as(noise)
        )  # of x_t = α x

    ones = torch.full((20_000, 1, 1, 1), 1.0, dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(ones.shape, generator=draws, dtype=torch.float64) * math.sqrt(1 + 20**2)
    sample = samplers.sample_ancestral(
        lambda x, s: x / (1 + s**2),
        start,
        torch.tensor([20.0, 3.0, 0.5], dtype=torch.float64),
        lambda i: torch.randn(ones.shape, generator=draws, dtype=torch.float64),
        variance="beta",
    )
    assert float(sample.var()) == pytest.approx(1 + 0.5**2, rel=0.03)  # exact in two intervals


def test_heun_is_sane_where_a_flow_begins() -> None:
    """In sigma the trapezoid's weight in the first interval of a flow is about 70; in its own time 0.6."""
    sigmas = samplers.flow_sigmas(8)
    x = NOISE * sigmas[0]
    exact = solution(x, sigmas[0].item(), sigmas[-2].item())
    in_flow, in_sigma = (
        (samplers.sample_heun(ideal, x, sigmas[:-1], time=time) - exact).abs().mean()
        for time in ("flow", "sigma")
    )
    assert in_flow < 0.05 < 0.2 < in_sigma


@pytest.mark.parametrize("name", sorted(samplers.SAMPLERS))
@pytest.mark.parametrize("t_max", [0.999, 0.999999])
def test_float32_suffices_from_very_large_levels(name, t_max) -> None:
    sigmas = samplers.flow_sigmas(10, t_max=t_max)[:-1]  # short of 0, where the ideal denoiser is a step
    x = NOISE * sigmas[0]
    exact = samplers.SAMPLERS[name](ideal, x, sigmas, unit_noise)
    sampled = samplers.SAMPLERS[name](ideal, x.float(), sigmas, lambda i: unit_noise(i).float())
    assert sampled.dtype == torch.float32
    assert torch.allclose(sampled.double(), exact, atol=1e-5)


@pytest.mark.parametrize("name", sorted(samplers.SAMPLERS))
@pytest.mark.parametrize("intervals", [1, 2, 7])
def test_what_is_asked_of_denoise_and_noise(name, intervals) -> None:
    sigmas = samplers.karras_sigmas(intervals, 0.02, 80)
    levels: list[Tensor] = []
    drawn: list[int] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        levels.append(sigma)
        return ideal(x, sigma)

    def noise(i: int) -> Tensor:
        drawn.append(i)
        return unit_noise(i)

    samplers.sample(name, denoise, NOISE * sigmas[0], sigmas, noise)
    assert len(levels) == samplers.evaluations(name, intervals)
    assert all(sigma.ndim == 0 and sigma > 0 for sigma in levels)
    assert {sigma.item() for sigma in levels} == set(sigmas[:-1].tolist())
    assert drawn == (list(range(intervals - 1)) if name == "ancestral" else [])


@given(st.sampled_from(sorted(samplers.SAMPLERS)), st.integers(1, 300))
def test_a_budget_is_used_and_never_exceeded(name, budget) -> None:
    intervals = samplers.intervals_for(name, budget)
    assert samplers.evaluations(name, intervals) <= budget < samplers.evaluations(name, intervals + 1)
    assert samplers.intervals_for(name, samplers.evaluations(name, budget)) == budget


def test_by_name_is_the_function_itself() -> None:
    sigmas = samplers.karras_sigmas(6, 0.02, 80)
    x = NOISE * sigmas[0]
    for name, sampler in samplers.SAMPLERS.items():
        by_name = samplers.sample(name, ideal, x, sigmas, unit_noise)
        assert torch.equal(by_name, sampler(ideal, x, sigmas, unit_noise))
    by_name = samplers.sample("ddim", ideal, x, sigmas, unit_noise, eta=0.5)
    assert torch.equal(by_name, samplers.sample_ddim(ideal, x, sigmas, unit_noise, eta=0.5))
    assert not torch.equal(by_name, samplers.sample_ddim(ideal, x, sigmas))


def test_mistakes_are_named() -> None:
    sigmas = samplers.karras_sigmas(4, 0.02, 80)
    with pytest.raises(UserError, match=r"sampler: 'hein' is not a valid choice \(did you mean 'heun'\?\)"):
        samplers.sample("hein", ideal, NOISE, sigmas)
    with pytest.raises(UserError, match=r"eta: 0\.5 has no effect with sampler 'heun'"):
        samplers.sample("heun", ideal, NOISE, sigmas, eta=0.5)
    with pytest.raises(UserError, match="evaluations: 0 is too few"):
        samplers.intervals_for("euler", 0)
    with pytest.raises(ValueError, match="needs `noise`"):
        samplers.sample_ancestral(ideal, NOISE, sigmas)
    with pytest.raises(ValueError, match=r"eta is 1\.5"):
        samplers.sample_ddim(ideal, NOISE, sigmas, unit_noise, eta=1.5)
    with pytest.raises(ValueError, match="order is 4"):
        samplers.sample_unipc(ideal, NOISE, sigmas, order=4)
    with pytest.raises(ValueError, match="order is 5"):
        samplers.sample_ipndm(ideal, NOISE, sigmas, order=5)


@pytest.mark.parametrize(
    "levels", [[1.0], [1.0, 1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [math.inf, 1.0], [math.nan, 1.0, 0.0]]
)
def test_levels_that_do_not_descend_to_zero_are_refused(levels) -> None:
    with pytest.raises(ValueError, match="strictly descending"):
        samplers.sample_euler(ideal, NOISE, torch.tensor(levels))
