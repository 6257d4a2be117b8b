from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from safelight.data import columns as condition
from safelight.data.pack import Pack
from safelight.data.packing import open_pack
from safelight.data.source import HELD_OUT, TRAIN, UNDECIDED, Items, Pixels, Source, key

MakePack = Callable[..., Pack]


class Memory:
    """Reads images (N, H, W, C) from an array."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images

    def read(self, index: int) -> Pixels:
        return Pixels(self.images[index])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make_pack() -> MakePack:
    """A pack of images (N, H, W, C) in memory, with labels below 4 and official sides if they are given."""

    def make(
        images: NDArray[np.uint8],
        labels: Sequence[int | None] | None = None,
        sides: Sequence[bool | None] | None = None,
        held_out: float = 0.1,
    ) -> Pack:
        columns = {}
        if labels:
            classes = np.array([-1 if label is None else label for label in labels])
            columns["label"] = condition.label(classes, ("a", "b", "c", "d"))
        official = None
        if sides:
            words = {True: HELD_OUT, False: TRAIN, None: UNDECIDED}
            official = np.array([words[side] for side in sides], np.int8)
        names = [f"{index:04d}" for index in range(len(images))]
        items = Items(names, images.shape[1:], Memory(images), columns, official=official)
        contents = key(images.tobytes(), images.shape, labels, sides)
        return open_pack(Source("made", contents, lambda: items), held_out, skip_bad=False)

    return make


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
    """200 different pictures (200, 6, 5, 3)."""
    return np.random.default_rng(0).integers(0, 256, (200, 6, 5, 3), np.uint8)
