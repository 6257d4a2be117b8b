"""Drawn scenes: what is said of them is true, and what is held out is never trained on."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.synthetic.shapes import COLOURS, COUNT, OBJECTS, SHAPES, Scene, draw, outside, read, scene
from safelight.language import open_encoder, words


def test_every_caption_says_the_scene_and_nothing_else():
    for index in range(200):
        drawn = scene(index)
        assert {read(caption) for caption in drawn.captions} == {drawn}
        assert drawn.first != drawn.second
    assert read("a green train is coming down the tracks") is None
    assert read("A Red circle to the right of the blue square") == Scene(
        ("blue", "square"), "left of", ("red", "circle")
    )


def test_pixels_are_those_of_the_scene():
    """The middle of each half is of its object's colour, whatever the scene leaves open."""
    drawn = Scene(("red", "circle"), "left of", ("blue", "square"))
    for index in range(50):
        image = draw(drawn, index, 64).astype(int)
        dark = image.min(axis=2) < 150
        for half, colour in ((slice(0, 32), "red"), (slice(32, 64), "blue")):
            ink = image[:, half][dark[:, half]]
            assert abs(np.median(ink, axis=0) - COLOURS[colour]).max() <= 10
        assert np.array_equal(draw(drawn, index, 64), image)


def test_shapes_are_of_one_area_and_told_apart():
    y, x = np.mgrid[-100:101, -100:101] + 0.0
    areas = {shape: (outside(shape, x, y, 50) < 0).sum() for shape in SHAPES}
    assert max(areas.values()) < 1.05 * min(areas.values())
    assert len({(outside(shape, x, y, 50) < 0).tobytes() for shape in SHAPES}) == len(SHAPES)


def test_held_out_pairs_are_never_trained_on_and_every_object_is(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path))
    scenes = [scene(index) for index in range(COUNT)]
    seen = {frozenset((drawn.first, drawn.second)) for drawn in scenes if drawn.seen}
    unseen = {frozenset((drawn.first, drawn.second)) for drawn in scenes if not drawn.seen}
    assert not seen & unseen
    assert len(seen | unseen) == len(OBJECTS) * (len(OBJECTS) - 1) // 2
    assert set().union(*seen) == set(OBJECTS)
    assert 0.08 < len(unseen) / len(seen | unseen) < 0.2


def test_the_pack_has_captions_and_their_features(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr("safelight.data.synthetic.shapes.COUNT", 60)
    pack = open_data(Data(source="shapes", text_encoder="words"))
    assert pack.images.shape == (60, 32, 32, 3)
    assert [read(pack.texts[item][0]).seen for item in pack.train] == [True] * len(pack.train)
    assert len(pack.train) + len(pack.held_out) == 60
    item = int(pack.train[5])
    rows = pack.given["text"][pack.first[item] : pack.first[item + 1]]
    np.testing.assert_array_equal(rows, words.encode(pack.texts[item]))
    assert pack.present.all()
    with pytest.raises(UserError, match=r"data\.text_encoder: digits has no captions"):
        open_data(Data(source="digits", text_encoder="words"))


def test_words_are_like_as_the_runs_they_share():
    texts = ["a red circle left of a blue square", "Red circle left of blue square!", "a green triangle"]
    near, other, far = words.encode(texts)
    np.testing.assert_array_equal(near, other)
    assert abs(float(near @ far)) < 0.25
    swapped = words.encode(["a blue circle left of a red square"])[0]
    assert float(near @ swapped) < 0.75
    assert np.linalg.norm(near) == pytest.approx(1, abs=1e-5)
    assert not words.encode([""]).any()
    assert words.runs("the red circle") == ["red", "circle", "red circle"]
    assert open_encoder("words").size == words.SIZE
