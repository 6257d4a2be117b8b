"""Step records kept on the device until flushed: one transfer for many steps, no wait inside a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from safelight.engine.fingerprint import as_hex
from safelight.engine.loop import StepRecord

Row = dict[str, Any]


class Ledger:
    """Collects step records and hands them on as plain rows.

    write: called with the rows of each flush, oldest first.
    """

    def __init__(self, write: Callable[[list[Row]], None], batch_size: int, interval: float = 0.5) -> None:
        self._write = write
        self._batch_size = batch_size
        self._interval = interval  # seconds between flushes
        self._pending: list[StepRecord] = []
        self._flushed = time.monotonic()

    def add(self, record: StepRecord) -> None:
        """Keep a record; flush when the interval has passed."""
        self._pending.append(record)
        if time.monotonic() - self._flushed > self._interval:
            self.flush()

    def flush(self) -> None:
        """Move all pending records off the device and write them."""
        records, self._pending = self._pending, []
        self._flushed = time.monotonic()
        if not records:
            return
        scalars = [value.float() for record in records for value in record.scalars.values()]
        values = iter(torch.stack(scalars).tolist())
        fingerprints = torch.stack([record.fingerprint for record in records]).tolist()
        self._write([self._row(*each, values) for each in zip(records, fingerprints, strict=True)])

    def _row(self, record: StepRecord, fingerprint: int, values: Iterator[float]) -> Row:
        scalars = {name: next(values) for name in record.scalars}
        components = {name: value for name, value in scalars.items() if "/" not in name}
        return {
            "step": record.step,
            "components": components,
            "total": sum(record.weights[name] * value for name, value in components.items()),
            "lr": dict(record.lr),
            "images": (record.step + 1) * self._batch_size,
            "seconds": record.seconds,
            "weights": as_hex(fingerprint),
            "scalars": {name: value for name, value in scalars.items() if "/" in name},
        }
