"""Walks: closed forms of the circle, and what has no between."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from safelight.explore.path import PathPoint, between, eased, places, slerp
from safelight.explore.specimens import Start
from safelight.randomness import RowDraw
from safelight.types import Condition

A, B = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])


def test_a_quarter_of_a_circle():
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):
        angle = share * math.pi / 2
        expected = torch.tensor([[2 * math.cos(angle), 2 * math.sin(angle), 0.0]])
        torch.testing.assert_close(slerp(A, B, share), expected)


def test_lengths_go_evenly_and_angles_too():
    torch.manual_seed(0)
    a, b = torch.randn(4, 3, 5, 5), 2 * torch.randn(4, 3, 5, 5)
    ways = [slerp(a, b, share) for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    lengths = torch.stack([way.flatten(1).norm(dim=1) for way in ways])
    steps = lengths.diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-3, atol=1e-4)
    cosines = torch.stack([torch.cosine_similarity(before.flatten(1), two.flatten(1))
                           for before, two in pairwise(ways)])  # fmt: skip
    torch.testing.assert_close(cosines, cosines[:1].expand_as(cosines), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ways[0], a)
    torch.testing.assert_close(ways[-1], b)


def test_equal_and_opposite_latents_do_not_divide_by_zero():
    torch.testing.assert_close(slerp(A, A, 0.3), A)
    torch.testing.assert_close(slerp(A, 3 * A, 0.5), 2 * A)
    assert torch.isfinite(slerp(A, -A, 0.5)).all()
    assert torch.isfinite(slerp(torch.zeros(1, 3), A, 0.5)).all()


def test_the_middle_of_independent_normals_is_a_normal():
    """A mean would have variance 1/2: shorter than anything the generator has seen."""
    draw = RowDraw(0, 0, "x", range(2000))
    middle = slerp(draw.normal("a", 32), draw.normal("b", 32), 0.5)
    assert abs(float(middle.std()) - 1) < 0.02


def test_places_are_even_and_meet_every_stop():
    assert places(3, 5) == [
        PathPoint(0, 0.0),
        PathPoint(0, 0.5),
        PathPoint(1, 0.0),
        PathPoint(1, 0.5),
        PathPoint(1, 1.0),
    ]
    along = [place.leg + place.share for place in places(4, 121)]
    assert (along[0], along[40], along[80], along[-1]) == (0, 1, 2, 3)
    for stops, frames in ((1, 5), (3, 1)):
        with pytest.raises(ValueError, match="between"):
            places(stops, frames)
    assert (eased(0), eased(0.5), eased(1)) == pytest.approx((0, 0.5, 1))
    assert eased(0.1) < 0.1


def test_attributes_are_blended_and_classes_are_not():
    kinds = {"label": Condition("label", 5), "hair": Condition("attributes", 1), "text": Condition("text", 3)}

    def start(row: int, label: int, hair: float, text: torch.Tensor) -> Start:
        given = {"label": torch.tensor([label]), "hair": torch.tensor([[hair]]), "text": text}
        draw = RowDraw(0, 0, "specimen", range(row, row + 1))
        return Start(draw.normal("latent", 8), given, torch.ones(1, dtype=torch.bool), draw)

    a, b = start(0, 1, 0.0, A), start(1, 4, 1.0, B)
    quarter = between(a, b, 0.25, kinds)
    assert int(quarter.given["label"]) == 1
    assert int(between(a, b, 0.75, kinds).given["label"]) == 4
    assert float(quarter.given["hair"]) == pytest.approx(0.25)
    torch.testing.assert_close(quarter.given["text"], slerp(A, B, 0.25))
    torch.testing.assert_close(quarter.latent, slerp(a.latent, b.latent, 0.25))
    noise = slerp(a.draw.normal("noise", 6), b.draw.normal("noise", 6), 0.25)
    torch.testing.assert_close(quarter.draw.normal("noise", 6), noise)
    assert torch.equal(quarter.draw.uniform("u", 3), a.draw.uniform("u", 3))
    assert torch.equal(between(a, b, 0.75, kinds).draw.integers("i", 9, 3), b.draw.integers("i", 9, 3))
