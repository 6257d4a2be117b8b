from __future__ import annotations

import numpy as np
import torch

from safelight.data.space import Space


def test_every_grey_level_comes_back_and_the_ends_are_one() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(2, 16, 8, 1).repeat(1, 1, 1, 3)
    x = Space().from_pixels(pixels)
    assert x.shape == (2, 3, 16, 8)
    assert x.is_contiguous()
    assert x.dtype == torch.float32
    assert x.min() == -1
    assert x.max() == 1
    np.testing.assert_array_equal(Space().to_pixels(x), pixels.numpy())


def test_channels_and_rows_stay_where_they_are() -> None:
    pixels = torch.zeros(1, 4, 5, 3, dtype=torch.uint8)
    pixels[0, 1, 2, 0] = 255
    x = Space().from_pixels(pixels)
    assert x[0, 0, 1, 2] == 1
    assert (x == 1).sum() == 1


def test_what_lies_outside_is_clamped_and_halves_are_rounded() -> None:
    x = torch.tensor([-9.0, 9.0, float("nan"), float("inf"), -float("inf"), 100.4 / 127.5 - 1])
    assert Space().to_pixels(x.reshape(1, 1, 1, 6)).ravel().tolist() == [0, 255, 128, 255, 0, 100]
    assert Space().to_pixels(x.bfloat16().reshape(1, 1, 1, 6)).ravel().tolist()[:2] == [0, 255]
