"""Samples of a run drawn by other processes, batch by batch, equal to those drawn here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.fanout import in_order
from safelight.loading.model import Model
from safelight.loading.prepare import pool_of
from safelight.loading.replay import Replay
from safelight.samplers.generate import CHUNK
from safelight.store.directory import RunDirectory
from safelight.types import Batch

Images = NDArray[np.uint8]  # (b, H, W, C)


@contextmanager
def elsewhere(
    directory: RunDirectory, on: str, step: int, ema_length: float | None, raw: bool,
    how: Mapping[str, Any] | None, seed: int, count: int,
) -> Iterator[Callable[[Iterable[Batch]], Iterator[Images]]]:  # fmt: skip
    """What draws batches in the pool that `on` names, in their order. count: of samples. Raises UserError.

    step, ema_length, raw: the weights, as of `Run`. how: keys of [sample] to change.
    """
    path = directory.path.absolute()
    model = path, step, ema_length, raw, tuple((how or {}).items())
    with pool_of(directory, on, -(-count // CHUNK)) as workers:

        def draw(batches: Iterable[Batch]) -> Iterator[Images]:
            return in_order(workers, _drawn, ((model, seed, _to(batch, "cpu")) for batch in batches))

        yield draw


def _drawn(model: tuple[Any, ...], seed: int, batch: Batch) -> Images:
    opened = _opened(*model)
    return opened.generate_like(_to(batch, opened.device), seed)


@lru_cache(1)
def _opened(path: Path, step: int, ema_length: float | None, raw: bool, how: tuple[Any, ...]) -> Model:
    """A process draws many batches with one model."""
    return Replay(RunDirectory(path)).weighted(step, ema_length, raw).changed(dict(how))


def _to(batch: Batch, device: Any) -> Batch:
    given = {name: value.to(device) for name, value in batch.given.items()}
    return replace(batch, given=given, present=batch.present.to(device))
