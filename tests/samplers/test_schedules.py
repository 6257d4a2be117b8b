"""Noise levels: end points, closed forms, and the way back from a level to a timestep."""

from __future__ import annotations

import math

import pytest
import torch
from denoisers import ddpm_denoiser, flow_denoiser
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from safelight import samplers

LINEAR = samplers.alphas_cumprod(samplers.linear_betas(1000))
COSINE = samplers.alphas_cumprod(samplers.cosine_betas(1000))
DIGITS = samplers.alphas_cumprod(samplers.linear_betas(300))


def sigma_of(alphas_cumprod: Tensor, t: int) -> float:
    return math.sqrt(1 / alphas_cumprod[t].item() - 1)


@given(st.data())
def test_ddpm_levels_run_from_the_last_timestep_to_zero(data) -> None:
    alphas_cumprod = data.draw(st.sampled_from([LINEAR, COSINE, DIGITS]))
    n = data.draw(st.integers(1, len(alphas_cumprod)))
    spacing = data.draw(st.sampled_from(["trailing", "linspace"]))
    sigmas = samplers.ddpm_sigmas(alphas_cumprod, n, spacing)
    assert sigmas.shape == (n + 1,)
    assert sigmas[0].item() == pytest.approx(sigma_of(alphas_cumprod, -1), rel=1e-12)
    assert sigmas[-1] == 0
    assert (sigmas[1:] < sigmas[:-1]).all()
    timesteps = samplers.ddpm_timesteps(len(alphas_cumprod), n, spacing)
    assert timesteps.unique().numel() == n
    assert torch.allclose(
        samplers.timestep_of_sigma(sigmas[:-1], alphas_cumprod), timesteps.double(), atol=1e-6
    )


def test_spacings_in_numbers() -> None:
    assert samplers.ddpm_timesteps(1000, 5).tolist() == [999, 799, 599, 399, 199]
    assert samplers.ddpm_timesteps(1000, 4, "linspace").tolist() == [999, 666, 333, 0]
    assert samplers.ddpm_timesteps(1000, 5, "leading").tolist() == [800, 600, 400, 200, 0]
    assert samplers.ddpm_timesteps(300, 300).tolist() == list(range(299, -1, -1))


@pytest.mark.parametrize("alphas_cumprod", [LINEAR, COSINE, DIGITS])
def test_a_timestep_is_interpolated_in_log_sigma_and_stays_in_range(alphas_cumprod) -> None:
    between = math.sqrt(sigma_of(alphas_cumprod, 41) * sigma_of(alphas_cumprod, 42))
    levels = torch.tensor([0.0, 1e-6, between, 1e9])
    last = len(alphas_cumprod) - 1
    timesteps = samplers.timestep_of_sigma(levels, alphas_cumprod)
    assert torch.allclose(timesteps, torch.tensor([0, 0, 41.5, last], dtype=torch.float64), atol=1e-4)
    single = samplers.timestep_of_sigma(levels[2], alphas_cumprod)
    assert single.ndim == 0
    assert single.item() == pytest.approx(41.5, abs=1e-4)


def test_cosine_betas_follow_their_alphas_cumprod() -> None:
    """Up to the clipped end, alphas_cumprod is f(t) / f(0), f(t) = cos^2((t / T + s) / (1 + s) pi / 2)."""
    t = torch.arange(1, 1001, dtype=torch.float64)
    f = torch.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert torch.allclose(COSINE[:-1], f[:-1], atol=1e-12)
    betas = samplers.cosine_betas(1000)
    assert betas[-1] == 0.999
    assert (betas > 0).all()


def test_linear_betas_and_their_product() -> None:
    betas = samplers.linear_betas(300, 1e-4, 0.02)
    assert betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02], rel=1e-12)
    assert torch.allclose(betas.diff(), torch.full((299,), 0.0199 / 299, dtype=torch.float64))
    assert samplers.alphas_cumprod(betas)[2].item() == pytest.approx(math.prod((1 - betas[:3]).tolist()))


@given(st.integers(1, 200), st.floats(0.1, 10), st.floats(0.5, 0.99999))
def test_flow_levels_are_even_in_the_shifted_time(n, shift, t_max) -> None:
    sigmas = samplers.flow_sigmas(n, shift, t_max)
    shifted = sigmas / (1 + sigmas)
    t = shifted / (shift - (shift - 1) * shifted)  # Esser 2024, eq. 23, solved for t
    assert torch.allclose(t, t_max * torch.linspace(1, 0, n + 1, dtype=torch.float64), atol=1e-9)
    assert sigmas[-1] == 0


@given(st.integers(2, 200), st.floats(1e-3, 0.1), st.floats(1, 1000), st.floats(1, 10))
def test_karras_levels_keep_their_ends_and_are_even_in_the_root(n, sigma_min, sigma_max, rho) -> None:
    sigmas = samplers.karras_sigmas(n, sigma_min, sigma_max, rho)
    assert sigmas[[0, -2, -1]].tolist() == pytest.approx([sigma_max, sigma_min, 0.0], rel=1e-9)
    steps = (sigmas[:-1] ** (1 / rho)).diff()
    assert torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-6, atol=0)


def test_the_levels_of_edm() -> None:
    """N = 18, sigma 0.002 to 80, rho 7 (Karras 2022): the second level, worked by hand."""
    second = (80 ** (1 / 7) + (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 17) ** 7
    sigmas = samplers.karras_sigmas(18, 0.002, 80)
    assert sigmas[1].item() == pytest.approx(second)
    assert samplers.karras_sigmas(1, 0.002, 80).tolist() == pytest.approx([80, 0])


X0 = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
N = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("target", ["epsilon", "v", "x0"])
@pytest.mark.parametrize("t", [0, 150, 299])
def test_a_perfect_ddpm_network_denoises_perfectly(target, t) -> None:
    sigma = samplers.ddpm_sigmas(DIGITS, 300)[299 - t]
    a, b = DIGITS[t].sqrt(), (1 - DIGITS[t]).sqrt()

    def network(x_t: Tensor, timestep: Tensor) -> Tensor:
        assert torch.allclose(x_t, a * X0 + b * N)  # what it was trained on
        assert torch.allclose(timestep, torch.full((4,), float(t), dtype=torch.float64), atol=1e-9)
        return {"epsilon": N, "v": a * N - b * X0, "x0": X0}[target]

    denoise = ddpm_denoiser(network, DIGITS, target)
    assert torch.allclose(denoise(X0 + sigma * N, sigma), X0, atol=1e-10)


@pytest.mark.parametrize("t", [0.001, 0.3, 0.999])
def test_a_perfect_flow_network_denoises_perfectly(t) -> None:
    def network(x_t: Tensor, time: Tensor) -> Tensor:
        assert torch.allclose(x_t, (1 - t) * X0 + t * N)
        assert torch.allclose(time, torch.full((4,), t, dtype=torch.float64))
        return N - X0

    sigma = torch.tensor(t / (1 - t), dtype=torch.float64)
    assert torch.allclose(flow_denoiser(network)(X0 + sigma * N, sigma), X0, atol=1e-10)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"n is 301, not in 1\.\.300"):
        samplers.ddpm_sigmas(DIGITS, 301)
    with pytest.raises(ValueError, match="t_max=1"):
        samplers.flow_sigmas(4, t_max=1)
    with pytest.raises(ValueError, match="sigma_min=2"):
        samplers.karras_sigmas(4, 2, 1)
