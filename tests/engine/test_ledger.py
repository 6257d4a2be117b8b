"""Step records become rows of metrics: complete, in order, raw and weighted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from safelight.engine import ledger
from safelight.engine.ledger import Ledger
from safelight.engine.loop import StepRecord
from safelight.engine.plan import Rate


def record(step: int, fingerprint: int = 7, **components: float) -> StepRecord:
    scalars = {name: torch.tensor(value) for name, value in components.items()}
    return StepRecord(
        step=step,
        scalars={"grad_norm/net": torch.tensor(step + 0.5, dtype=torch.bfloat16), **scalars},
        weights={"mse": 2.0, "kl": 0.5, "lazy": 10.0},
        rates={"net": Rate(0.01 * step, (0.9, 0.99))},
        fingerprint=torch.tensor(fingerprint),
        seconds=0.25 * step,
    )


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    stub = SimpleNamespace(now=0.0)
    stub.monotonic = lambda: stub.now
    monkeypatch.setattr(ledger, "time", stub)
    return stub


def test_a_row_holds_raw_components_and_their_weighted_total(clock):
    rows: list = []
    written = Ledger(rows.extend, batch_size=8)
    written.add(record(3, fingerprint=-2, mse=0.125, kl=4.0))
    written.flush()
    (row,) = rows
    assert row.components == {"mse": 0.125, "kl": 4.0}  # raw; the lazy one did not run
    assert row.total == 2.0 * 0.125 + 0.5 * 4.0
    assert row.extra == {"grad_norm/net": 3.5, "beta1/net": 0.9, "beta2/net": 0.99}
    assert (row.step, row.images, row.seconds) == (3, 32, 0.75)
    assert row.lr == {"net": 0.03}
    assert row.fingerprint == "fffffffffffffffe"


def test_records_of_different_components_keep_apart(clock):
    rows: list = []
    written = Ledger(rows.extend, batch_size=1)
    written.add(record(0, mse=1.0, lazy=3.0))
    written.add(record(1, fingerprint=8, mse=2.0))
    written.add(record(2, fingerprint=9, kl=5.0, mse=4.0))
    written.flush()
    assert [row.components for row in rows] == [{"mse": 1, "lazy": 3}, {"mse": 2}, {"kl": 5, "mse": 4}]
    assert [row.fingerprint[-1] for row in rows] == ["7", "8", "9"]


def test_rows_are_written_when_the_interval_has_passed_and_never_twice(clock):
    flushes: list[list[int]] = []
    written = Ledger(lambda rows: flushes.append([row.step for row in rows]), batch_size=1, interval=1.0)
    for step in range(5):
        clock.now = 0.4 * step
        written.add(record(step, mse=1.0))
    assert flushes == [[0, 1, 2]]  # at 1.2 s, before step 3 is added
    written.flush()
    written.flush()
    assert flushes == [[0, 1, 2], [3, 4]]


def test_a_note_is_of_the_newest_record(clock):
    rows: list = []
    written = Ledger(rows.extend, batch_size=1)
    written.add(record(0, mse=1.0))
    written.add(record(1, mse=1.0))
    written.note({"held_out/t": 0.5})
    written.add(record(2, mse=1.0))
    written.flush()
    assert ["held_out/t" in row.extra for row in rows] == [False, True, False]
    assert rows[1].extra == {"grad_norm/net": 1.5, "beta1/net": 0.9, "beta2/net": 0.99, "held_out/t": 0.5}
    written.add(record(3, mse=1.0))
    written.flush()
    assert "held_out/t" not in rows[3].extra


def test_what_is_not_finite_is_recorded_as_it_is(clock):
    rows: list = []
    written = Ledger(rows.extend, batch_size=1)
    written.add(record(0, mse=float("inf")))
    written.flush()
    assert rows[0].total == float("inf")


def test_on_a_device_that_copies_meanwhile_rows_are_written_a_flush_later(clock, monkeypatch):
    monkeypatch.setattr(ledger, "ASYNCHRONOUS", {"cpu"})
    flushes: list[list[int]] = []
    written = Ledger(lambda rows: flushes.append([row.step for row in rows]), batch_size=1, interval=1.0)
    for step in range(7):
        clock.now = 0.4 * step
        written.add(record(step, mse=1.0))
    assert flushes == [[0, 1, 2]]  # they were sent before step 3, and came before step 6
    written.flush()
    assert flushes == [[0, 1, 2], [3, 4, 5], [6]]
