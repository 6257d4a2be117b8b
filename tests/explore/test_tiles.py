"""Tiles that are blended: nothing is seen twice as bright, nothing beyond a tile is held."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from models import model_of
from safelight.config import UserError
from safelight.data.space import Codec, Space
from safelight.explore.tiles import Tiled, blended, canvas_specs, paint, starts, tiled_space
from safelight.recipe import load
from safelight.samplers.generate import generate
from safelight.types import Condition, DataSpec


@pytest.mark.parametrize(("side", "tile"), [(16, 16), (17, 16), (64, 16), (50, 8), (9, 3)])
def test_tiles_cover_a_side_and_overlap(side, tile):
    places = list(starts(side, tile))
    assert (places[0], places[-1]) == (0, side - tile)
    assert all(later - place <= tile - tile // 4 for place, later in pairwise(places))


def test_what_looks_at_pixels_alone_is_the_same_in_tiles():
    x = torch.randn(2, 3, 20, 33)
    seen: list[torch.Size] = []

    def see(rows, columns):
        seen.append(x[:, :, rows, columns].shape)
        return x[:, :, rows, columns].sin()

    torch.testing.assert_close(blended(see, (20, 33), (8, 8)), x.sin())
    assert set(seen) == {torch.Size((2, 3, 8, 8))}


def test_tiles_that_disagree_are_blended_without_a_seam():
    """Each tile's own constant: neighbouring pixels never differ by more than a small share of that."""
    count = 0

    def see(rows, columns):
        nonlocal count
        count += 1
        return torch.full((1, 1, 16, 16), float(count % 2))

    steps = blended(see, (16, 64), (16, 16)).diff(dim=3).abs()
    assert count == len(list(starts(64, 16)))
    assert 0 < steps.max() < 0.3


def test_masks_go_with_their_tiles():
    class Reads(nn.Module):
        def forward(self, x, t, given, present):
            assert given["mask"].shape[2:] == x.shape[2:] == (8, 8)
            return x + given["mask"].sum(1, keepdim=True) + given["label"][:, None, None, None]

    x, mask = torch.randn(2, 4, 16, 24), torch.rand(2, 3, 16, 24)
    given = {"mask": mask, "label": torch.tensor([1, 5])}
    made = Tiled(Reads(), (8, 8))(x, torch.zeros(2), given, torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(made, x + mask.sum(1, keepdim=True) + given["label"][:, None, None, None])


def test_latents_are_decoded_in_tiles():
    held: list[int] = []

    def decode(z):
        held.append(z.shape[2] * z.shape[3])
        return nn.functional.interpolate(z[:, :3], scale_factor=2.0)

    space = Space(Codec("c", "d", 4, 2, lambda x: (x, x), decode), (0.1,) * 4, (2.0,) * 4)
    x = torch.rand(2, 4, 20, 12) - 0.5
    whole = space.to_pixels(x)
    held.clear()
    assert (abs(tiled_space(space, (8, 8)).to_pixels(x).astype(int) - whole) <= 1).all()
    assert max(held) == 64


def test_a_canvas_of_the_trained_size_is_a_sample_in_one_tile(tiny):
    recipe = load("digits-time", {**tiny, "network.classes": False})
    method = recipe.method()
    nets = {name: net.eval() for name, net in method.networks(DataSpec((1, 28, 28))).items()}
    nothing = torch.zeros(2, dtype=torch.bool)

    small, wide = DataSpec((1, 28, 28)), DataSpec((1, 28, 56))
    model = model_of(method, nets, recipe.sample, small)
    large = paint(model, {}, nothing, 3, wide)
    assert large.shape == (2, 28, 56, 1)
    painted = paint(model, {}, nothing, 3, small)
    plain = generate(method, nets, recipe.sample, {}, nothing, 3)
    assert np.abs(painted.astype(int) - Space().to_pixels(plain)).max() <= 1


def test_what_cannot_be_painted_is_told():
    spec = DataSpec((3, 64, 64), {"mask": Condition("mask", 5)})
    space = Space(Codec("c", "d", 4, 4, lambda x: (x, x), lambda z: z))
    assert canvas_specs(spec, space, (64, 128))[1].shape == (4, 16, 32)
    with pytest.raises(
        UserError, match="canvas 60x128: should be 64 pixels high or more, and a multiple of 4"
    ):
        canvas_specs(spec, space, (60, 128))
    with pytest.raises(UserError, match="64 pixels wide or more"):
        canvas_specs(spec, space, (64, 130))
    gan = load("fashion-gan").method()
    with pytest.raises(UserError, match="only diffusion models"):
        paint(model_of(gan, {}, None, spec, space=space), {}, torch.zeros(1, dtype=torch.bool), 0, spec)
