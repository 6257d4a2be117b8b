"""Shared by all tests: one cache a session, so that the digits are packed once; runs in a temporary place."""

from __future__ import annotations

import pytest

# A model that trains in a second: the recipe digits-class, shrunk.
TINY = {
    "train.steps": 30,
    "train.batch_size": 12,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "train.ema": 0.9,
    "train.ema_lengths": [0.1],
    "network.width": 4,
    "watch.every": 20,
    "watch.epochs": [],
    "watch.images": 10,
    "watch.held_out": 16,
    "checkpoint.every": 10,
    "sample.steps": 4,
}


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("SAFELIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.delenv("SAFELIGHT_RUNS", raising=False)


@pytest.fixture
def tiny() -> dict[str, object]:
    """Changes that shrink the recipe digits-class."""
    return dict(TINY)


@pytest.fixture
def tiny_words() -> list[str]:
    """The same as key=value words of the command line."""
    return [f"{name}={str(value).replace(chr(39), chr(34))}" for name, value in TINY.items()]
