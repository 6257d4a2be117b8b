"""What a page draws with: samplers as coefficients are the samplers, and weights come back as they were."""

from __future__ import annotations

import zlib
from base64 import b64decode

import numpy as np
import pytest
import torch

from safelight import samplers
from safelight.export.browser import packed, program
from safelight.methods.diffusion import Diffusion, DiffusionConfig, DiffusionSampling
from safelight.networks.unet import UNetConfig
from safelight.store.tape import ordered, unordered


def output(x_t, t):
    """Some network."""
    return torch.tanh(1.5 * x_t.roll(1, -1) - t) - 0.3 * x_t


def followed(made, latent, noise):
    """As web/static/sampler.js follows a program."""
    values = {0: latent.double() * made["start"]}

    def drawn(parts):
        for index, _ in parts:
            if index % 3 == 2:
                values[index] = noise((index - 2) // 3).double()
        return sum(factor * values[index] for index, factor in parts)

    for k, call in enumerate(made["calls"]):
        values[3 * k] = x = drawn(call["x"])
        out = output((x * call["alpha"]).float(), call["t"]).double()
        estimate = call["x_factor"] * x + call["out_factor"] * out
        values[3 * k + 1] = estimate.clamp(-1, 1) if made["clip"] else estimate
    return drawn(made["out"])


@pytest.mark.parametrize("name", list(samplers.SAMPLERS))
@pytest.mark.parametrize(
    "config", [{"process": "flow"}, {"process": "ddpm", "timesteps": 300, "prediction": "epsilon"}], ids=str
)
def test_a_program_is_its_sampler(name, config):
    method = Diffusion(DiffusionConfig(**config), {"denoiser": UNetConfig()})
    how = DiffusionSampling(sampler=name, steps=7, eta=0.5 if name == "ddim" else 0.0)
    latent = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    noises = torch.randn(7, 1, 1, 4, 4, generator=torch.Generator().manual_seed(2))

    class Noise:
        def normal(self, name, *shape):
            return noises[int(name.removeprefix("sampler "))]

    net = {"denoiser": lambda x_t, t, given, present: output(x_t, t[:, None, None, None])}
    expected = method.sample(net, latent, {}, torch.tensor([False]), Noise(), how)
    made = program(method, how)
    assert len(made["calls"]) == samplers.evaluations(name, 7)
    torch.testing.assert_close(
        followed(made, latent, lambda i: noises[i]).float(), expected, atol=2e-5, rtol=1e-5
    )


def test_a_program_says_where_guidance_holds_and_stays_short():
    method = Diffusion(DiffusionConfig(), {"denoiser": UNetConfig()})
    made = program(method, DiffusionSampling(steps=10, guidance_interval=(0.3, 0.6)))
    assert [call["guided"] for call in made["calls"]] == [0.3 <= call["t"] <= 0.6 for call in made["calls"]]
    assert 0 < sum(call["guided"] for call in made["calls"]) < 10
    same = program(method, DiffusionSampling(steps=10, guidance_interval_sigma=(0.3 / 0.7, 0.6 / 0.4)))
    assert [call["guided"] for call in same["calls"]] == [call["guided"] for call in made["calls"]]
    long = program(method, DiffusionSampling(sampler="ancestral", steps=200))
    assert max(len(call["x"]) for call in long["calls"]) == 3  # x, D and noise of the interval before


def test_weights_come_back_bit_by_bit():
    first, then = (
        torch.randn(1001, generator=torch.Generator().manual_seed(seed)).bfloat16().view(torch.int16).numpy()
        for seed in (1, 2)
    )
    before, now = ordered(first.view(np.uint16)), ordered(then.view(np.uint16))
    planes = np.frombuffer(zlib.decompress(b64decode(packed(now, before)), -15), np.uint8)
    zigzag = planes[:1001].astype(np.uint16) << 8 | planes[1001:]
    difference = (zigzag >> 1) ^ -(zigzag & 1)
    np.testing.assert_array_equal(unordered(before + difference), then.view(np.uint16))
