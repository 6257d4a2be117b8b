"""A GAN of 24 skylines in a few seconds, for tests of commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

SHRUNK = {
    "network.generator.widths": [8, 8],
    "network.discriminator.widths": [8, 8],
    "train.steps": 4,
    "train.batch_size": 4,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "watch.images": 4,
    "watch.every": 4,
}


def few(patch: pytest.MonkeyPatch) -> None:
    """Few drawn pictures, so that data is there at once."""
    patch.setattr("safelight.data.synthetic.skylines.COUNT", 24)
    patch.setattr("safelight.data.synthetic.faces.COUNT", 24)


@contextmanager
def quiet() -> Iterator[None]:
    """Trainings on few pictures that write no report."""
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
        patch.setattr("safelight.training.start.write_report", lambda directory: directory.path)
        yield


def city(runs: Path, changes: Mapping[str, Any] = MappingProxyType({})) -> None:
    """The run "city" of skylines-small, shrunk."""
    from safelight.engine.distributed import World
    from safelight.recipe import load
    from safelight.training.progress import Show
    from safelight.training.start import begin

    with quiet():
        begin(load("skylines-small", {**SHRUNK, **changes}), runs, "city", World(), Show())
