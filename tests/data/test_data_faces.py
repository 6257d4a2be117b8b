"""The drawn faces: what is said of a face is what is seen of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from safelight.config import UserError
from safelight.data import find_source
from safelight.data.config import Data
from safelight.data.synthetic.faces import COUNT, NAMES, draw, face


def test_a_face_is_a_function_of_its_number():
    assert face(3) == face(3)
    assert face(3) != face(4)
    assert np.array_equal(draw(face(3), (48, 48)), draw(face(3), (48, 48)))


def test_attributes_lie_in_the_unit_range_and_male_and_female_add_up():
    values = np.array([face(index).attributes for index in range(400)])
    assert values.min() >= 0
    assert values.max() <= 1
    np.testing.assert_allclose(values[:, 0] + values[:, 1], 1)
    between = np.abs(values[:, 1] - 0.5) < 0.25  # a quarter at the square root's slope, half if it were even
    assert 0.15 < between.mean() < 0.35
    np.testing.assert_allclose(np.corrcoef(values[:, 1:].T), np.eye(4), atol=0.15)


@pytest.mark.parametrize("name", ["female", "hair", "mouth", "eyes"])
def test_every_attribute_shows_in_every_face_and_all_the_way(name):
    """Each of ten places on its scale is a different picture, and further places are further apart."""
    for index in range(5):
        pictures = [draw(replace(face(index), **{name: k / 9}), (64, 64)).astype(float) for k in range(10)]
        steps = [np.abs(a - b).mean() for a, b in pairwise(pictures)]
        assert min(steps) > 0.02
        assert np.abs(pictures[0] - pictures[9]).mean() > 2 * max(steps)


def test_hair_is_as_bright_as_it_is_said_to_be():
    crown = [draw(replace(face(7), hair=k / 9), (64, 64))[6:9, 28:36].mean() for k in range(10)]
    assert (np.diff(crown) > 0).all()


def test_the_source_offers_them_all_with_the_attributes_that_are_asked_for():
    items = find_source(Data(source="faces", size=32, channels=1, attributes=("hair", "male"))).items()
    assert len(items.names) == COUNT
    assert items.reader.read(5).image.shape == (32, 32, 1)
    column = items.columns["attributes"]
    assert column.names == ("hair", "male")
    expected = [face(5).attributes[NAMES.index(name)] for name in column.names]
    np.testing.assert_allclose(column.values[5], expected, rtol=1e-6)
    assert "attributes" not in find_source(Data(source="faces", attributes=())).items().columns


def test_what_faces_do_not_have_is_told():
    with pytest.raises(UserError, match=r"data.attributes: 'hiar' is no attribute of faces \(did you mean"):
        find_source(Data(source="faces", attributes=("hiar",)))
    with pytest.raises(UserError, match=r"data.text: names a column, but faces have nothing but attributes"):
        find_source(Data(source="faces", text="caption"))
