"""Masks as pictures: a colour for each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLOURS = (
    "#e8d9cf", "#3d2b56", "#d9a441", "#b23a1e", "#7d4f8c",
    "#3f7a74", "#7d8a4a", "#3d5a80", "#d9772f", "#a7bfc9",
)  # fmt: skip
NOWHERE = "#241f1c"  # a pixel of no class


def coloured(ids: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """Class numbers (..., H, W) as (..., H, W, 3); after ten classes the colours come again, darker."""
    table = np.zeros((256, 3), np.uint8)
    table[:] = _rgb(NOWHERE)
    for number in range(min(classes, 255)):
        table[number] = _rgb(COLOURS[number % len(COLOURS)]) * 0.7 ** (number // len(COLOURS))
    return table[ids]


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.float64)
