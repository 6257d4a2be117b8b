"""The drawn tissue: the same on every machine, and with the shares it is said to have."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.data import find_source
from safelight.data.config import Data
from safelight.data.packing import open_pack
from safelight.data.source import Items, Source
from safelight.data.synthetic.tissue import CLASSES, draw


@pytest.fixture(scope="module")
def sections():
    return [draw(index, 64, 64) for index in range(400)]


def test_classes_have_the_shares_of_the_notes(sections):
    pixels = np.bincount(np.concatenate([mask.ravel() for _, mask in sections]), minlength=5)
    np.testing.assert_allclose(pixels / pixels.sum(), [0.74, 0.04, 0.06, 0.02, 0.14], atol=0.015)


def test_a_section_is_a_function_of_its_number(sections):
    image, mask = draw(7, 64, 64)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(sections[7][0]))
    np.testing.assert_array_equal(mask, sections[7][1])
    assert not np.array_equal(mask, sections[8][1])
    wide, ids = draw(7, 32, 64)
    assert (wide.size, ids.shape) == ((64, 32), (32, 64))


def test_a_colour_tells_the_class_whatever_the_stain(sections):
    """Mean colours of classes lie apart: a generator can obey, and a judge can see whether it did."""
    images = np.stack([np.asarray(image) for image, _ in sections]).astype(float)
    masks = np.stack([mask for _, mask in sections])
    means = np.stack([images[masks == number].mean(0) for number in range(5)])
    apart = np.linalg.norm(means[:, None] - means[None], axis=-1) + 1e9 * np.eye(5)
    assert apart.min() > 30


def test_it_packs_with_masks_and_names(monkeypatch):
    source = find_source(Data(source="tissue", size=16))
    items = source.items()
    few = Items(items.names[:20], items.shape, items.reader, masks=type(items.masks)(
        items.masks.present[:20], items.masks.classes, items.masks.names))  # fmt: skip
    pack = open_pack(Source("few", "few tissue", lambda: few), 0.1, skip_bad=False)
    assert pack.conditions["mask"].names == CLASSES
    assert pack.given["mask"].shape == (20, 16, 16)
    assert not find_source(Data(source="tissue", mask="none")).items().masks
