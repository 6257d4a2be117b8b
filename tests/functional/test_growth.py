"""Growth of tensors: maps by hand, and networks that do the same afterwards."""

from __future__ import annotations

import pytest
import torch

from safelight.functional.growth import Axis, axis_map, grown, matched, recoloured, widened


@pytest.mark.parametrize(("target", "source"), [(6, 3), (7, 3), (3, 3)])
def test_what_enters_from_copies_adds_up_to_what_entered(target, source):
    """W' P x = W x for the map P of outputs, so that a layer sees what it saw."""
    weight, x = torch.randn(5, source, dtype=torch.float64), torch.randn(source, dtype=torch.float64)
    entering = weight @ widened(target, source, "in").T
    torch.testing.assert_close(entering @ (widened(target, source, "out") @ x), weight @ x)


def test_copies_do_not_enter_in_equal_parts():
    shares = widened(8, 4, "in").sum(1)
    assert (shares[0::2] - shares[1::2]).abs().min() > 0.05


def test_a_pixel_shuffle_keeps_its_blocks():
    matrix = axis_map(Axis("out", block=4), 16, 8, (1, 1), None)
    assert matrix is not None
    assert matrix.argmax(1).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]


def test_grey_weights_see_a_grey_picture_in_colour_as_before():
    weight, grey = torch.randn(4, 1, dtype=torch.float64), torch.randn(1, dtype=torch.float64)
    colour = weight @ recoloured(3, 1, "in").T
    torch.testing.assert_close(colour @ grey.expand(3), weight @ grey)
    assert torch.equal(recoloured(1, 3, "out") @ recoloured(3, 1, "out"), torch.eye(1, dtype=torch.float64))
    assert recoloured(4, 1, "out").flatten().tolist() == [1, 1, 1, 0]
    assert torch.equal(recoloured(4, 3, "in"), torch.eye(4, 3, dtype=torch.float64))


def test_classes_find_their_names_and_new_ones_stay_fresh():
    fresh, source = torch.full((3, 2), 9.0), torch.tensor([[1.0, 1], [2, 2]])
    values = matched(("dog", "cat", "bird"), ("cat", "dog"))
    matrix = axis_map(Axis("row", per_value=1), 3, 2, (1, 1), values)
    assert matrix is not None
    assert grown(fresh, source, {0: matrix}, {0: True}).tolist() == [[2, 2], [1, 1], [9, 9]]


def test_nothing_goes_into_a_narrower_network():
    assert axis_map(Axis("out"), 4, 8, (1, 1), None) is None
