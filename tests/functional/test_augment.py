"""Warps and colours against what they must be where the answer is known."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from safelight.data.views import Views
from safelight.functional.augment import (
    SYM6,
    adaptive,
    adaptive_parameters,
    colour,
    differentiable,
    differentiable_parameters,
    filtered,
    warp,
)
from safelight.methods.joint import JointConfig, moves
from safelight.randomness import RowDraw


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


def test_beyond_the_edges_is_nothing_where_it_is_not_reflected():
    x = image()
    moved = warp(x, torch.full((3,), 2.0), torch.full((3,), -1.0), reflected=False)
    assert torch.equal(moved[:, :, 2:, :-1], x[:, :, :-2, 1:])
    assert not moved[:, :, :2].any()
    assert not moved[..., -1].any()


def test_the_filter_is_a_lowpass_of_an_orthogonal_wavelet_with_six_vanishing_moments():
    h, tap = torch.tensor(SYM6, dtype=torch.float64), torch.arange(12.0, dtype=torch.float64)
    products = [float((h[2 * shift :] * h[: 12 - 2 * shift]).sum()) for shift in range(6)]
    assert products == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-11)
    moments = [float(((-1) ** tap * (tap - 5) ** power * h).sum()) for power in range(7)]
    assert moments[:6] == pytest.approx([0] * 6, abs=1e-7)
    assert abs(moments[6]) > 1


@pytest.mark.parametrize("size", [1, 2, 8, 65])
def test_between_the_filters_nothing_and_whole_shifts_are_exact(size):
    ones = torch.ones(1)
    torch.testing.assert_close(filtered(size, 0 * ones, ones)[0], torch.eye(size), rtol=0, atol=1e-5)
    x = image()
    moved = filtered(8, 2 * ones, ones) @ x
    torch.testing.assert_close(moved, warp(x, torch.full((3,), 2.0), torch.zeros(3)), rtol=0, atol=1e-5)


def test_between_the_filters_straight_lines_stay_straight_and_fine_waves_do_not_alias():
    """Shrunk by 2, a wave of period 2.5 has none that pixels could show; linear reading makes one of 5."""
    line, ones = torch.arange(64.0), torch.ones(1)
    moved = filtered(64, 0.37 * ones, 1.3 * ones)[0] @ line
    wanted = (line - 31.5 - 0.37) / 1.3 + 31.5
    torch.testing.assert_close(moved[16:48], wanted[16:48], rtol=0, atol=1e-3)
    wave = torch.cos(0.8 * math.pi * line)
    assert (filtered(64, 0 * ones, 0.5 * ones)[0] @ wave)[25:38].abs().max() < 0.02
    aliased = warp(wave.expand(1, 1, 1, 64), 0 * ones, 0 * ones, ones, 0.5 * ones)
    assert aliased[..., 25:38].abs().max() > 0.2


def test_ada_is_the_papers_matrices_in_the_papers_order():
    """A bump lands where mirror, turn, translate, scale, stretch and translate in turn take it (figure 8)."""
    draw, p, size = RowDraw(3, 0, "a", range(200)), torch.tensor(1.0), 48
    do = adaptive_parameters(draw, "real", p, size, size)
    pixel = torch.arange(size) - (size - 1) / 2
    start = (torch.tensor(3.0), torch.tensor(-4.0))  # y, x from the centre
    bump = torch.exp(-((pixel[:, None] - start[0]) ** 2 + (pixel - start[1]) ** 2) / 18)
    x = adaptive(bump.expand(200, 1, size, size), draw, "real", p)
    x = (x / do["contrast"][:, None, None, None] - do["brightness"][:, None, None, None])[:, 0].relu()

    y, across = start[0].expand(200), start[1] * (1 - 2 * do["mirror"])
    for quarter in (1, 2, 3):  # anticlockwise: (y, x) -> (-x, y)
        again = do["quarter turns"] >= quarter
        y, across = torch.where(again, -across, y), torch.where(again, y, across)
    y, across = y + do["shift y"], across + do["shift x"]
    y, across = y * do["scale"], across * do["scale"]
    y, across = y / do["stretch"], across * do["stretch"]
    y, across = y + do["fraction y"], across + do["fraction x"]
    inside = (y.abs() < 12) & (across.abs() < 12)
    assert inside.sum() > 100
    near = [torch.exp(-((pixel - place[:, None]) ** 2) / 18) for place in (y, across)]  # and no reflection
    x = x * near[0][:, :, None] * near[1][:, None]
    for axis, place in ((2, y), (1, across)):
        centroid = (x.sum(axis) * pixel).sum(1) / x.sum((1, 2))
        torch.testing.assert_close(centroid[inside], place[inside], rtol=0, atol=0.05)


def test_diffaugment_is_that_of_its_paper():
    """Shifts of -s to s and holes at every place, equally often; a hole of half the side, of zeros."""
    rows = 20_000
    do = differentiable_parameters(RowDraw(0, 0, "a", range(rows)), "real", 16, 12)
    for axis, most, places in (("y", 2, 17), ("x", 2, 13)):
        values, counts = do[f"shift {axis}"].unique(return_counts=True)
        assert values.tolist() == list(range(-most, most + 1))
        assert counts.tolist() == pytest.approx([rows / 5] * 5, rel=0.06)
        values, counts = do[f"hole {axis}"].unique(return_counts=True)
        assert values.tolist() == list(range(places))
        assert counts.tolist() == pytest.approx([rows / places] * places, rel=0.15)
    draw = RowDraw(0, 0, "a", range(40))
    x, do = (
        differentiable(torch.ones(40, 1, 16, 12), draw, "real"),
        differentiable_parameters(draw, "real", 16, 12),
    )
    for row in range(40):
        y, across, top, left = (int(do[name][row]) for name in ("shift y", "shift x", "hole y", "hole x"))
        there = torch.zeros(16, 12, dtype=torch.bool)
        there[max(y, 0) : 16 + min(y, 0), max(across, 0) : 12 + min(across, 0)] = True
        there[max(top - 4, 0) : top + 4, max(left - 3, 0) : left + 3] = False
        assert torch.equal(x[row, 0] != 0, there)


def dependence(a: torch.Tensor, b: torch.Tensor) -> float:
    """Pearson's statistic over its degrees of freedom, values in four bins: 1 without any."""
    binned = []
    for value in (a.contiguous(), b.contiguous()):
        kinds = value.unique()
        if len(kinds) > 4:
            edges = value.float().quantile(torch.tensor([0.25, 0.5, 0.75])).unique()
            binned.append(torch.bucketize(value.float(), edges))
        else:
            binned.append(torch.searchsorted(kinds, value))
    counts = torch.zeros(4, 4).index_put_(tuple(binned), torch.ones(len(a)), accumulate=True)
    expected = counts.sum(1, keepdim=True) * counts.sum(0) / len(a)
    there = expected > 0
    freedom = ((counts.sum(1) > 0).sum() - 1) * ((counts.sum(0) > 0).sum() - 1)
    return float(((counts - expected)[there] ** 2 / expected[there]).sum() / freedom)


COUPLED = {("shift y", "shift x"), ("fraction y", "fraction x")}  # by their common coin, as in the paper


@pytest.mark.parametrize("of", ["diffaugment", "ada", "half of ada", "joint", "views"])
def test_the_draws_of_every_augmentation_are_pairwise_independent(of):
    draw = RowDraw(0, 0, "a", range(8192))
    if of == "diffaugment":
        values = differentiable_parameters(draw, "real", 32, 32)
    elif of == "joint":
        values = moves(JointConfig(), draw)
    elif of == "views":
        views = Views(flip=True, turns=4)
        seen = [views.all[place] for place in views.drawn(draw).tolist()]
        values = {"mirrored": torch.tensor([int(view.mirrored) for view in seen]),
                  "quarters": torch.tensor([view.quarters for view in seen])}  # fmt: skip
    else:
        values = adaptive_parameters(draw, "real", torch.tensor(0.5 if "half" in of else 1.0), 32, 32)
    assert all(len(value.unique()) > 1 for value in values.values())
    pairs = [pair for pair in combinations(values, 2) if not ("half" in of and pair in COUPLED)]
    dependent = {pair: dependence(values[pair[0]], values[pair[1]]) for pair in pairs}
    assert max(dependent.values()) < 6, max(dependent, key=dependent.get)


def test_a_third_of_a_turn_of_hue_permutes_the_channels():
    x = image()
    ones = torch.ones(3)
    turned = colour(x, ones, torch.full((3,), 2 * math.pi / 3), ones)
    torch.testing.assert_close(turned, x[:, [2, 0, 1]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(colour(x, ones, 0 * ones, ones), x, rtol=1e-4, atol=1e-5)
    grey = colour(x, ones, 0 * ones, 0 * ones)
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
