"""First weights of the DC networks: what passes keeps its spread. And what PyTorch's are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from safelight.networks import dcgan
from safelight.networks.dcgan import he
from safelight.types import DataSpec

SPEC = DataSpec((3, 128, 128))


def answers(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What every layer with weights answers."""
    seen: list[torch.Tensor] = []
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda module, inputs, answer: seen.append(answer))
    with torch.no_grad():
        net(x, {}, torch.ones(len(x), dtype=torch.bool))
    return seen


def test_the_spread_of_a_latent_passes_every_layer():
    torch.manual_seed(0)
    net = dcgan.DCGeneratorConfig(stem=64, stages=(64, 64, 64, 64, 64)).build(SPEC)
    seen = answers(net, torch.randn(16, 100))
    inner = [value[..., 8:-8, 8:-8] if value.ndim == 4 and value.shape[-1] > 16 else value for value in seen]
    assert [float(value.square().mean()) for value in inner] == pytest.approx([1.0] * 8, rel=0.5)
    assert not any(value.any() for name, value in net.state_dict().items() if name.endswith("bias"))


def test_a_discriminator_tells_images_apart_at_once():
    torch.manual_seed(0)
    net = dcgan.DCDiscriminatorConfig(stages=(32,) * 5).build(SPEC).eval()
    assert 0.2 < float(answers(net, torch.randn(16, 3, 128, 128))[-1].std()) < 5


@pytest.mark.parametrize(
    ("layer", "count"),
    [(nn.Linear(50, 2000), 50), (nn.Conv2d(8, 400, 3), 72), (nn.ConvTranspose2d(40, 300, 4, 2), 160)],
)
def test_he_counts_what_an_output_is_made_of(layer, count):
    torch.manual_seed(0)
    he(layer, slope=0.2)
    assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / (1.04 * count)), rel=0.03)


@pytest.mark.parametrize(("layer", "count"), [(nn.Linear(50, 2000), 50), (nn.Conv2d(8, 400, 3), 72)])
def test_the_default_that_networks_state_is_pytorchs(layer, count):
    for value in (layer.weight.detach(), layer.bias.detach()):
        assert float(value.abs().max()) == pytest.approx(1 / math.sqrt(count), rel=0.02)
        assert float(value.std()) == pytest.approx(1 / math.sqrt(3 * count), rel=0.06)
