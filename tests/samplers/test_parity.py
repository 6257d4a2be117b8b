"""The same samples as diffusers' schedulers: same network, same levels, same noise.

Their schedules are kept in float32, so agreement is to float32's precision over the whole sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from denoisers import ddpm_denoiser, flow_denoiser
from torch import Tensor

from safelight import samplers

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, at import and in use

STEPS = 1000
BETAS = samplers.linear_betas(STEPS)
SIGNAL = samplers.alphas_cumprod(BETAS)
CLOSE = 1e-5
START = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(x_t: Tensor, t: Tensor) -> Tensor:
    """A smooth, non-linear stand-in for a network; t in training timesteps, (B,) or ()."""
    return 0.6 * x_t + 0.3 * torch.cos(2 * x_t.flip(1) + t.reshape(-1, 1, 1, 1) / 200)


def distance(x: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((x - theirs).abs().max() / theirs.abs().max()).item()


@pytest.fixture(scope="module")
def diffusers() -> Any:
    return pytest.importorskip("diffusers")


def noise_of(seed: int) -> Callable[[int], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(START.shape, generator=generator, dtype=torch.float64) for _ in range(60)]
    return draws.__getitem__


def run(scheduler: Any, x: Tensor, model: Callable[[Tensor, Tensor], Tensor], **options: Any) -> Tensor:
    """Their loop, over their timesteps."""
    for t in scheduler.timesteps:
        inputs = scheduler.scale_model_input(x, t)
        x = scheduler.step(model(inputs, t.double()), t, x, **options).prev_sample
    return x


def trained(cls: Any, **config: Any) -> Any:
    return cls(num_train_timesteps=STEPS, trained_betas=BETAS.numpy(), **config)


def preserving(x: Tensor, sigma: Tensor) -> Tensor:
    """Their x_t of ours."""
    return x / (1 + sigma**2).sqrt()


@pytest.mark.parametrize("n", [10, 50])
@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading"])
def test_euler(diffusers, spacing, n) -> None:
    if spacing == "linspace":
        n = {10: 10, 50: 28}[n]  # theirs does not round timesteps: 999 = 9 * 111 = 27 * 37
    sigmas = samplers.ddpm_sigmas(SIGNAL, n, spacing)
    scheduler = trained(diffusers.EulerDiscreteScheduler, timestep_spacing=spacing)
    scheduler.set_timesteps(n)
    assert scheduler.timesteps.tolist() == samplers.ddpm_timesteps(STEPS, n, spacing).tolist()
    sampled = samplers.sample_euler(ddpm_denoiser(network, SIGNAL), START * sigmas[0], sigmas)
    assert distance(sampled, run(scheduler, START * sigmas[0], network)) < CLOSE


@pytest.mark.parametrize("target", ["epsilon", "v"])
def test_heun_in_sigma(diffusers, target) -> None:
    kind = {"epsilon": "epsilon", "v": "v_prediction"}[target]
    sigmas = samplers.ddpm_sigmas(SIGNAL, 20)
    scheduler = trained(diffusers.HeunDiscreteScheduler, timestep_spacing="trailing", prediction_type=kind)
    scheduler.set_timesteps(20)
    denoise = ddpm_denoiser(network, SIGNAL, target)
    sampled = samplers.sample_heun(denoise, START * sigmas[0], sigmas, time="sigma")
    assert len(scheduler.timesteps) == samplers.evaluations("heun", 20)
    assert distance(sampled, run(scheduler, START * sigmas[0], network)) < CLOSE


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(diffusers, eta) -> None:
    sigmas = samplers.ddpm_sigmas(SIGNAL, 50)
    noise = noise_of(7)
    x = preserving(START * sigmas[0], sigmas[0])
    scheduler = trained(diffusers.DDIMScheduler, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(50)
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(network(x, t.double()), t, x, eta=eta, variance_noise=noise(i)).prev_sample
    denoise = ddpm_denoiser(network, SIGNAL)
    assert distance(samplers.sample_ddim(denoise, START * sigmas[0], sigmas, noise, eta=eta), x) < CLOSE


@pytest.mark.parametrize("target", ["epsilon", "v", "x0"])
def test_ancestral(diffusers, target) -> None:
    kind = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}[target]
    sigmas = samplers.ddpm_sigmas(SIGNAL, 50)
    scheduler = trained(
        diffusers.DDPMScheduler, timestep_spacing="trailing", clip_sample=False, prediction_type=kind
    )
    scheduler.set_timesteps(50)
    theirs = run(
        scheduler,
        preserving(START * sigmas[0], sigmas[0]),
        network,
        generator=torch.Generator().manual_seed(7),
    )
    denoise = ddpm_denoiser(network, SIGNAL, target)
    assert (
        distance(samplers.sample_ancestral(denoise, START * sigmas[0], sigmas, noise_of(7)), theirs) < CLOSE
    )


@pytest.mark.parametrize("end", ["zero", "sigma_min"])
@pytest.mark.parametrize("n", [5, 10, 40])  # below 15 theirs ends in an interval of order 1
def test_dpmpp_2m(diffusers, n, end) -> None:
    scheduler = trained(
        diffusers.DPMSolverMultistepScheduler,
        solver_order=2,
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
        final_sigmas_type=end,
        lower_order_final=end == "zero",
    )
    scheduler.set_timesteps(n)
    sigmas = ending(samplers.ddpm_sigmas(SIGNAL, n), scheduler)
    theirs = run(scheduler, preserving(START * sigmas[0], sigmas[0]), network)
    sampled = samplers.sample_dpmpp_2m(ddpm_denoiser(network, SIGNAL), START * sigmas[0], sigmas)
    assert distance(preserving(sampled, sigmas[-1]), theirs) < CLOSE


@pytest.mark.parametrize("end", ["zero", "sigma_min"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("n", [3, 10, 40])
def test_unipc(diffusers, n, order, end) -> None:
    scheduler = trained(
        diffusers.UniPCMultistepScheduler,
        solver_order=order,
        solver_type="bh2",
        timestep_spacing="trailing",
        final_sigmas_type=end,
        lower_order_final=end == "zero",
    )
    scheduler.set_timesteps(n)
    sigmas = ending(samplers.ddpm_sigmas(SIGNAL, n), scheduler)
    theirs = run(scheduler, preserving(START * sigmas[0], sigmas[0]), network)
    denoise = ddpm_denoiser(network, SIGNAL)
    sampled = samplers.sample_unipc(denoise, START * sigmas[0], sigmas, order=order)
    assert distance(preserving(sampled, sigmas[-1]), theirs) < CLOSE


def ending(sigmas: Tensor, scheduler: Any) -> Tensor:
    """Our levels with their last: 0, or, where they end at timestep 0, their float32 value, 8e-5 off."""
    return torch.cat([sigmas[:-1], scheduler.sigmas[-1:].double()])


@pytest.mark.parametrize("n", [3, 10, 40])
def test_ipndm(diffusers, n) -> None:
    """Theirs predicts v at the angle of x_t = cos x0 + sin n; its "betas" are the sines."""
    sigmas = samplers.karras_sigmas(n, 0.02, 20)
    scheduler = diffusers.IPNDMScheduler(trained_betas=(sigmas / (1 + sigmas**2).sqrt()).numpy())
    scheduler.set_timesteps(n)
    theirs = run(scheduler, preserving(START * sigmas[0], sigmas[0]), network)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        x_t = preserving(x, sigma)
        v = network(x_t, sigma.atan() * 2 / torch.pi)
        return preserving(x_t - sigma * v, sigma)

    assert distance(samplers.sample_ipndm(denoise, START * sigmas[0], sigmas), theirs) < CLOSE


def velocity(x_t: Tensor, t: Tensor) -> Tensor:
    return network(x_t, STEPS * t)


def flow_start(sigmas: Tensor) -> Tensor:
    """x_t of flow at the first level."""
    return START * sigmas[0] / (1 + sigmas[0])


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_euler(diffusers, shift) -> None:
    sigmas = samplers.flow_sigmas(20, shift)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=STEPS, shift=shift)
    scheduler.set_timesteps(sigmas=[0.999 * (20 - i) / 20 for i in range(20)])
    x = flow_start(sigmas)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x.double(), t.double()), t, x).prev_sample
    assert distance(samplers.sample_euler(flow_denoiser(velocity), START * sigmas[0], sigmas), x) < CLOSE


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_heun(diffusers, shift) -> None:
    sigmas = samplers.flow_sigmas(20, shift)
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(num_train_timesteps=STEPS, shift=shift)
    scheduler.sigma_max, scheduler.sigma_min = 0.999, 0.999 / 20  # ours begins short of t = 1
    scheduler.set_timesteps(20)
    x = flow_start(sigmas)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x.double(), t.double()), t, x).prev_sample
    assert distance(samplers.sample_heun(flow_denoiser(velocity), START * sigmas[0], sigmas), x) < CLOSE


@pytest.mark.parametrize("name", ["unipc", "dpmpp_2m"])
def test_flow_multistep(diffusers, name) -> None:
    cls, config = {
        "unipc": (diffusers.UniPCMultistepScheduler, {"solver_order": 3}),
        "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {"solver_order": 2}),
    }[name]
    sigmas = samplers.flow_sigmas(12)
    scheduler = cls(
        num_train_timesteps=STEPS, prediction_type="flow_prediction", use_flow_sigmas=True, **config
    )
    scheduler.set_timesteps(12)
    scheduler.sigmas = (sigmas / (1 + sigmas)).float()  # theirs are spaced otherwise, and timesteps truncated
    x = flow_start(sigmas)
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(velocity(x, scheduler.sigmas[i].double()), t, x).prev_sample
    assert distance(samplers.sample(name, flow_denoiser(velocity), START * sigmas[0], sigmas), x) < CLOSE
