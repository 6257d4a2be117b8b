"""The one-step denoiser on a problem whose answer is known."""

from __future__ import annotations

import torch
from torch import nn

from safelight.methods.denoise import Denoise, DenoiseConfig, from_unit, to_unit
from safelight.randomness import RowDraw
from safelight.types import Batch, DataSpec, Moment


class Shrink(nn.Module):
    def forward(self, z, t, given, present):
        return 0.5 * z


class Build:
    def build(self, spec):
        return Shrink()


def test_loss_and_strips_are_in_units_of_the_images_range():
    """With D(z) = z / 2 and x + σ ε, D - x = (σ ε - x) / 2 in [0, 1] units."""
    method = Denoise(DenoiseConfig(sigma=0.5), {"denoiser": Build()})
    nets = method.networks(DataSpec((1, 4, 4)))
    x = RowDraw(0, 0, "x", range(5)).uniform("x", 1, 4, 4) * 2 - 1
    batch = Batch(x, {}, torch.zeros(5, dtype=torch.bool), range(5), 5)
    moment = Moment(0, RowDraw(0, 0, "denoise", range(5)), {}, {}, lambda t: t, lambda: None)
    loss = method.loss(nets, batch, moment)[0]["mse"]
    noise = RowDraw(0, 0, "denoise", range(5)).normal("noise", 1, 4, 4)
    torch.testing.assert_close(loss, ((0.5 * noise - to_unit(x)) / 2).square().mean((1, 2, 3)))
    panels = method.panels(nets, batch, RowDraw(0, 0, "denoise", range(5)))
    noising = panels["noising"].images
    assert panels["noising"].columns == (
        "σ = 0",
        "σ = 0.2",
        "σ = 0.4",
        "σ = 0.5",
        "σ = 0.6",
        "σ = 0.8",
        "σ = 1",
    )
    torch.testing.assert_close(noising[:, 0], x[:4])
    torch.testing.assert_close(noising[:, 6] - x[:4], 2 * noise[:4])  # σ = 1 is the whole range, 2 in [-1, 1]
    torch.testing.assert_close(
        from_unit(to_unit(noising[:, 6]) / 2), panels["out-of-distribution"].images[:, 6]
    )
    measured = method.measure(nets, batch, RowDraw(0, 0, "denoise", range(5)))
    torch.testing.assert_close(measured["sigma 0.5"], loss)
