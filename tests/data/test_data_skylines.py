"""The drawn skylines: pure functions of their number, at any size, the same on every machine."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest

from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.synthetic.canvas import Canvas, Dice
from safelight.data.synthetic.skylines import COUNT, draw


def digest(pixels: np.ndarray) -> str:
    return blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()


def test_the_pack_holds_them_as_they_are_drawn(monkeypatch):
    monkeypatch.setattr("safelight.data.synthetic.skylines.COUNT", 40)
    pack = open_data(Data(source="skylines"))
    assert pack.spec.shape == (3, 64, 64)
    assert (len(pack), pack.conditions) == (40, {})
    for index in (0, 17, 39):
        np.testing.assert_array_equal(pack.images[index], np.asarray(draw(index, 64, 64).finished()))


def test_pixels_are_the_same_on_every_machine():
    drawn = np.stack([np.asarray(draw(index, 64, 64).finished()) for index in range(0, COUNT, 100)])
    assert digest(drawn) == "67a8cab6f7b05ac9"


def test_a_skyline_is_the_same_picture_at_any_size():
    """But for what is below a pixel; a wrong scale or a wrong order of draws would move whole houses."""
    for index in (3, 8, 20):
        large = np.asarray(draw(index, 256, 256).finished()).astype(float)
        small = np.asarray(draw(index, 64, 64).finished()).astype(float)
        halved = large.reshape(16, 16, 16, 16, 3).mean((1, 3))
        assert np.abs(halved - small.reshape(16, 4, 16, 4, 3).mean((1, 3))).mean() < 6


def test_sizes_and_grey_are_obeyed(monkeypatch):
    monkeypatch.setattr("safelight.data.synthetic.skylines.COUNT", 8)
    assert open_data(Data(source="skylines", size=(32, 80))).spec.shape == (3, 32, 80)
    assert open_data(Data(source="skylines", channels=1)).spec.shape == (1, 64, 64)


def test_dice_are_keyed_and_fair():
    first, again, other = (Dice("a", number) for number in (1, 1, 2))
    throws = [first.uniform() for _ in range(1000)]
    assert throws == [again.uniform() for _ in range(1000)]
    assert throws != [other.uniform() for _ in range(1000)]
    assert abs(np.mean(throws) - 0.5) < 0.03
    counts = np.bincount([first.whole(2, 4) for _ in range(3000)], minlength=5)
    assert counts[:2].sum() == 0
    assert counts[2:].sum() == 3000
    assert counts[2:].min() > 900


@pytest.mark.parametrize("size", [(8, 8), (8, 24)])
def test_a_box_covers_its_area(size):
    canvas = Canvas(*size)
    canvas.box(0, 0, canvas.wide / 2, 0.5, (200, 100, 0))
    pixels = np.asarray(canvas.finished())
    height, width = size
    assert (pixels[: height // 2, : width // 2] == (200, 100, 0)).all()
    assert pixels[height // 2 :].max() == pixels[:, width // 2 :].max() == 0
