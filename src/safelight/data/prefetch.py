"""The batch of the next step, made by a thread while this one trains.

On CUDA it is copied on a stream of its own. What is made ahead is a pure function of its step, so nothing
depends on whether it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from safelight.types import Batch

Key = tuple[int, int, int, int]
Made = tuple[list[Batch], torch.cuda.Event | None]


class Parts(Protocol):
    """Where batches come from: a pure function of the step."""

    def parts(self, step: int, accumulate: int, rank: int, world: int) -> list[Batch]: ...


class Prefetched:
    """The batches of a stream, those of one step after the other made ahead. Close it."""

    def __init__(
        self, stream: Parts, device: torch.device, version: Callable[[], object] = lambda: None
    ) -> None:
        """version: of what batches depend on besides their step; one made before it changed is not used."""
        self._stream, self._version, self._device = stream, version, device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(1, "batches")
        self._next: tuple[Key, object, Future[Made]] | None = None

    def parts(self, step: int, accumulate: int, rank: int, world: int) -> list[Batch]:
        """As of the stream."""
        wanted, version, ahead = (step, accumulate, rank, world), self._version(), self._next
        if ahead and ahead[0] == wanted and ahead[1] is version:
            parts, copied = ahead[2].result()
        else:
            parts, copied = self._make(wanted)
        if copied is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_event(copied)
            for tensor in _tensors(parts):
                tensor.record_stream(now)
        later = (step + 1, accumulate, rank, world)
        self._next = later, version, self._thread.submit(self._make, later)
        return parts

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _make(self, wanted: Key) -> Made:
        if self._side is None:
            return self._stream.parts(*wanted), None
        with torch.cuda.stream(self._side):
            parts = self._stream.parts(*wanted)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._side)
        return parts, copied


def _tensors(parts: list[Batch]) -> Iterator[Tensor]:
    for part in parts:
        values = (part.x, part.present, part.features, part.weight, *part.given.values())
        yield from (value for value in values if value is not None)
