"""Image files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.pack import Pack


def save(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    """Write an image, by default of a colour of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.full((8, 8, 3), [sum(map(ord, path.name)) % 256, len(str(path)) % 256, 40], np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def opened(path: Path, **keys: object) -> Pack:
    """The data at a path."""
    return open_data(Data.model_validate({"path": str(path), **keys}))


def unlike(number: int) -> NDArray[np.uint8]:
    """Noise of that number, which no other number has."""
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
