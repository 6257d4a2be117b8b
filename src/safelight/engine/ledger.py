"""Step records kept on the device until flushed: one transfer for many steps, no wait inside a step.

On CUDA the transfer of a flush goes on while steps do, and its rows are written at the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import torch

from safelight.engine.fingerprint import as_hex
from safelight.engine.loop import StepRecord
from safelight.engine.readback import read_later
from safelight.randomness import ASYNCHRONOUS
from safelight.store.metrics import MetricsRow


class Ledger:
    """Collects step records and hands them on as rows of metrics.

    write: called with the rows of each flush, oldest first.
    """

    def __init__(
        self, write: Callable[[list[MetricsRow]], None], batch_size: int, interval: float = 0.5
    ) -> None:
        self._write = write
        self._batch_size = batch_size
        self._interval = interval  # seconds between flushes
        self._pending: list[StepRecord] = []
        self._extra: dict[int, Mapping[str, float]] = {}
        self._flushed = time.monotonic()
        self._arriving: Callable[[], list[MetricsRow]] = list

    def add(self, record: StepRecord) -> None:
        """Keep a record, and flush those before it when the interval has passed."""
        if time.monotonic() - self._flushed > self._interval:
            self._send()
        self._pending.append(record)

    def note(self, extra: Mapping[str, float]) -> None:
        """Add values to the newest record, by column name."""
        step = self._pending[-1].step
        self._extra[step] = {**self._extra.get(step, {}), **extra}

    def flush(self) -> None:
        """Move all records off the device and write them."""
        self._send()
        self._receive()

    def _send(self) -> None:
        """Begin to move all records off the device."""
        self._receive()
        records, self._pending = self._pending, []
        extra, self._extra = self._extra, {}
        self._flushed = time.monotonic()
        if not records:
            return
        scalars = read_later(
            torch.stack([value.float() for record in records for value in record.scalars.values()])
        )
        fingerprints = read_later(torch.stack([record.fingerprint for record in records]))

        def rows() -> list[MetricsRow]:
            values = iter(scalars())
            return [
                self._row(record, as_hex(fingerprint), values, extra.get(record.step, {}))
                for record, fingerprint in zip(records, fingerprints(), strict=True)
            ]

        self._arriving = rows
        if records[0].fingerprint.device.type not in ASYNCHRONOUS:
            self._receive()

    def _receive(self) -> None:
        """Write the records that are on their way."""
        arriving, self._arriving = self._arriving, list
        if rows := arriving():
            self._write(rows)

    def _row(
        self, record: StepRecord, fingerprint: str, values: Iterator[float], extra: Mapping[str, float]
    ) -> MetricsRow:
        scalars = {name: next(values) for name in record.scalars}
        components = {name: value for name, value in scalars.items() if name in record.weights}
        norms = {name: value for name, value in scalars.items() if name not in record.weights}
        betas = {f"beta{number}/{network}": beta for network, rate in record.rates.items()
                 for number, beta in enumerate(rate.betas, 1)}  # fmt: skip
        return MetricsRow(
            step=record.step,
            components=components,
            total=sum(record.weights[name] * value for name, value in components.items()),
            lr={network: rate.lr for network, rate in record.rates.items()},
            images=(record.step + 1) * self._batch_size,
            seconds=record.seconds,
            fingerprint=fingerprint,
            extra={**norms, **betas, **extra},
        )
