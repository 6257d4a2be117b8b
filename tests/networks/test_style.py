"""The styled networks against plain operations."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from safelight.networks import style_discriminator, style_generator
from safelight.networks.style_generator import Modulated, at_size, sizes, smoothly_doubled
from safelight.types import Condition, DataSpec

TEXT = DataSpec((3, 32, 32), {"text": Condition("text", 6)})


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_is_a_convolution_with_each_samples_own_weights(demodulate):
    """Karras 2020, equations 1 and 3, one sample at a time."""
    torch.manual_seed(0)
    layer = Modulated(4, 5, 7, (6, 6), demodulate=demodulate)
    x, w, h = torch.randn(3, 4, 8, 8), torch.randn(3, 7), torch.randn(3, 6)
    y = layer(x, w, h)
    for index in range(3):
        scale = layer.style(w[index : index + 1], h[index : index + 1])[0]
        weight = layer.weight * layer.gain * scale[None, :, None, None]
        if demodulate:
            weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        expected = F.conv2d(x[index : index + 1], weight, layer.bias, padding=1)[0]
        torch.testing.assert_close(y[index], expected, rtol=1e-4, atol=1e-5)


def test_without_text_a_style_is_that_of_the_latent():
    torch.manual_seed(0)
    layer = Modulated(4, 5, 7, (6, 6))
    w = torch.randn(2, 7)
    assert torch.equal(layer.style(w, None), layer.affine(w))
    generator = style_generator.StyleGeneratorConfig(latent=8, depth=1, base=64, largest=8).build(TEXT)
    z, text = torch.randn(2, 8), torch.randn(2, 6)
    absent, there = torch.tensor([False, False]), torch.tensor([True, True])
    none = generator(z, {"text": text}, absent).detach()
    torch.testing.assert_close(none, generator(z, {"text": torch.zeros(2, 6)}, there))
    assert float((none - generator(z, {"text": text}, there).detach()).abs().max()) > 1e-3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_doubling_is_bilinear_interpolation_either_way(memory_format):
    x = torch.randn(2, 3, 5, 4).contiguous(memory_format=memory_format)
    expected = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(smoothly_doubled(x), expected)


def test_noise_has_unit_variance_at_every_size():
    noise = torch.randn(64, 2, 32, 32)
    for side in (4, 8, 16, 32):
        first, second = at_size(noise, (side, side))
        assert first.shape == second.shape == (64, 1, side, side)
        assert float(first.var()) == pytest.approx(1, abs=0.15)
        assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("shape", "smallest", "count"),
    [
        ((3, 1024, 1024), (4, 4), 9),
        ((3, 32, 32), (4, 4), 4),
        ((1, 28, 28), (7, 7), 3),
        ((3, 64, 32), (8, 4), 4),
    ],
)
def test_sizes_halve_down_to_four(shape, smallest, count):
    sides = sizes(*shape[1:])
    assert (sides[0], sides[-1], len(sides)) == (smallest, shape[1:], count)
    spec = DataSpec(shape)
    if shape[1] <= 64:
        generator = style_generator.StyleGeneratorConfig(latent=8, depth=1, base=64, largest=8).build(spec)
        x = generator(torch.randn(2, 8), {}, torch.zeros(2, dtype=torch.bool))
        assert x.shape == (2, *shape)
        judge = style_discriminator.StyleDiscriminatorConfig(base=64, largest=8).build(spec)
        assert judge(x, {}, torch.zeros(2, dtype=torch.bool)).shape == (2,)


def test_the_full_size_network_has_stylegan2s_widths():
    """At 1024: 512 channels up to 32x32, then halved with every size (Karras 2020)."""
    with torch.device("meta"):
        net = style_generator.StyleGeneratorConfig(base=32768).build(DataSpec((3, 1024, 1024)))
    widths = [layer.convolution.weight.shape[0] for layer in net.synthesis.first]
    assert widths == [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert net.synthesis.styles == 18
