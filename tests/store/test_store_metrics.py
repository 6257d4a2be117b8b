"""Metrics merge over sessions as a simple model says, survive torn lines, and keep every float."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.config import UserError
from safelight.store import metrics
from safelight.store.metrics import MetricsRow, MetricsWriter, last_row, read


def row(step: int, value: float = 0.5, **extra: float) -> MetricsRow:
    return MetricsRow(
        step, {"mse": value}, 2 * value, {"unet": 1e-4}, 8 * (step + 1), 0.25, f"{step:016x}", extra
    )


def write_session(run: Path, session: int, start: int, rows: list[MetricsRow]) -> Path:
    with MetricsWriter(run, session, start) as writer:
        writer.append(rows)
    return run / f"metrics-{session:04d}.jsonl"


def test_columns_hold_what_was_written(tmp_path: Path) -> None:
    first = MetricsRow(
        0, {"mse": 0.1, "kl": 3.0}, 1.5, {"unet": 1e-4}, 8, 0.25, "00ff", {"grad_norm/unet": 7.0}
    )
    second = MetricsRow(1, {"mse": 0.2}, 2.5, {"unet": 2e-4}, 16, 0.5, "0100")
    write_session(tmp_path, 1, 0, [first, second])
    columns = read(tmp_path)
    assert set(columns) == {
        "step", "images", "seconds", "total", "fingerprint", "raw/mse", "raw/kl", "lr/unet", "grad_norm/unet",
    }  # fmt: skip
    assert columns["step"].dtype == np.int64
    assert columns["images"].tolist() == [8, 16]
    assert columns["raw/mse"].tolist() == [0.1, 0.2]
    assert columns["lr/unet"].tolist() == [1e-4, 2e-4]
    assert columns["fingerprint"].tolist() == ["00ff", "0100"]
    assert columns["raw/kl"][0] == 3.0
    assert math.isnan(columns["raw/kl"][1])  # a phase that did not run at this step
    assert list(read(tmp_path, ["total", "step"])) == ["total", "step"]
    assert last_row(tmp_path) == second


def test_a_run_without_metrics_has_empty_columns(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    assert read(tmp_path, ["step", "total"])["total"].shape == (0,)
    assert last_row(tmp_path) is None
    MetricsWriter(tmp_path, 1, 0).close()
    assert read(tmp_path) == {}
    assert last_row(tmp_path) is None


@given(st.lists(st.floats(width=64), min_size=1, max_size=5))
def test_every_float_survives_in_strict_json(values: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_session(Path(folder), 1, 0, [row(step, value) for step, value in enumerate(values)])
        for text in path.read_text().splitlines():
            json.loads(text, parse_constant=pytest.fail)  # called for NaN and Infinity, which are not JSON
        np.testing.assert_array_equal(read(Path(folder), ["raw/mse"])["raw/mse"], np.array(values))
        last = last_row(Path(folder))
        assert last is not None
        np.testing.assert_equal(last.components["mse"], values[-1])


# A session: how far before the end of the run it starts, how many rows it writes, whether its end is torn.
histories = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6), st.booleans()), max_size=12)


@settings(max_examples=60)
@given(histories)
def test_a_history_of_sessions_equals_the_model(history: list[tuple[int, int, bool]]) -> None:
    model: dict[int, MetricsRow] = {}
    reached = furthest = 0
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for session, (back, length, torn) in enumerate(history, start=1):
            start = max(reached - back, 0)
            rows = [row(step, session + step / 100) for step in range(start, start + length)]
            path = write_session(run, session, start, rows)
            model = {step: kept for step, kept in model.items() if step < start}
            if torn and rows:
                path.write_bytes(path.read_bytes()[:-9])
                rows.pop()
            model |= {written_row.step: written_row for written_row in rows}
            reached = start + len(rows)
            furthest = max(furthest, reached if rows else 0)
        columns = read(run, ["step", "raw/mse"])
        assert columns["step"].tolist() == sorted(model)
        assert columns["raw/mse"].tolist() == [model[step].components["mse"] for step in sorted(model)]
        assert last_row(run) == (model[max(model)] if model else None)
        assert metrics.reached(run) == furthest


def test_a_later_session_supersedes_rows_it_has_not_reached_yet(tmp_path: Path) -> None:
    write_session(tmp_path, 1, 0, [row(step) for step in range(100)])
    write_session(tmp_path, 2, 90, [])
    assert read(tmp_path, ["step"])["step"].tolist() == list(range(90))
    assert last_row(tmp_path) == row(89)


def test_sessions_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    for session in range(1, 12):
        write_session(tmp_path, session, session, [row(session, session)])
    (tmp_path / "metrics-0002.jsonl").rename(tmp_path / "metrics-2.jsonl")
    assert read(tmp_path, ["raw/mse"])["raw/mse"].tolist() == list(range(1, 12))


def test_a_reader_sees_whole_rows_at_any_moment_of_the_writing(tmp_path: Path) -> None:
    rows = [row(step, step) for step in range(3)]
    path = write_session(tmp_path, 1, 0, rows)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        seen = read(tmp_path, ["raw/mse"])["raw/mse"].tolist()
        assert seen == [0.0, 1.0, 2.0][: len(seen)]
        assert len(seen) >= max(whole[:length].count(b"\n") - 1, 0)
        assert last_row(tmp_path) == (rows[len(seen) - 1] if seen else None)


def test_a_damaged_first_line_is_made_up_for_by_the_first_row(tmp_path: Path) -> None:
    write_session(tmp_path, 1, 0, [row(step, 1) for step in range(10)])
    path = write_session(tmp_path, 2, 5, [row(step, 2) for step in range(5, 7)])
    path.write_bytes(b"?" + path.read_bytes())
    assert read(tmp_path, ["raw/mse"])["raw/mse"].tolist() == [1.0] * 5 + [2.0] * 2
    write_session(tmp_path, 3, 6, [])
    assert last_row(tmp_path) == row(5, 2)


def test_no_flipped_bit_stops_a_reader(tmp_path: Path) -> None:
    path = write_session(tmp_path, 1, 0, [row(0, math.nan), row(1, -math.inf), row(2)])
    whole = path.read_bytes()
    for position in range(len(whole)):
        for mask in (0x01, 0x04, 0x20, 0x80):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
            assert len(read(tmp_path, ["step", "total", "raw/mse"])["total"]) >= 1
            last_row(tmp_path)


def test_sync_makes_rows_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    with MetricsWriter(tmp_path, 1, 0) as writer:
        path = tmp_path / "metrics-0001.jsonl"
        monkeypatch.setattr(metrics.os, "fsync", lambda descriptor: synced.append(path.read_bytes()))
        writer.append([row(0)])
        assert synced == []  # not at every row
        writer.sync()
    assert synced == [path.read_bytes()]


def test_last_row_reads_only_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_session(tmp_path, 1, 0, [row(step) for step in range(2000)])
    content = path.read_bytes()
    path.write_bytes(b"\xff" * (len(content) - 20_000) + content[-20_000:])  # the rest would not parse
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("reads the whole file"))
    assert last_row(tmp_path) == row(1999)


def test_steps_must_increase_from_the_start(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, 1, 5) as writer:
        with pytest.raises(ValueError, match="step 4 come after those of step 4"):
            writer.append([row(4)])
        writer.append([row(5), row(7)])
        with pytest.raises(ValueError, match="step 7 come after"):
            writer.append([row(8), row(7)])
        writer.append([row(8)])
    assert read(tmp_path, ["step"])["step"].tolist() == [5, 7, 8]


@pytest.mark.parametrize("name", ["step", "fingerprint", "start", "raw/mse", "lr/x"])
def test_further_scalars_cannot_take_a_name_with_a_meaning(tmp_path: Path, name: str) -> None:
    with MetricsWriter(tmp_path, 1, 0) as writer, pytest.raises(ValueError, match="meaning of their own"):
        writer.append([dataclasses.replace(row(0), extra={name: 1.0})])


def test_a_session_s_metrics_are_never_overwritten(tmp_path: Path) -> None:
    write_session(tmp_path, 1, 0, [row(0)])
    with pytest.raises(UserError, match=r"metrics-0001\.jsonl: exists"):
        MetricsWriter(tmp_path, 1, 0)
    assert last_row(tmp_path) == row(0)


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [10]

    def full_after_ten_bytes(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: room.pop()])

    with MetricsWriter(tmp_path, 1, 0) as writer:
        writer.append([row(0)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full_after_ten_bytes)
            with pytest.raises(UserError, match="the disk is full"):
                writer.append([row(1), row(2)])
        writer.append([row(1)])
        writer.sync()
    assert read(tmp_path, ["step"])["step"].tolist() == [0, 1]
