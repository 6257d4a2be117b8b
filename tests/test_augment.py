"""Warps and colours against what they must be where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from safelight.augment import adaptive, colour, differentiable, warp
from safelight.draw import RowDraw


def image(count: int = 3, channels: int = 3) -> torch.Tensor:
    return RowDraw(1, 0, "x", range(count)).normal("x", channels, 8, 6).tanh()


def test_whole_shifts_move_pixels_and_reflect_at_the_edge():
    x = image()
    moved = warp(x, torch.tensor([0.0, 2.0, -1.0]), torch.tensor([0.0, 0.0, 3.0]))
    torch.testing.assert_close(moved[0], x[0])
    torch.testing.assert_close(moved[1, :, 2:], x[1, :, :-2])
    torch.testing.assert_close(moved[1, :, 1], x[1, :, 1])  # row -1 reads row 1
    torch.testing.assert_close(moved[2, :, :7, 3:], x[2, :, 1:, :3])


def test_half_a_pixel_is_the_mean_of_two():
    x = image()
    moved = warp(x, torch.zeros(3), torch.full((3,), 0.5))
    torch.testing.assert_close(moved[..., 1:], (x[..., 1:] + x[..., :-1]) / 2)


def test_scaling_a_ramp_scales_its_slope():
    ramp = torch.arange(9.0)[None, None, None].expand(1, 1, 9, 9) - 4
    wide = warp(ramp, torch.zeros(1), torch.zeros(1), torch.ones(1), torch.full((1,), 2.0))
    torch.testing.assert_close(wide[0, 0, 4], torch.arange(-2, 2.5, 0.5))


def test_a_third_of_a_turn_of_hue_permutes_the_channels():
    x = image()
    one = torch.ones(3)
    turned = colour(x, one, torch.full((3,), 2 * math.pi / 3), one)
    torch.testing.assert_close(turned, x[:, [2, 0, 1]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(colour(x, one, 0 * one, one), x, rtol=1e-4, atol=1e-5)
    grey = colour(x, one, 0 * one, 0 * one)
    torch.testing.assert_close(grey, x.mean(1, keepdim=True).expand_as(x), rtol=1e-4, atol=1e-5)


def test_ada_at_p_0_is_the_identity_and_at_p_1_is_not():
    x, draw = image(), RowDraw(0, 0, "a", range(3))
    torch.testing.assert_close(adaptive(x, draw, "real", torch.tensor(0.0)), x, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(adaptive(x, draw, "real", torch.tensor(1.0)), x, atol=0.1)


def test_each_is_the_same_again_and_each_sample_its_own():
    x, draw = image(), RowDraw(0, 0, "a", range(3))
    for transform in (differentiable, lambda *a: adaptive(*a, torch.tensor(0.7))):
        assert torch.equal(transform(x, draw, "real"), transform(x, draw, "real"))
        alone = transform(x[1:2], RowDraw(0, 0, "a", range(1, 2)), "real")
        torch.testing.assert_close(alone, transform(x, draw, "real")[1:2])


def test_gradient_penalties_can_go_through_them():
    """The second derivative exists and is that of finite differences."""
    x = image(2).double().requires_grad_()
    draw = RowDraw(0, 0, "a", range(2))

    def penalty(x: torch.Tensor) -> torch.Tensor:
        out = adaptive(x, draw, "real", torch.tensor(0.8)).square().sum()
        (gradient,) = torch.autograd.grad(out, x, create_graph=True)
        return gradient.square().sum()

    (gradient,) = torch.autograd.grad(penalty(x), x)
    direction = torch.ones_like(x)
    step = 1e-4
    difference = (penalty(x + step * direction) - penalty(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_half_open_draws_augment_at_their_ends(word, monkeypatch):
    draw, x = RowDraw(0, 0, "p", range(3)), image().repeat(1, 1, 1, 2)[..., :8]
    words = np.full((3, 64), word, np.uint64)
    monkeypatch.setattr(RowDraw, "_words", lambda self, name, size: words)
    for made in (adaptive(x, draw, "a", torch.tensor(1.0)), differentiable(x, draw, "d")):
        assert made.shape == x.shape
        assert made.isfinite().all()
