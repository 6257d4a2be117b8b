from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from safelight.data.pack import Pack
from safelight.data.packing import open_pack
from safelight.data.source import Item, Items, Source, key
from safelight.types import Condition

MakePack = Callable[..., Pack]


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
        def read(index: int) -> Item:
            label = labels[index] if labels else None
            given = {} if label is None else {"label": np.int64(label)}
            return Item(images[index], given, sides[index] if sides else None)

        conditions = {"label": Condition("label", 4, ("a", "b", "c", "d"))} if labels else {}
        names = [f"{index:04d}" for index in range(len(images))]
        items = Items(images.shape[1:], conditions, names, read)
        contents = key(images.tobytes(), images.shape, labels, sides)
        return open_pack(Source("made", contents, lambda: items), held_out, skip_bad=False)

    return make


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
    """200 different pictures (200, 6, 5, 3)."""
    return np.random.default_rng(0).integers(0, 256, (200, 6, 5, 3), np.uint8)
