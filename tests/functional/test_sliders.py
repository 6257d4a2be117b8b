"""Sliders: what words mean, what moves together, and what stays as it is."""

from __future__ import annotations

import pytest
import torch

from safelight.config import UserError
from safelight.functional import sliders
from safelight.types import Condition, DataSpec

FACES = DataSpec((3, 8, 8), {"attributes": Condition("attributes", 3, ("male", "female", "hair"))})
CLASSES = DataSpec((1, 8, 8), {"label": Condition("label", 3, ("cat", "dog", "bird"))})


def test_a_slider_moves_from_end_to_end():
    slider = sliders.read("male=0..1, female=1..0", FACES)
    assert slider.at(0) == {"male": 0.0, "female": 1.0}
    assert slider.at(0.25) == {"male": 0.25, "female": 0.75}
    assert sliders.labels([slider], [slider.at(0.25)], FACES) == ("male 0.25",)


def test_several_sliders_are_combined():
    both = [sliders.read("hair=0..1", FACES), sliders.read("male=0.2..0.4", FACES)]
    values = [(place["hair"], round(place["male"], 6)) for place in sliders.places(both, 3)]
    assert values == [(h, m) for h in (0.0, 0.5, 1.0) for m in (0.2, 0.3, 0.4)]


def test_attributes_that_add_up_to_one_move_together():
    given = {"attributes": torch.tensor([[0.2, 0.8, 0.1], [0.9, 0.1, 0.9], [0.5, 0.5, 0.4]])}
    pair, hair = sliders.each(FACES, given)
    assert pair.at(0.25) == {"male": 0.25, "female": 0.75}
    assert hair.at(1) == {"hair": 1.0}
    given["attributes"][0, 1] = 0.7
    assert len(sliders.each(FACES, given)) == 3


def test_all_else_is_held():
    given = {"attributes": torch.rand(4, 3), "label": torch.arange(4)}
    before = given["attributes"].clone()
    changed = sliders.moved(given, FACES, {"hair": 0.7})
    assert torch.equal(changed["attributes"][:, :2], before[:, :2])
    assert torch.equal(changed["attributes"][:, 2], torch.full((4,), 0.7))
    assert torch.equal(given["attributes"], before)
    assert torch.equal(changed["label"], given["label"])


def test_classes_are_gone_through_one_by_one():
    (slider,) = sliders.each(CLASSES, {})
    columns = sliders.places([slider], slider.steps(7))
    assert sliders.labels([slider], columns, CLASSES) == ("cat", "dog", "bird")
    changed = sliders.moved({"label": torch.zeros(2, dtype=torch.int64)}, CLASSES, columns[2])
    assert changed["label"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiar=0..1", "attribute hiar: the data have no such attribute (did you mean 'hair'?)"),
        ("hair=0", "attribute hair=0: expected a range, such as hair=0..1"),
        ("hair=a..b", "attribute hair=a..b: expected a range, such as hair=0..1"),
        ("hair=0..inf", "attribute hair=0..inf: expected a range, such as hair=0..1"),
        ("label=0..2", "attribute label: the data have no such attribute"),
    ],
)
def test_a_wrong_slider_is_told_in_one_line(text, message):
    with pytest.raises(UserError) as error:
        sliders.read(text, FACES)
    assert str(error.value).startswith(message)
    with pytest.raises(UserError, match=r"classes are numbered 0\.\.2"):
        sliders.read("label=0..3", CLASSES)
