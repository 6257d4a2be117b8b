"""Pictures with alpha as a fourth channel."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.data.fitting import Fitting
from safelight.data.images import decode, open_image, straight
from safelight.functional.augment import adaptive, differentiable
from safelight.randomness import RowDraw


def _file(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return io.BytesIO(file.getvalue())


def _decoded(pixels: np.ndarray, background: str) -> np.ndarray:
    with open_image(_file(pixels)) as image:
        return decode(image, 1, pixels.shape[:2], 4, Fitting(background=background))


EVERY = np.stack(np.broadcast_arrays(np.arange(256)[:, None], 7, 200, np.arange(256)), -1).astype(np.uint8)


@pytest.mark.parametrize(("background", "under"), [("#ffffff", 255), ("#000000", 0), ("#808080", 128)])
def test_the_colours_are_those_over_the_background_and_come_back_exactly(background: str, under: int) -> None:
    packed = _decoded(EVERY, background)
    a = EVERY[..., 3:].astype(int)
    formula = (2 * (a * EVERY[..., :3] + (255 - a) * under) + 255) // 510
    assert (packed[..., :3] == formula).all()
    assert (packed[..., 3] == EVERY[..., 3]).all()
    saved = straight(packed, background)
    assert (_decoded(saved, background) == packed).all()
    whole = EVERY[..., 3] == 255
    assert (saved[whole] == EVERY[whole]).all()


def test_colours_under_alpha_0_teach_nothing() -> None:
    a, b = np.zeros((2, 8, 8, 4), np.uint8)
    a[..., 0], b[..., 1] = 255, 90
    assert (_decoded(a, "#102030") == _decoded(b, "#102030")).all()
    assert (_decoded(a, "#102030") == (16, 32, 48, 0)).all()


def test_a_picture_without_alpha_is_opaque() -> None:
    assert (_decoded(EVERY[..., :3], "#ffffff")[..., 3] == 255).all()


@pytest.mark.parametrize("augment", ["differentiable", "adaptive"])
def test_colour_augmentation_leaves_alpha(augment: str) -> None:
    x = torch.rand(6, 3, 8, 8) * 2 - 1
    draw = RowDraw(0, 0, "train", range(6))

    def run(y: torch.Tensor) -> torch.Tensor:
        if augment == "adaptive":
            return adaptive(y, draw, "a", torch.ones(()), y.shape[1] == 4)
        return differentiable(y, draw, "a", y.shape[1] == 4)

    four, three = run(torch.cat([x, x[:, :1]], 1)), run(x)
    assert torch.equal(four[:, :3], three)
    assert (four[:, 3].abs() <= 1.5).all()
