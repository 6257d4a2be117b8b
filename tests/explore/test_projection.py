"""Projections on generators whose answer is known, and the feature maps they go by."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from safelight.explore.projection import ball, halves, project, seen_by


def linear(seed: int = 0):
    """Points (n, 4) -> images (n, 3, 8, 8), linear, of orthonormal columns times 3."""
    columns, _ = torch.linalg.qr(torch.randn(192, 4, generator=torch.Generator().manual_seed(seed)))
    return lambda x: 3 * (x @ columns.T).view(-1, 3, 8, 8)


def test_an_image_of_the_generator_is_found_again():
    make, chance = linear(), torch.Generator().manual_seed(1)
    truth, candidates = torch.randn(1, 4, generator=chance), torch.randn(16, 4, generator=chance)
    lines = []
    projection = project(
        make, candidates, make(truth), halves, 300, progress=lambda *event: lines.append(event)
    )
    torch.testing.assert_close(projection.x, truth, rtol=0.02, atol=0.02)
    assert projection.pixels[1] < 1e-3 * projection.pixels[0]
    apart = (make(candidates) - make(truth)).square().mean((1, 2, 3))
    assert float(apart.min()) <= projection.pixels[0] <= float(apart.mean())
    assert list(projection.distances) == sorted(projection.distances, reverse=True)
    assert lines[-1] == ("steps", 300, 300)
    again = project(make, candidates, make(truth), halves, 300)
    assert torch.equal(projection.x, again.x)


def test_of_pixels_alone_it_is_the_least_squares_solution():
    """The nearest point to an image that no latent makes is its orthogonal projection."""
    make = linear()
    target = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    columns = make(torch.eye(4)).flatten(1).T
    solution = torch.linalg.lstsq(columns, target.flatten()[:, None]).solution.T

    def constant(x):
        return [torch.ones_like(x)]

    projection = project(make, torch.zeros(1, 4), target, constant, 300)
    torch.testing.assert_close(projection.x, solution, rtol=0.02, atol=0.02)


def test_it_never_ends_farther_than_it_began_and_stays_inside():
    make = linear()
    truth = torch.full((1, 4), 9.0)
    projection = project(make, torch.zeros(1, 4), make(truth), halves, 300, ball)
    assert float(projection.x.norm()) == pytest.approx(math.sqrt(4) + 2)
    begun_there = project(make, truth, make(truth), halves, 5)
    assert begun_there.pixels == (0.0, 0.0)
    assert torch.equal(begun_there.x, truth)


def test_the_ball_leaves_what_is_inside():
    x = torch.tensor([[1.0, 2.0, 2.0, 0.0], [30.0, 0.0, 0.0, 40.0]])
    torch.testing.assert_close(ball(x), torch.tensor([[1.0, 2.0, 2.0, 0.0], [2.4, 0.0, 0.0, 3.2]]))


def test_features_are_the_maps_of_layers_and_gradients_reach_the_image():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 16, 1)
    )
    features = seen_by(network, network)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    maps = features(x)
    assert [tuple(layer.shape) for layer in maps] == [(2, 4, 6, 6), (2, 5, 4, 4)]
    torch.testing.assert_close(maps[0], network[0](x))
    sum(layer.sum() for layer in maps).backward()
    assert float(x.grad.abs().sum()) > 0
    assert not any(layer._forward_hooks for layer in network)


def test_two_scales_tell_brightness():
    dark, bright = torch.full((1, 3, 8, 8), 0.1), torch.full((1, 3, 8, 8), 0.9)
    from safelight.functional.contrast import distance

    assert float(distance(halves(dark), halves(bright))) > 0.1
    assert [layer.shape[-1] for layer in halves(dark)] == [4, 2]
